//! What the short commands print. A reader that went away is no error, and a disk that is full is one; neither is a panic.

use std::io::{ErrorKind, Write};

use crate::failure::Failure;

/// Whether anybody reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As far as is known.
    Reads,
    /// The pipe was closed.
    Gone,
}

/// Prints a text for people and a line end to standard output.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    print_on(harmless(&text.to_string())).map(|_| ())
}

/// The same for what goes on for as long as somebody reads it.
pub(crate) fn print_on(text: impl std::fmt::Display) -> Result<Reader, Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(anyhow::Error::new(error).context("failed to write to standard output").into()),
    }
}

/// The same beside whatever else this process waits for, such as an order to end: a reader may stop reading for as long as it likes.
pub(crate) async fn print_beside(text: String) -> Result<Reader, Failure> {
    tokio::task::spawn_blocking(move || print_on(text)).await.map_err(anyhow::Error::from)?
}

/// What a replica has said may stand in it: nothing of that may steer the terminal, or turn its lines around.
pub(crate) fn harmless(text: &str) -> String {
    let steers = |letter: char| {
        (letter.is_control() && letter != '\n' && letter != '\t')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if steers(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Prints JSON for machines.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print_on(serde_json::to_string(value).map_err(anyhow::Error::from)?).map(|_| ())
}

/// Tells why a command failed, unless that is its answer already. Where nobody can be told, the exit code says it.
pub(crate) fn complain(failure: &Failure) {
    if !matches!(failure, Failure::NotPassed) {
        note(failure);
    }
}

/// Tells people something that is no part of the answer.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}").is_err();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_says_steers_no_terminal() {
        let text = "a\u{1b}]0;b\u{7}\r\u{202e}c\td\né\u{9b}31m";
        assert_eq!(
            harmless(text),
            r"a\u{1b}]0;b\u{7}\u{d}\u{202e}c\td\né\u{9b}31m".replace(r"\t", "\t").replace(r"\n", "\n")
        );
    }
}
