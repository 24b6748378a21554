//! What the short commands print. A reader that went away is no error, and a disk that is full is one; neither is a panic.

use std::io::{ErrorKind, Write};

use crate::failure::Failure;

/// Prints a text and a line end to standard output.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("failed to write to standard output").into())
        }
        Ok(()) | Err(_) => Ok(()),
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
