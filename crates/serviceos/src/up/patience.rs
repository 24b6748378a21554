//! Whether whoever has told `up` to stop still waits for what is in flight.

use super::fleets;
use super::quoter::Quoter;

/// What is left of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Drains may take their time.
    Has,
    /// Everything is stopped at once.
    Lost,
}

impl Patience {
    /// One order more. Whoever has lost it already is not kept waiting for anything: the replicas are killed with their drivers.
    pub(super) async fn lose(self, quoter: &Quoter, fleets: &mut fleets::Running) -> Self {
        if self == Self::Lost {
            fleets.kill().await;
            quoter.kill();
            std::process::exit(1);
        }
        Self::Lost
    }
}
