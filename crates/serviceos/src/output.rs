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

/// Prints a text and a line end to standard output.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    print_on(text).map(|_| ())
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

/// Prints JSON for machines.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(serde_json::to_string(value).map_err(anyhow::Error::from)?)
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
