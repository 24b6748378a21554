//! What several gateways count together, in one Redis: limits, by a script that counts a request by all of them or by none,
//! and nonces that may be used once.
//!
//! Each worker has a connection of its own, and nobody waits for it: while there is none, whoever asks is told so at once. It
//! knows no HTTP, and does not decide what becomes of a request that cannot be counted.

mod connect;
mod link;
mod names;
mod presence;
mod script;

use thiserror::Error;

pub use connect::{Login, Server, Tls};
pub use link::{ANSWER_LIMIT, Link, MAX_WAITING};

use names::Names;
use presence::Presence;

/// Why Redis did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Uncounted {
    /// It did not say what it was asked; it may have counted all the same.
    #[error("the limits that gateways share cannot be reached")]
    Unavailable,
    /// As many requests of this worker wait for its answers as may, so it was not asked. It may be as well as ever.
    #[error("as many requests wait for the limits that gateways share as may")]
    Overloaded,
}

/// What becomes of a request that cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Each gateway counts by itself until it can be.
    CountHere,
    /// It is refused.
    Refuse,
}

/// The limits that gateways share: where, under which names, and whether they can be reached. One for all workers.
pub struct SharedLimits {
    server: Server,
    names: Names,
    on_failure: OnFailure,
    presence: Presence,
}

impl SharedLimits {
    /// Those of a mesh. Gateways of the same trust domain that name the same Redis count together.
    pub fn new(server: Server, trust_domain: &str, on_failure: OnFailure) -> Self {
        let presence = Presence::new(server.to_string(), on_failure);
        Self { server, names: Names::new(trust_domain), on_failure, presence }
    }

    /// What becomes of a request that cannot be counted.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }
}

#[cfg(test)]
mod tests;
