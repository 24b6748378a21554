//! The store as the pages show it.

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
}

impl StoreView {
    /// A store of that kind.
    pub fn new(kind: &'static str, availability: watch::Receiver<Availability>) -> Self {
        Self { kind, availability }
    }

    /// As it is now.
    pub fn state(&self) -> StoreState {
        let reason = match &*self.availability.borrow() {
            Availability::Available => None,
            Availability::Away { reason } => Some(reason.clone()),
        };
        StoreState { kind: self.kind.to_owned(), available: reason.is_none(), reason }
    }
}

#[cfg(test)]
impl StoreState {
    pub(crate) fn of_test() -> Self {
        Self { kind: "embedded".to_owned(), available: true, reason: None }
    }
}
