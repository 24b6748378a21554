//! Why a program cannot be measured, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::program::EnvironmentError;

/// Why a program cannot be measured.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// There is no program.
    #[error("the command is empty: write the program first, then its arguments")]
    Empty,
    /// The environment cannot be given to a program.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The program would start nowhere.
    #[error("the working directory {} cannot be used: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// There is no such executable.
    #[error("{program:?} was not found ({searched}): build or install it, or correct its path")]
    NotFound {
        /// The program as it is written.
        program: String,
        /// Where it was looked for.
        searched: String,
    },
    /// It is not marked as executable.
    #[error(
        "{} is not executable: set its executable bit (chmod +x), and see that its file system is not mounted noexec",
        path.display()
    )]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// It is no regular file.
    #[error("{} is {what}, and only a regular file can be run: name a file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// What cannot be read cannot be measured.
    #[error(
        "{} cannot be read, and only what can be read can be measured: {source}; give this user the right to read it",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The interpreter of a script cannot be used.
    #[error("the script {} names an interpreter that cannot be used: {source}", script.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with its interpreter.
        source: Box<MeasureError>,
    },
    /// It is nothing that this system executes.
    #[error("{} cannot be executed: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// Somebody wrote to the file while it was read.
    #[error("{} was changed while it was measured: try again when it is complete", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// There is too much to read.
    #[error("{} is too much to measure: {what} may have {limit} bytes in all", path.display())]
    TooLarge {
        /// The file that went beyond the limit.
        path: PathBuf,
        /// What is counted.
        what: &'static str,
        /// How much it may be.
        limit: u64,
    },
    /// There are too many files to read.
    #[error("the program has too many files to measure: {what} may be {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many they may be.
        limit: usize,
    },
    /// The loader does not find all shared libraries, or does not say which it finds.
    #[error(
        "the loader {loader} cannot tell the shared libraries of {}: {reason}; install what is missing where the loader looks \
         by itself (a folder relative to the program, $ORIGIN, is never found, since a copy in memory is what runs)",
        program.display()
    )]
    Loader {
        /// The loader that the program names.
        loader: String,
        /// The program.
        program: PathBuf,
        /// What it says.
        reason: String,
    },
    /// The kernel is told to execute nothing from memory.
    #[error(
        "the kernel refuses to execute from memory, which is where a measured program runs: set the sysctl vm.memfd_noexec \
         to 0 or 1"
    )]
    MemfdRefused,
    /// There is no room for the copy that is to be executed.
    #[error("no copy of {} can be kept in memory: {source}; see the limits of memory and of open files", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
