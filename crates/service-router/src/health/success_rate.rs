//! Finding a replica of whose calls too many fail, though never many in a row, while the others of its service do well.
//! Where all of them fail it is not the replica's fault, and leaving it alone would help nobody.

use std::collections::HashMap;

use service_registry::{Calls, Instance, Service};

/// Fewer calls than these say nothing of a rate.
const MIN_CALLS: u64 = 100;
/// Under this share of calls that succeed a replica is not good enough, in percent…
const TOO_LOW_PERCENT: u64 = 85;
/// …if that of all others together is over this one.
const OTHERS_PERCENT: u64 = 95;

/// The calls of a service's instances up to the last look, by incarnation. One that is missing has begun since.
#[derive(Debug, Default)]
pub(super) struct SuccessRate(HashMap<u64, Calls>);

impl SuccessRate {
    /// Looks at what comes from now on.
    pub(super) fn new(service: Option<&Service>) -> Self {
        Self(service.map(totals).unwrap_or_default())
    }

    /// The share of an instance's calls that succeeded, in percent, where that is too low. It is looked at as soon as
    /// there are enough calls, and every look begins anew.
    pub(super) fn too_low(&mut self, service: &Service, instance: &Instance) -> Option<u64> {
        let since = |(incarnation, total): (&u64, &Calls)| {
            total.since(self.0.get(incarnation).copied().unwrap_or_default())
        };
        // Most looks end here, and those of many instances at each of them would be many.
        if since((&instance.incarnation, &instance.calls.total())).all < MIN_CALLS {
            return None;
        }
        let now = totals(service);
        let own = now.get_key_value(&instance.incarnation).map(since)?;
        let others = now.iter().filter(|(incarnation, _)| **incarnation != instance.incarnation);
        let others = others.map(since).fold(Calls::default(), Calls::plus);
        self.0 = now;
        let good = |calls: Calls| (calls.all - calls.failed.min(calls.all)) * 100;
        let outlier = good(own) < own.all * TOO_LOW_PERCENT
            && others.all >= MIN_CALLS
            && good(others) > others.all * OTHERS_PERCENT;
        outlier.then(|| good(own) / own.all)
    }
}

fn totals(service: &Service) -> HashMap<u64, Calls> {
    let instances = service.replicas.iter().filter_map(|replica| replica.instance.as_ref());
    instances.map(|instance| (instance.incarnation, instance.calls.total())).collect()
}
