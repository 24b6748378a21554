//! The life of a replica: Starting → Ready → Draining → Stopped.
//!
//! [`transition`] is the pure state machine. [`Driver`] is the one task that owns a replica's state: it launches the
//! process, waits for it to become healthy, drains and stops it, and starts it again with back-off, also when its attestation
//! ceases to hold, which it only reads. How a process is launched is a seam ([`Launch`]); nothing here forks.

mod backoff;
mod crash;
mod driver;
mod fleet;
mod order;
mod process;
pub mod rollout;
mod state;

pub use driver::{Driver, Policy};
pub use fleet::{
    EndedRollout, Fleet, FleetEnd, FleetHandle, FleetRefused, Fleets, Found, FoundRollout, ReplicasOf,
    RolloutStatus, Rollouts, Steer, Terms,
};
pub use order::{Order, Wanted};
pub use process::{Cause, Exit, Launch, LaunchError, Left, Listening, Process, Signal};
pub use state::{Denied, Event, transition};
