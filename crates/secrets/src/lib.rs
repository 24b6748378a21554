//! Sealed secret records: every secret has a data key of its own, wrapped by a key that only the master key and the mesh
//! root give, and one keyed hash over all records, so that a record that was changed, removed or exchanged is noticed.
//!
//! Values are made inside, handed out only to whoever starts a replica, wiped when dropped, and never logged. What this
//! cannot notice is an older copy of the whole store.

mod genesis;
mod master;
mod record;
mod vault;

pub use genesis::{Domain, Mode};
pub use master::MasterKey;
pub use vault::{Epoch, Generate, Vault};

use std::path::PathBuf;

use thiserror::Error;

/// Why a secret could not be read or made.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// The key file cannot be read or made.
    #[error("the master key {path} cannot be used: {reason}")]
    MasterKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record, or the hash over all of them, does not hold.
    #[error(
        "the sealed secrets do not verify ({0}): the store was damaged or changed, or its master key was exchanged; \
         restore the data directory from a backup"
    )]
    Tampered(String),
    /// There are secrets in the store, but the key that seals them is gone.
    #[error("the store holds sealed secrets, but the master key {0} is missing; restore it from a backup")]
    MasterKeyMissing(PathBuf),
    /// The store was made for another trust domain.
    #[error(
        "the data directory belongs to the trust domain {found}, the configuration says {wanted}; set trustDomain back, \
         or choose another data directory"
    )]
    OtherDomain {
        /// What the store holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// Somebody else changed the secrets in the meantime.
    #[error("the secrets were changed by another process at the same time")]
    Conflict,
    /// The operating system's randomness or the cryptographic library failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}
