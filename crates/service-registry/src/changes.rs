//! What has changed between two snapshots, for those who know the earlier one by its epoch alone.
//!
//! Each replica says when it was changed last, and those that are no more are remembered for a while. So nothing is kept for
//! a reader: one that comes back after a long time, or reads slowly, costs as little as any other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use types::{ReplicaId, ServiceName};

use crate::{Replica, Service, Snapshot};

/// Replicas that are no more and are remembered, at most.
const MAX_REMOVED: usize = 4_096;

/// What leads from an earlier snapshot to this one. What has changed and changed back since may be among it.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    /// As they are now, in the order of the snapshot; also those that were not there.
    pub changed: Vec<&'a Replica>,
    /// Those that are not there any more.
    pub removed: BTreeSet<ReplicaId>,
}

impl Changes<'_> {
    /// Whether everything is as it was.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Replicas that are no more, the latest last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removed {
    ids: Vec<(u64, ReplicaId)>,
    /// Of those up to this epoch some are forgotten.
    forgotten: u64,
}

impl Removed {
    /// Remembers those that are gone with this epoch.
    fn and(&self, gone: impl Iterator<Item = ReplicaId>, epoch: u64) -> Self {
        let Self { ids, mut forgotten } = self.clone();
        let mut ids: Vec<_> = ids.into_iter().chain(gone.map(|id| (epoch, id))).collect();
        let surplus = ids.len().saturating_sub(MAX_REMOVED);
        if let Some((last, _)) = ids.drain(..surplus).next_back() {
            forgotten = last;
        }
        Self { ids, forgotten }
    }
}

impl Snapshot {
    /// What has changed since the snapshot of an epoch, in one service or in all; `None` where that cannot be told any more,
    /// or where there was no such snapshot yet. With that snapshot at hand, only what differs is looked at.
    pub fn changes_since(
        &self,
        epoch: u64,
        before: Option<&Self>,
        service: Option<&ServiceName>,
    ) -> Option<Changes<'_>> {
        if epoch == 0 || epoch > self.epoch || epoch < self.removed.forgotten {
            return None;
        }
        let wanted = |name: &ServiceName| service.is_none_or(|service| service == name);
        let is_as_it_was = |place: usize, service: &Arc<Service>| {
            before
                .is_some_and(|before| before.services.get(place).is_some_and(|was| Arc::ptr_eq(was, service)))
        };
        let services = self.services.iter().enumerate();
        let touched =
            services.filter(|(place, service)| wanted(&service.name) && !is_as_it_was(*place, service));
        let replicas = touched.flat_map(|(_, service)| &service.replicas);
        let gone = self.removed.ids.iter().filter(|(at, id)| *at > epoch && wanted(&id.service));
        Some(Changes {
            changed: replicas.filter(|replica| replica.changed_at > epoch).collect(),
            removed: gone.map(|(_, id)| id).filter(|id| self.replica(id).is_none()).cloned().collect(),
        })
    }

    /// The next one, with these services, which are the same ones in the same order.
    pub(crate) fn changed_to(&self, services: Vec<Arc<Service>>) -> Self {
        let mut next = self.replaced_by(services);
        next.list = self.list;
        next
    }

    /// The next one, with these services. What is not as it was gets the new epoch, and what is gone is remembered.
    pub(crate) fn replaced_by(&self, services: Vec<Arc<Service>>) -> Self {
        let epoch = self.epoch + 1;
        let marked = services.into_iter().map(|service| match self.service(&service.name) {
            Some(known) if Arc::ptr_eq(known, &service) => service,
            known => marked(service, known, epoch),
        });
        let mut next = Self::new(epoch, marked.collect());
        let gone = self.services.iter().flat_map(|known| gone(known, next.service(&known.name)));
        let mut gone = gone.peekable();
        let removed = match gone.peek() {
            None => Arc::clone(&self.removed),
            Some(_) => Arc::new(self.removed.and(gone, epoch)),
        };
        next.removed = removed;
        next
    }
}

/// A service that comes or is another, with the epoch in each replica that is not as it was.
fn marked(mut service: Arc<Service>, known: Option<&Arc<Service>>, epoch: u64) -> Arc<Service> {
    let known = known.filter(|known| known.version == service.version);
    let known = known.iter().flat_map(|known| &known.replicas);
    // A service may have thousands, of which those of other nodes stand anywhere.
    let known: HashMap<_, _> = known.map(|replica| (&replica.id, replica)).collect();
    for replica in &mut Arc::make_mut(&mut service).replicas {
        let before = known.get(&replica.id).copied();
        replica.mark(before, epoch);
    }
    service
}

/// The replicas of a service that it has no more.
fn gone(known: &Arc<Service>, next: Option<&Arc<Service>>) -> Vec<ReplicaId> {
    let next = match next {
        Some(next) if Arc::ptr_eq(known, next) => return Vec::new(),
        next => next,
    };
    let stays: HashSet<_> = next.iter().flat_map(|next| &next.replicas).map(|replica| &replica.id).collect();
    let ids = known.replicas.iter().map(|replica| &replica.id);
    ids.filter(|id| !stays.contains(id)).cloned().collect()
}

impl Replica {
    /// Says since when it is as it is.
    pub(crate) fn mark(&mut self, before: Option<&Self>, epoch: u64) {
        self.changed_at = match before {
            Some(before) if self.shows_the_same(before) => before.changed_at,
            _ => epoch,
        };
    }

