//! The key-value store: ordered byte keys, a revision for every write, compare-and-swap transactions, leases, and watches that
//! resume, all with etcd's meaning. [`Store`] is whichever of two it is: one redb file in the data directory, where what was
//! acknowledged survives `kill -9`, or etcd, which several machines share.
//!
//! It knows nothing of what is stored. Values are versioned bytes of whoever owns the key.

mod backend;
mod embedded;
mod etcd;
mod lease;
mod mirrored;
mod transaction;
mod watch;

pub use backend::{Availability, Store};
pub use etcd::{EndPoint, EtcdSettings, EtcdTls, Login};
pub use lease::LeaseId;
pub use transaction::{Compare, KeyValue, Operation, Outcome, Range, Transaction};
pub use watch::{Change, Changes, Watch, Watched};

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Operations and comparisons of one transaction together.
pub const MAX_OPERATIONS: usize = 128;
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Keys and values of one transaction together, in bytes. etcd refuses a request of more than 1.5 MiB
/// (`--max-request-bytes`), and what stands around them needs room.
pub const MAX_TRANSACTION_BYTES: usize = (1 << 20) + (256 << 10);
/// How many revisions a watch can go back. etcd's own history is as long as its operator lets it be.
pub const KEPT_REVISIONS: u64 = 10_000;
/// The shortest and the longest life of a lease between two renewals.
pub const LEASE_TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3600);

/// Why the store could not do what was asked. Nothing was changed, but for [`StoreError::Unconfirmed`] and
/// [`StoreError::Undecided`].
#[derive(Debug, Clone, Error)]
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
    /// A transaction that writes the same key twice, which would leave open what it holds afterwards.
    #[error("the transaction writes the key {0:?} twice")]
    WrittenTwice(String),
    /// The history from which a watch is to resume is not kept any more: whoever watches reads everything again.
    #[error("the store keeps no changes before revision {oldest} any more")]
    Compacted {
        /// The oldest revision that a watch can still be given.
        oldest: u64,
    },
    /// The lease has ended, or never was.
    #[error("the lease {0} has ended")]
    LeaseEnded(LeaseId),
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
    /// The store cannot be reached, or has lost its quorum. Nothing of what was asked was done.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before the answer: whether what was asked was done, reading it again will say.
    #[error("the store did not answer, so whether the change was made is not known: {0}")]
    Undecided(String),
    /// The store does not let this process do what it asked for.
    #[error("the store refuses it: {0}; look after the user and password of `store`, and what they may do")]
    Refused(String),
    /// The file or its format failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A stored row is not what this program writes.
    #[error("the store holds a damaged row at key {0:?}")]
    Damaged(String),
}
