//! The service `vrf`: random integers with a proof that nobody chose them (RFC 9381), over HTTP.
//!
//! `ecvrf` is the function itself and `range` maps its output to integers: both are all that a client needs to check an
//! answer. `service` holds the keys and draws, `api` speaks HTTP. An answer is a pure function of key, tenant and seed, and it is
//! given only once `ledger` has kept it in the state that all replicas share: nothing is stored here, and nothing can be drawn
//! again. `records` says what is kept, `sweep` for how long.
//!
//! A limit: smart contracts such as Neo's cannot check an ECVRF proof. For them each answer carries a statement of the
//! output, signed with Ed25519. It proves who answered; that the output could not be chosen, only the proof does.

mod api;
pub mod ecvrf;
mod hex;
mod keys;
mod ledger;
pub mod range;
mod records;
mod self_test;
mod service;
mod sweep;

pub use service::{build, check_config};

/// Runs the service as a replica until it is told to stop.
pub fn run() -> Result<(), sdk::RunError> {
    sdk::run(build)
}
