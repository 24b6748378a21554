//! The development quoter: evidence for machines without a trusted execution environment. It makes SGX quotes (DCAP, version
//! 3) that the same verifier judges as those of real hardware, under a development root that is made for each data directory
//! and never leaves it.
//!
//! ```text
//!     development root ─▶ PCK Platform CA ─▶ PCK certificate ─▶ quoting enclave's report ─▶ attestation key ─▶ quote
//!                      └▶ TCB signing ─▶ TCB information, identity of the quoting enclave
//! ```
//!
//! Such evidence says what the launcher measured, and proves nothing against whoever can read the root's key or trace a
//! process of this user. It is a crate of its own so that nothing that judges evidence can make any, and so that packages
//! for production are built without it. It never looks at another process: who runs what is said once, by the launcher, over
//! a socket that was handed to it, since a process can connect and then execute an honest program.

mod certificates;
mod collateral;
mod file;
mod key;
mod platform;
mod profile;
mod quote;
mod quoter;
mod server;
mod sgx_extension;

pub use platform::FMSPC;
pub use profile::{PlatformTcb, Profile, TCB_DATE, Validity};
pub use quoter::Quoter;
pub use server::{MAX_CONTROL_CONNECTIONS, MAX_PROCESSES, Parent, Place, run};

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the quoter cannot do its work.
#[derive(Debug, Error)]
pub enum DevQuoterError {
    /// A file of the quoter's cannot be read or written.
    #[error("the development quoter's {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A socket cannot be made.
    #[error("the development quoter's socket {path} cannot be used: {error}")]
    Socket {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The operating system's randomness or the cryptographic library failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
    /// A certificate or a revocation list could not be written.
    #[error("a development certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
}
