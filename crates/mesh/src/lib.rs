//! The mesh API: replicas join, renew, learn what is revoked and where the services are that they may call, and register
//! themselves where nobody speaks for them; and the replicas of a service share state through it. Beside it, the one writer of
//! the attestation fact: what the authority decides becomes what the registry says and what the gateways connect to.
//!
//! It decides nothing itself: the authority does.

mod instances;
mod members;
mod own;
mod registrations;
mod server;
mod state;

pub use instances::Allowed;
pub use members::{Members, write_attestation};
pub use own::OwnIdentity;
pub use registrations::{Registered, Registrations};
pub use server::{MeshApi, MeshApiError};
