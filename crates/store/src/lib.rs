//! The key-value store: ordered byte keys, a revision for every write, and compare-and-swap transactions, with etcd's
//! meaning. The embedded implementation keeps them in one redb file: what was acknowledged survives `kill -9`.
//!
//! It knows nothing of what is stored. Values are versioned bytes of whoever owns the key.

mod embedded;
mod transaction;

pub use embedded::Store;
pub use transaction::{Compare, KeyValue, Operation, Outcome, Transaction};

use std::path::PathBuf;

use thiserror::Error;

/// Operations and comparisons of one transaction together.
pub const MAX_OPERATIONS: usize = 128;
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Why the store could not do what was asked. Nothing was changed, but for [`StoreError::Unconfirmed`].
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is open in another process.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The file cannot be opened.
    #[error("{path} cannot be opened ({reason}); restore it from a backup, or choose another data directory")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the machine or the format check said.
        reason: String,
    },
    /// A transaction over one of the limits.
    #[error("the transaction is over a limit: {0}")]
    TooLarge(&'static str),
    /// The disk has no room. The store is opened again when it is asked for something next.
    #[error("the disk of the store failed: {0}")]
    Disk(String),
    /// The disk failed otherwise, or did not confirm that what it was given is there. Whether it is, is not known before the
    /// next start, and until then the store refuses everything.
    #[error(
        "the disk failed under {path} ({reason}), so whether what was written last is there is not known, and the store is used \
         no more; look after the disk, then start serviceos again"
    )]
    Unconfirmed {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        reason: String,
    },
    /// The file or its format failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A stored row is not what this program writes.
    #[error("the store holds a damaged row at key {0:?}")]
    Damaged(String),
}
