//! The `serviceos` binary: command line, wiring, signals and exit codes. What the parts do is in their crates.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod failure;
mod output;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code()
        }
    }
}
