//! The `serviceos` binary: command line, wiring, signals and exit codes. What the parts do is in their crates.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod failure;
mod hold;
mod known_authority;
mod launcher_process;
mod left_process;
mod output;
mod replaced_file;
mod signals;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_descriptors();
    refuse_huge_pages();
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code()
        }
    }
}

/// What whoever has started this process left open is for nobody whom this one starts: replicas outlive it, and would hold a lock or a
/// socket as long. Before there is another thread. Sockets that are handed over are taken by their numbers all the same.
fn keep_descriptors() {
    close_fds::set_fds_cloexec(FIRST_BEHIND_STANDARD_ERROR, &[]);
}

const FIRST_BEHIND_STANDARD_ERROR: i32 = 3;

/// Huge pages cost twice the memory, the kernel clears 2 MiB at once while requests wait, and no benchmark gains. Where the
/// kernel gives them unasked, it can only be told for the whole process; the replicas inherit that. A kernel that cannot be
/// told has none, or gives none (prctl(2), `PR_SET_THP_DISABLE`).
fn refuse_huge_pages() {
    let _cannot_be_told = rustix::thread::disable_transparent_huge_pages(true);
}
