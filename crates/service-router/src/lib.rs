//! Selects a replica, executes the call on it, fails over to another, and owns health.
//!
//! [`WorkerRouter`] is one gateway worker's view: its own connections, estimates and suspicions, shared with nobody.
//! [`HealthOwner`] is process-wide: one verdict for each replica, published to all. Neither knows HTTP statuses for clients.

mod body;
mod connection;
mod endpoint;
mod execute;
mod health;
mod limit;
mod peak_ewma;
mod select;
mod spare;
mod suspicion;
mod worker;

pub use body::{BodyError, RequestBody, StreamedBody, UpstreamBody};
pub use execute::{Answer, Call, CallError, Failure, Replay};
pub use health::{CheckPolicy, HealthOwner};
pub use suspicion::{Suspicion, SuspicionKind};
pub use worker::{PRUNE_INTERVAL, RouterPlan, RouterPolicy, WorkerRouter};
