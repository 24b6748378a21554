//! The authority of a mesh: who is admitted, with which identity, and what it is given. Every decision leaves a record, and what
//! was decided survives a restart.
//!
//! It must not know how requests reach it, how processes are started, or what a service does.

pub mod audit;
mod authority;
mod ca;
mod caller;
mod clock;
mod difference;
mod nonces;
mod quota;
mod records;
mod revocations;
mod seal_key;
mod signer;
mod standing;

pub use authority::{
    AuditState, Authority, Channel, GrantedSecret, Grants, MAX_GRANTED_BYTES, Opening, Own, SecretGrant,
    ServicePolicy,
};
pub use ca::LeafFacts;
pub use caller::{Call, CallerSigner};
pub use clock::{Clocks, Now};
pub use records::{AppraisalRecord, SignedRecord};
pub use seal_key::{SealKey, SealedValue};
pub use signer::Signer;
pub use standing::{Admission, Standing, Standings};

use mesh_protocol::EvidenceError;
use thiserror::Error;
use types::ServiceName;

/// Why the authority could not do something.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A certificate or key could not be made or read.
    #[error("a certificate failed: {0}")]
    Certificate(String),
    /// A record could not be written.
    #[error("a record failed: {0}")]
    Record(String),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// The store holds something that this authority did not write.
    #[error(
        "the store's {0} does not verify: it was damaged or changed; restore the data directory from a backup"
    )]
    Tampered(&'static str),
    /// Evidence would be judged by the roots of the other mode.
    #[error(
        "the mesh is in {mesh} mode, and the roots that evidence is judged by are those of {roots} mode; this is a bug"
    )]
    RootsOfOtherMode {
        /// The mode of the mesh.
        mesh: types::Mode,
        /// That of the roots.
        roots: types::Mode,
    },
    /// Another node has changed the same at the same moment.
    #[error("another node of the mesh has changed it at the same moment; try again")]
    Overtaken,
    /// The nodes that share the store do not agree on what decides trust.
    #[error(
        "the manifest of this node is not that of the mesh (transition {n}), on which all of its nodes agree:\n{differences}\nmake this \
         node's configuration say the same, or change that of the others first"
    )]
    OtherManifest {
        /// The number of the transition that is in force.
        n: u64,
        /// Where they differ, a line each.
        differences: String,
    },
    /// The manifest was changed while the store was away, which must know of it first.
    #[error(
        "the configuration changes what decides trust, and that the mesh must agree on, but the store is away ({0}); start with the \
         configuration of the last start, or once the store answers"
    )]
    ChangedWithoutStore(String),
    /// A revocation that is none.
    #[error("the revocation is refused: {0}")]
    RevocationRefused(String),
    /// A value that is not sealed to the key of this start, for this name and this mesh.
    #[error(
        "the value is not sealed to the key that this serviceos has since its start; ask for the key, and seal it again"
    )]
    NotSealed,
    /// A secret that must not be removed.
    #[error(
        "the secret {name} is given to {}; take it out of the configuration first",
        .services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")
    )]
    SecretInUse {
        /// Which one.
        name: String,
        /// Who is given it.
        services: Vec<ServiceName>,
    },
    /// More secrets for a service than one answer of the mesh API holds.
    #[error(
        "the service {service} would be given {bytes} bytes of secrets, and {MAX_GRANTED_BYTES} are the most, where each value counts \
         for 192 bytes more than it has; make one of them smaller, or take one out of services.{service}.secrets"
    )]
    TooMuchGranted {
        /// Which one.
        service: ServiceName,
        /// How much that would be.
        bytes: usize,
    },
    /// The authority has no evidence of itself.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The secrets failed.
    #[error(transparent)]
    Secrets(#[from] secrets::SecretsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The audit trail failed.
    #[error(transparent)]
    Audit(#[from] audit::AuditError),
    /// A part of the authority ended in a panic.
    #[error("a part of the authority failed; this is a bug")]
    Failed,
}