    /// Whether nobody who is shown both sees a difference. That a suspicion was answered is for the workers alone.
    fn shows_the_same(&self, other: &Self) -> bool {
        let instance = |replica: &Self| replica.instance.as_ref().map(Arc::as_ptr);
        let health = |replica: &Self| (replica.health.verdict, replica.health.since);
        self.id == other.id
            && (self.state, self.since, self.restarts, self.pid)
                == (other.state, other.since, other.restarts, other.pid)
            && self.crash_loop == other.crash_loop
            && (self.gate, self.weight, self.priority) == (other.gate, other.weight, other.priority)
            && instance(self) == instance(other)
            && health(self) == health(other)
            && (&self.reason, &self.health.reason) == (&other.reason, &other.health.reason)
            && (&self.attestation, &self.labels, &self.presence)
                == (&other.attestation, &other.labels, &other.presence)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Change, Registry};

    fn service(name: &str, replicas: u32) -> Service {
        let name: ServiceName = name.parse().unwrap();
        let ids = (0..replicas).map(|ordinal| ReplicaId::new(name.clone(), ordinal));
        let replicas: Vec<_> = ids.map(|id| Replica::stopped(id, Timestamp::UNIX_EPOCH)).collect();
        Service {
            name,
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        }
    }

    fn since(registry: &Registry, epoch: u64) -> Option<String> {
        let snapshot = registry.snapshot();
        let changes = snapshot.changes_since(epoch, None, None)?;
        let changed: Vec<_> = changes.changed.iter().map(|replica| replica.id.to_string()).collect();
        let removed: Vec<_> = changes.removed.iter().map(ToString::to_string).collect();
        Some(format!("{} - {}", changed.join(" "), removed.join(" ")))
    }

    fn restart(registry: &Registry, id: &str) -> u64 {
        registry.update(&id.parse().unwrap(), |replica| {
            replica.restarts += 1;
            Change::Made
        })
    }

    #[test]
    fn changes_are_those_after_the_epoch_as_they_are_now() {
        let registry = Registry::new(vec![service("vrf", 2), service("oracle", 1)]);
        assert_eq!(since(&registry, 1).as_deref(), Some(" - "));
        let first = restart(&registry, "vrf/1");
        restart(&registry, "oracle/0");
        assert_eq!(since(&registry, 1).as_deref(), Some("vrf/1 oracle/0 - "));
        assert_eq!(since(&registry, first).as_deref(), Some("oracle/0 - "));
        let snapshot = registry.snapshot();
        let of_vrf = snapshot.changes_since(1, None, Some(&"vrf".parse().unwrap())).unwrap();
        assert_eq!(of_vrf.changed.len(), 1);
        assert_eq!((since(&registry, 0), since(&registry, snapshot.epoch + 1)), (None, None));
    }

    #[test]
    fn an_answered_suspicion_is_no_change_to_those_who_look() {
        let registry = Registry::new(vec![service("vrf", 1)]);
        let epoch = registry.update(&"vrf/0".parse().unwrap(), |replica| {
            replica.health.answered += 1;
            Change::Made
        });
        assert_eq!((epoch, since(&registry, 1).as_deref()), (2, Some(" - ")));
    }

    #[test]
    fn what_a_replacement_takes_away_is_told_and_what_it_keeps_is_not() {
        let registry = Registry::new(vec![service("vrf", 2), service("oracle", 1)]);
        registry.replace_services(|known| {
            let mut vrf = Service::clone(&known[0]);
            vrf.replicas[0].weight = 7;
            vrf.replicas.truncate(1);
            vec![Arc::new(service("datafeed", 1)), Arc::new(vrf)]
        });
        assert_eq!(since(&registry, 1).as_deref(), Some("datafeed/0 vrf/0 - oracle/0 vrf/1"));
        let epoch =
            registry.replace_services(|known| vec![Arc::clone(&known[1]), Arc::new(service("oracle", 1))]);
        assert_eq!(since(&registry, 1).as_deref(), Some("vrf/0 oracle/0 - datafeed/0 vrf/1"));
        registry.replace_services(|known| vec![Arc::new(Service::clone(&known[0])), Arc::clone(&known[1])]);
        assert_eq!(since(&registry, epoch).as_deref(), Some(" - "), "a copy is the same");
    }

    #[test]
    fn what_was_removed_too_long_ago_cannot_be_told_any_more() {
        let registry = Registry::new(vec![service("vrf", 1)]);
        let gone = u32::try_from(MAX_REMOVED).unwrap();
        let filled =
            registry.replace_services(|known| vec![Arc::clone(&known[0]), Arc::new(service("oracle", gone))]);
        registry.replace_services(|known| vec![Arc::clone(&known[0])]);
        let all = registry.snapshot().changes_since(filled, None, None).map(|changes| changes.removed.len());
        assert_eq!(all, Some(MAX_REMOVED));
        registry.replace_services(|known| vec![Arc::clone(&known[0]), Arc::new(service("datafeed", 1))]);
        let last = registry.replace_services(|known| vec![Arc::clone(&known[0])]);
        assert_eq!(since(&registry, filled), None);
        assert_eq!(since(&registry, last).as_deref(), Some(" - "));
        assert!(since(&registry, last - 1).is_some_and(|told| told.ends_with("datafeed/0")));
    }
}
