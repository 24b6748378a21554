//! The mesh API: replicas join, renew, and learn what is revoked and where the services are that they may call. Beside it, the one writer of the attestation fact: what the
//! authority decides becomes what the registry says and what the gateways connect to.
//!
//! It decides nothing itself: the authority does.

mod instances;
mod members;
mod own;
mod server;

pub use instances::Allowed;
pub use members::{Members, write_attestation};
pub use own::OwnIdentity;
pub use server::{MeshApi, MeshApiError};
