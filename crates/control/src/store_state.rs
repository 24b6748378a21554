//! The store as the pages show it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Availability;
use tokio::sync::watch;

/// Which store it is, and whether it answers.
#[derive(Clone)]
pub struct StoreView {
    kind: &'static str,
    availability: watch::Receiver<Availability>,
}

/// The same at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// `embedded` or `etcd`.
    pub kind: String,
    /// Whether it answers. While it does not, requests are served as before, and every change is refused.
    pub available: bool,
    /// Why it does not.
    pub reason: Option<String>,
    /// It has not answered since the start: what is known of it comes from its mirror on this machine, and is of this time.
    pub stale: Option<Timestamp>,
}

impl StoreView {
    /// A store of that kind.
    pub fn new(kind: &'static str, availability: watch::Receiver<Availability>) -> Self {
        Self { kind, availability }
    }

    /// As it is now.
    pub fn state(&self) -> StoreState {
        let (reason, stale) = match &*self.availability.borrow() {
            Availability::Available => (None, None),
            Availability::Away { reason, stale } => (Some(reason.clone()), *stale),
        };
        let stale = stale.and_then(|at| Timestamp::try_from(at).ok());
        StoreState { kind: self.kind.to_owned(), available: reason.is_none(), reason, stale }
    }
}

#[cfg(test)]
impl StoreState {
    pub(crate) fn of_test() -> Self {
        Self { kind: "embedded".to_owned(), available: true, reason: None, stale: None }
    }
}
