//! Who a caller is, what it may do and how much of it. API keys: made here, stored as keyed hashes, looked up by every
//! gateway worker in a published table; each has a tier, and the bucket that holds it to the tier's rate. Tokens of issuers:
//! verified by every worker with the keys of a published table, which one owner fetches and keeps up to date.
//!
//! It reads no messages and no clock: the gateway says what was presented and when, and gets a caller or a refusal back. Of HTTP it
//! knows what a signature covers (`signature.rs`).

mod addresses;
mod allowance;
mod caller;
mod certificate;
mod daily;
mod gcra;
mod issuers;
mod key;
mod keys;
mod public_key;
mod signature;
mod tier;
mod token;
mod users;

pub use addresses::Addresses;
pub use allowance::{Allowance, Exceeded, Left, Moment, admit, counted_elsewhere};
pub use caller::{ALL_SCOPES, Caller};
pub use certificate::{CertificateRules, Holder, Nameless, end_of_certificate};
pub use daily::Daily;
pub use gcra::{Allowed, Denied, Gcra, Limit, Rate};
pub use issuers::{Asked, FetchKeys, Fetched, IssuerOwner, IssuerSource, Issuers, KeysOfIssuers, OverHttp};
pub use key::{ApiKey, KeyKind};
pub use keys::{
    ApiKeys, DEFAULT_OVERLAP, KeyRecord, KeyTable, MAX_OVERLAP, MadeKey, MadeRotation, NewKey, NewRotation,
    Refusal, RememberedKey, TiersChange,
};
pub use public_key::{PublicKey, PublicKeyInfo, SignatureAlgorithm};
#[cfg(feature = "fuzzing")]
pub use signature::read_fields;
pub use signature::{
    ContentDigest, HandedNonces, MAX_SIGNATURE_AGE, Nonce, Nonces, SignatureRefusal, Signed, SignedMessage,
    UsedNonce, is_signed,
};
pub use tier::{FREE, Tier, Tiers, UNLIMITED, policy, whole_seconds};
pub use token::{
    Algorithm, Identity, IssuerRules, Jwks, MAX_JWKS_BYTES, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, Tenant,
    TokenRefusal, TokenTable, Verified, VerifyingKey,
};
pub use users::Users;

use thiserror::Error;

/// Why a key could not be made, listed or revoked.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The request for a key is not well-formed.
    #[error("{0}")]
    Invalid(String),
    /// There is no key of that id.
    #[error("there is no key {0}; `serviceos keys list` shows them")]
    UnknownKey(String),
    /// The key will never be good again.
    #[error("the key {0} was revoked or has expired; make another one with `serviceos keys create`")]
    Ended(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A stored key is not what this program writes.
    #[error("the record of key {0} is damaged")]
    Damaged(String),
    /// The change was broken off, since the process ends or by a bug.
    #[error("the change of the keys was broken off")]
    Unfinished,
    /// The operating system's randomness failed.
    #[error("no randomness for a key")]
    Randomness,
}
