//! Sealed secret records: every secret has a data key of its own, wrapped by a key that only the master key and the mesh
//! root give, and one keyed hash over all records, so that a record that was changed, removed or exchanged is noticed.
//!
//! Values are made inside or given by an operator, handed out only to whoever starts a replica, wiped when dropped, and never
//! logged. What this cannot notice is an older copy of the whole store.

mod genesis;
mod master;
mod name;
mod record;
mod vault;

pub use genesis::Domain;
pub use master::MasterKey;
pub use name::{MAX_NAME_BYTES, check_name, is_reserved};
pub use record::Origin;
pub use vault::{
    Epoch, Generate, Given, MAX_EPOCHS, MAX_SECRETS, MAX_VALUE_BYTES, MAX_VERSIONS, Released, Summary, Vault,
    VersionInfo,
};

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
    #[error(
        "the store holds sealed secrets, but the master key {0} is missing; restore it from a backup, or copy master.key from a \
         machine whose mesh it is"
    )]
    MasterKeyMissing(PathBuf),
    /// There are secrets in the store, and the key opens none of them.
    #[error(
        "the store is sealed under another master key than {0}, or for another mode; copy master.key from the machine that made \
         the mesh, or restore the data directory from a backup"
    )]
    OtherMasterKey(PathBuf),
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
    /// What was given as a name is none. It is not shown: it may be a value in the wrong place.
    #[error(
        "a secret's name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 characters, the last one \
         no hyphen"
    )]
    InvalidName,
    /// A secret of the mesh itself.
    #[error(
        "the secret {0} is one of the mesh's own, which nobody sets, rotates or removes; choose another name"
    )]
    Reserved(String),
    /// There is no secret of that name.
    #[error("there is no secret {0}")]
    Unknown(String),
    /// A value for a secret that was generated.
    #[error("the secret {0} was generated, and generated secrets are immutable; rotate it for a new epoch")]
    Immutable(String),
    /// A rotation of a secret that an operator gave.
    #[error(
        "the secret {0} was set, not generated, so there is nothing to make it from; set it to a new value"
    )]
    NotGenerated(String),
    /// A value over the limit.
    #[error("a secret has at most 64 KiB")]
    TooLarge,
    /// One secret more than there may be.
    #[error("there are 1,000 secrets already, and there may be no more; remove one that no service uses")]
    TooMany,
    /// One epoch more than there may be.
    #[error(
        "the secret {0} has 1,000 epochs already, and there may be no more; use a new secret in its place"
    )]
    TooManyEpochs(String),
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
