//! Which replicas there are and which of them may serve.
//!
//! Each fact of a replica has one writer: its driver writes the lifecycle, the health owner writes the health. Everyone
//! else reads a published [`Snapshot`], and the gateway's workers confirm which one they use, so that a drain can wait for
//! them instead of sleeping.

mod calls;
mod facts;
mod in_flight;
mod outcomes;
mod registry;
mod snapshot;

pub use calls::{CallCount, CallCounts, Calls};
pub use facts::{Attestation, Gate, Health, LifecycleState, Verdict};
pub use in_flight::InFlight;
pub use outcomes::{Claim, Outcomes};
pub use registry::{Change, Confirmed, Registry, WorkerSubscription};
pub use snapshot::{Channel, Instance, LastCheck, NotSelectable, Replica, Service, Snapshot};
