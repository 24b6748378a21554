//! What a replica links. The sdk receives the assignment, joins the mesh with evidence of what runs, keeps the identity that it
//! is given for that, serves the replica's HTTP end points with `/health` among them under mutual TLS, and drains when it is
//! told to stop, when its identity ends, or when its supervisor is gone.
//!
//! A replica that is a program of somebody else's has this from its launcher (`crates/launcher`), which takes the same steps:
//! [`Supervised`], [`Member`], [`serve`], [`End::drain`].
//!
//! It must not know what a service does, and it never writes a key or a secret anywhere.

mod config;
mod configuring;
#[cfg(any(test, feature = "fakes"))]
mod fakes;
mod http;
mod join;
mod membership;
mod mesh_client;
mod outgoing;
mod register;
mod run;
mod serve;
mod start;
mod state;
mod supervised;
mod trusted;

pub use config::{Configs, Offer};
#[cfg(any(test, feature = "fakes"))]
pub use fakes::FakeMesh;
pub use http::{Problem, Tenant, router};
pub use join::{Applicant, Joined};
pub use membership::{Left, Member};
pub use mesh_client::MeshError;
pub use mesh_protocol::{
    Bytes, ConfigReload, MAX_STATE_KEYS, Protocol, Secret, SecretEpoch, SecretSet, StateWrite,
};
pub use outgoing::{CallError, Outgoing};
pub use run::{RunError, run};
pub use serve::{Body, Caller, Cut, Opened, Tunnels, answer, serve};
pub use start::{Start, StartError};
#[cfg(any(test, feature = "fakes"))]
pub use state::fake::FakeState;
pub use state::{Page, Put, Row, State, StateError, Swap, Written};
pub use supervised::{End, Supervised};
pub use trusted::{Trusted, distrusted};
