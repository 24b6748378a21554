//! Whether the workers reach Redis, and the lines in the log that say so: one when the first of them does not, one when all do
//! again, and none for each request.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::OnFailure;

/// How many workers do not reach it.
pub(crate) struct Presence {
    failing: AtomicUsize,
    reached_first: Once,
    server: String,
    meanwhile: &'static str,
}

impl Presence {
    pub(crate) fn new(server: String, on_failure: OnFailure) -> Self {
        let meanwhile = match on_failure {
            OnFailure::CountHere => "this gateway counts by itself until it can",
            OnFailure::Refuse => "requests that have a limit are refused until it can",
        };
        Self { failing: AtomicUsize::new(0), reached_first: Once::new(), server, meanwhile }
    }

    /// A worker that has asked for the first time has reached it.
    pub(crate) fn reached(&self) {
        self.reached_first.call_once(|| tracing::info!("{} counts the limits", self.server));
    }

    /// A worker that did reach it does not any more.
    pub(crate) fn lost(&self, reason: &str) {
        if self.failing.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(reason, "{} cannot count the limits; {}", self.server, self.meanwhile);
        }
    }

    /// One that did not does again.
    pub(crate) fn found(&self) {
        if self.failing.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("{} counts the limits again", self.server);
        }
    }

    /// One that did not asks for it no more.
    pub(crate) fn left(&self) {
        self.failing.fetch_sub(1, Ordering::Relaxed);
    }
}
