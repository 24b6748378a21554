//! The owner of the facts: takes changes from their writers and publishes snapshots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use types::{ReplicaId, ServiceName};

use crate::{Events, NodeFacts, Replica, Service, Snapshot, Split, Version};

/// All replicas of this mesh. Clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    snapshot: watch::Sender<Arc<Snapshot>>,
    workers: Mutex<Vec<watch::Receiver<u64>>>,
    /// What stands for the gateways of other nodes.
    others: Mutex<Option<watch::Receiver<u64>>>,
    incarnations: AtomicU64,
    nodes: watch::Sender<Arc<[NodeFacts]>>,
    events: Events,
}

/// A gateway worker's end: the snapshots, and the word that it uses one.
pub struct WorkerSubscription {
    /// The snapshot in force, and every later one.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    used: watch::Sender<u64>,
}

impl WorkerSubscription {
    /// Says that every later selection of this worker uses this snapshot or a newer one.
    pub fn confirm(&self, epoch: u64) {
        self.used.send_replace(epoch);
    }
}

impl Default for Registry {
    /// No services yet.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Registry {
    /// The services that are wanted, none of their replicas started.
    pub fn new(services: Vec<Service>) -> Self {
        let services = services.into_iter().map(Arc::new).collect();
        Self(Arc::new(Inner {
            snapshot: watch::Sender::new(Arc::new(Snapshot::new(1, services))),
            workers: Mutex::default(),
            others: Mutex::default(),
            incarnations: AtomicU64::new(1),
            nodes: watch::Sender::new(Arc::new([])),
            events: Events::default(),
        }))
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.snapshot.borrow())
    }

    /// The snapshot in force, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.snapshot.subscribe()
    }

    /// A worker's subscription; from now on a drain waits for its word.
    pub fn subscribe_worker(&self) -> WorkerSubscription {
        let (used, confirmed) = watch::channel(0);
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner).push(confirmed);
        WorkerSubscription { snapshots: self.subscribe(), used }
    }

    /// Where it is said which snapshot the gateways of all other nodes use; from now on a drain waits for them too.
    pub(crate) fn stand_for_others(&self) -> watch::Sender<u64> {
        let (used, confirmed) = watch::channel(0);
        *self.0.others.lock().unwrap_or_else(PoisonError::into_inner) = Some(confirmed);
        used
    }

    /// The nodes that live, this one among them, as they come and go; none where there is one without a name. While the store is
    /// away they are those that lived when it was there.
    pub fn nodes(&self) -> watch::Receiver<Arc<[NodeFacts]>> {
        self.0.nodes.subscribe()
    }

    pub(crate) fn tell_of_nodes(&self, nodes: Vec<NodeFacts>) {
        self.0.nodes.send_if_modified(|known| {
            let is_news = known[..] != nodes[..];
            if is_news {
                *known = nodes.into();
            }
            is_news
        });
    }

    /// What has happened, and where it is written down.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// A number for a new run of some replica.
    pub fn next_incarnation(&self) -> u64 {
        self.0.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes one replica and publishes, unless `change` says that there was nothing to change. Returns the epoch from
    /// which on the change is seen.
    pub fn update(&self, id: &ReplicaId, change: impl FnOnce(&mut Replica) -> Change) -> u64 {
        self.0.snapshot.send_if_modified(|published| {
            let Some(place) = published.place(&id.service) else { return false };
            let known = &published.services[place];
            let Some(of_service) = known.place(id) else { return false };
            let mut replica = known.replicas[of_service].clone();
            if change(&mut replica) == Change::None {
                return false;
            }
            replica.mark(Some(&known.replicas[of_service]), published.epoch + 1);
            let mut service = Service::clone(known);
            service.replicas[of_service] = replica;
            *published = Arc::new(published.with(place, service));
            true
        });
        self.0.snapshot.borrow().epoch
    }

    /// Divides the calls of a service from now on: this version has this part of them, in percent; with `None` they are not
    /// divided. What is counted goes on as long as it is the same version. Returns the epoch from which on it is seen.
    pub fn split(&self, service: &ServiceName, part: Option<(Version, u8)>) -> u64 {
        self.0.snapshot.send_if_modified(|published| {
            let Some(place) = published.place(service) else { return false };
            let known = &published.services[place];
            let is_as_it_was = match (&known.split, &part) {
                (None, None) => true,
                (Some(known), Some((to, percent))) => (&known.to, known.percent) == (to, *percent),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if is_as_it_was {
                return false;
            }
            let split = part.map(|(to, percent)| {
                let answered = known.split.as_ref().filter(|known| known.to == to);
                let answered = answered.map(|known| Arc::clone(&known.answered)).unwrap_or_default();
                Split { answered, ..Split::new(to, percent) }
            });
            let service = Service { split, ..Service::clone(known) };
            *published = Arc::new(published.with(place, service));
            true
        });
        self.0.snapshot.borrow().epoch
    }

    /// Replaces the list of services, as another configuration wants it, and publishes. Services that stay are handed over
    /// as they are, so that none of their facts is lost.
    pub fn replace_services(&self, change: impl FnOnce(&[Arc<Service>]) -> Vec<Arc<Service>>) -> u64 {
        self.0.snapshot.send_modify(|published| {
            let services = change(&published.services);
            *published = Arc::new(published.replaced_by(services));
        });
        self.0.snapshot.borrow().epoch
    }

    /// Adds a replica to its service, if there is none of this id yet, and publishes.
    pub fn add_replica(&self, replica: Replica) {
        self.change_service(&replica.id.service.clone(), |service| {
            let is_new = service.replica(&replica.id).is_none();
            if is_new {
                service.replicas.push(replica);
            }
            if is_new { Change::Made } else { Change::None }
        });
    }

    /// Takes a replica out of its service, and publishes.
    pub fn remove_replica(&self, id: &ReplicaId) {
        self.change_service(&id.service, |service| {
            let before = service.replicas.len();
            service.replicas.retain(|replica| replica.id != *id);
            if service.replicas.len() < before { Change::Made } else { Change::None }
        });
    }

    /// Another number of replicas of a service is wanted of this node; publishes. Those of others stay wanted.
    pub fn scale(&self, service: &ServiceName, before: usize, now: usize) {
        self.change_service(service, |service| {
            service.desired = (service.desired + now).saturating_sub(before);
            if before == now { Change::None } else { Change::Made }
        });
    }

    fn change_service(&self, name: &ServiceName, change: impl FnOnce(&mut Service) -> Change) {
        self.0.snapshot.send_if_modified(|published| {
            let Some(place) = published.place(name) else { return false };
            let mut service = Service::clone(&published.services[place]);
            if change(&mut service) == Change::None {
                return false;
            }
            let mut services = published.services.clone();
            services[place] = Arc::new(service);
            *published = Arc::new(published.changed_to(services));
            true
        });
    }

    /// Changes the replicas of every service for which there are others, and publishes once, unless there are none. Returns the
    /// epoch from which on it is seen.
    pub(crate) fn change_replicas(
        &self,
        mut change: impl FnMut(&ServiceName, &[Replica]) -> Option<Vec<Replica>>,
    ) -> u64 {
        self.0.snapshot.send_if_modified(|published| {
            let mut services = None;
            for (place, service) in published.services.iter().enumerate() {
                let Some(replicas) = change(&service.name, &service.replicas) else { continue };
                let services = services.get_or_insert_with(|| published.services.clone());
                let desired = (service.desired + replicas.len()).saturating_sub(service.replicas.len());
                services[place] = Arc::new(Service { desired, replicas, ..Service::clone(service) });
            }
            let Some(services) = services else { return false };
            *published = Arc::new(published.changed_to(services));
            true
        });
        self.0.snapshot.borrow().epoch
    }

    /// Waits until every worker of every gateway uses the snapshot of this epoch or a newer one, at most `limit`. A worker that
    /// has ended selects nothing any more and is not waited for.
    pub async fn confirmed(&self, epoch: u64, limit: Duration) -> Confirmed {
        let others = self.0.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.confirmed_by(others, epoch, limit).await
    }

    /// The same for the workers of this node's gateway.
    pub async fn confirmed_here(&self, epoch: u64, limit: Duration) -> Confirmed {
        self.confirmed_by(None, epoch, limit).await
    }

    async fn confirmed_by(
        &self,
        others: Option<watch::Receiver<u64>>,
        epoch: u64,
        limit: Duration,
    ) -> Confirmed {
        let mut workers = self.0.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        workers.extend(others);
        let all = async {
            for worker in &mut workers {
                let _used_or_ended = worker.wait_for(|used| *used >= epoch).await.is_ok();
            }
        };
        match tokio::time::timeout(limit, all).await {
            Ok(()) => Confirmed::ByAll,
            Err(_) => Confirmed::TimedOut,
        }
    }
}

/// Whether a closure changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Publish it.
    Made,
    /// Everything is as it was.
    None,
}

