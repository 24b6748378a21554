//! What a fleet knows of each replica, and what of it a rollout can count on.

use std::sync::Arc;
use std::time::Duration;

use service_registry::{Attested, Replica, Snapshot};
use tokio::sync::watch;
use types::ServiceName;

use crate::rollout::{Side, Standing};
use crate::{Order, Wanted};

/// A driver, as the fleet sees it.
pub(super) struct Driven {
    pub(super) orders: watch::Sender<Order>,
    /// The number of what it runs.
    pub(super) release: u64,
    /// Since when the replica is selectable.
    pub(super) selectable_since: Option<Duration>,
    /// The order of the driver that comes in the place of this one, so that another release runs once it is restarted.
    pub(super) heir: Option<Order>,
}

impl Driven {
    /// Whether it is to be gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.orders.borrow().wanted >= Wanted::Gone
    }

    /// Whether an operator has drained it.
    pub(super) fn is_held(&self) -> bool {
        self.orders.borrow().wanted == Wanted::Drained || self.heir.is_some()
    }
}

/// What of a replica can be counted on. One that ends again and again may serve in between: the new version is given up all the same,
/// and of the old one it is missed when it goes.
pub(super) fn standing(replica: &Replica, driven: &Driven, side: Side) -> Standing {
    let refused = (replica.attestation.value == Attested::Refused).then(|| replica.attestation.ceased());
    let crash_loop = replica.crash_loop.as_ref().map(|crash_loop| crash_loop.last.reason.clone());
    match (crash_loop.or(refused.flatten()), driven.selectable_since) {
        (Some(reason), None) => Standing::Failing(reason),
        (Some(reason), Some(_)) if side == Side::Target => Standing::Failing(reason),
        (_, Some(since)) => Standing::Selectable(since),
        (None, None) => Standing::Pending,
    }
}

/// Returns once something of the service is another.
pub(super) async fn another(snapshots: &mut watch::Receiver<Arc<Snapshot>>, service: &ServiceName) {
    let known = snapshots.borrow_and_update().service(service).cloned();
    let differs = |snapshot: &Arc<Snapshot>| match (snapshot.service(service), &known) {
        (Some(now), Some(known)) => !Arc::ptr_eq(now, known),
        (now, known) => now.is_some() != known.is_some(),
    };
    let _registry_outlives_fleets = snapshots.wait_for(differs).await.is_ok();
}
