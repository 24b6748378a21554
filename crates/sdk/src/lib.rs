//! What a replica links. The sdk receives the assignment, serves the replica's HTTP end points with `/health` among them,
//! reports where it listens, and drains when it is told to stop or when its supervisor is gone.
//!
//! It must not know what a service does, and it never writes an assignment anywhere.

mod http;
mod run;
mod start;

pub use http::{Problem, Tenant, router};
pub use mesh_protocol::{Secret, SecretEpoch, SecretSet};
pub use run::{RunError, run};
pub use start::{Start, StartError};