/// Whether the workers answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// Every worker uses the snapshot.
    ByAll,
    /// Some worker did not answer.
    TimedOut,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Attestation, Attested, LifecycleState, NotSelectable, Side, Verdict};

    fn registry() -> (Registry, ReplicaId) {
        let id: ReplicaId = "vrf/0".parse().unwrap();
        let replicas = vec![Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH)];
        let service = Service {
            name: id.service.clone(),
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        };
        (Registry::new(vec![service]), id)
    }

    #[test]
    fn a_change_is_published_with_a_new_epoch_and_no_change_is_not() {
        let (registry, id) = registry();
        let mut watcher = registry.subscribe();
        watcher.mark_unchanged();
        let epoch = registry.update(&id, |replica| {
            replica.restarts += 1;
            Change::Made
        });
        assert_eq!((epoch, watcher.has_changed().unwrap()), (2, true));
        watcher.mark_unchanged();
        assert_eq!(registry.update(&id, |_| Change::None), 2);
        assert_eq!(registry.update(&"vrf/7".parse().unwrap(), |_| Change::Made), 2);
        assert!(!watcher.has_changed().unwrap());
    }

    #[test]
    fn what_is_counted_of_a_split_goes_on_as_long_as_it_is_the_same_version() {
        let (registry, id) = registry();
        let answered = |registry: &Registry| {
            let split = registry.snapshot().services[0].split.clone().unwrap();
            (split.percent, split.answered)
        };
        assert_eq!(registry.split(&id.service, Some(("1.1.0".into(), 0))), 2);
        let (percent, first) = answered(&registry);
        first.begin(Side::Target).add_call();
        assert_eq!((percent, registry.split(&id.service, Some(("1.1.0".into(), 0)))), (0, 2), "no news");
        assert_eq!(registry.split(&id.service, Some(("1.1.0".into(), 50))), 3);
        let (percent, same) = answered(&registry);
        assert_eq!((percent, same.sample(Side::Target).calls.all), (50, 1));
        // Nothing of it is a change of a replica.
        assert_eq!(registry.snapshot().changes_since(1, None, None).unwrap().changed.len(), 0);
        registry.split(&id.service, Some(("1.2.0".into(), 50)));
        assert_eq!(answered(&registry).1.sample(Side::Target).calls.all, 0);
        registry.split(&id.service, None);
        assert!(registry.snapshot().services[0].split.is_none());
        assert_eq!(registry.split(&"oracle".parse().unwrap(), Some(("1".into(), 1))), 5, "there is none");
    }

    #[test]
    fn a_replica_is_selectable_only_when_every_fact_holds() {
        let (registry, id) = registry();
        let set = |state, value, verdict| {
            registry.update(&id, |replica| {
                (replica.state, replica.health.verdict) = (state, verdict);
                replica.attestation = Attestation { value, ..Attestation::pending(Timestamp::UNIX_EPOCH) };
                let address = ([127, 0, 0, 1], 1).into();
                let instance = crate::Instance::new(id.clone(), 1, address, "1.0.0".into());
                replica.instance = Some(Arc::new(instance));
                Change::Made
            });
            let snapshot = registry.snapshot();
            let replica = snapshot.replica(&id).unwrap();
            (replica.selectable().map(|_| ()), replica.lacks_health_alone())
        };
        for state in LifecycleState::ALL {
            for value in Attested::ALL {
                for verdict in [Verdict::Unknown, Verdict::Healthy, Verdict::Unhealthy, Verdict::Ejected] {
                    let expected = match (state, value, verdict) {
                        (LifecycleState::Ready, Attested::Valid | Attested::Exempt, Verdict::Healthy) => {
                            (Ok(()), false)
                        }
                        (LifecycleState::Ready, Attested::Valid | Attested::Exempt, verdict) => {
                            (Err(NotSelectable::Health(verdict)), true)
                        }
                        (LifecycleState::Ready, value, _) => (Err(NotSelectable::Attestation(value)), false),
                        (state, ..) => (Err(NotSelectable::State(state)), false),
                    };
                    assert_eq!(set(state, value, verdict), expected);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn confirmation_waits_for_every_living_worker_and_no_longer_than_its_limit() {
        let (registry, _) = registry();
        let (one, two) = (registry.subscribe_worker(), registry.subscribe_worker());
        one.confirm(5);
        assert_eq!(registry.confirmed(5, Duration::from_secs(5)).await, Confirmed::TimedOut);
        two.confirm(6);
        assert_eq!(registry.confirmed(5, Duration::from_secs(5)).await, Confirmed::ByAll);
        drop(two);
        one.confirm(9);
        assert_eq!(registry.confirmed(9, Duration::from_secs(5)).await, Confirmed::ByAll);
    }
}
