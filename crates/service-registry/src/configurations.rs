//! Which configuration each service is to work with, and what its replicas have made of it.
//!
//! Which of two is in force is the authority's word, by its digest: so another one is made known here before that is decided, and
//! is the one that is wanted after. What a replica has made of it is what it has said itself, over the mesh API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use types::{NodeName, ReplicaId, ServiceName};

/// Between two looks of somebody who waits: many replicas say something in a moment, and each look is at all of them.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A configuration of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The number of the revision in which it was changed last.
    pub revision: u64,
    /// SHA-256 of its canonical JSON.
    pub digest: [u8; 32],
    /// An object.
    pub value: Arc<Value>,
}

/// What a replica has made of the configuration that it is to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It has not said yet.
    Pending,
    /// It works with it.
    Applied,
    /// It cannot, as this says, and goes on with the one before.
    Rejected(String),
}

/// A replica and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfiguration {
    /// The number of the one that it is to work with.
    pub wanted: u64,
    /// The number of the last one that it has said it works with.
    pub applied: Option<u64>,
    /// What it has made of the one that is wanted.
    pub taken: Taken,
    /// When it has said so, or was launched.
    pub since: Option<Timestamp>,
}

/// The configurations of all services; its clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Configurations(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// Which node this is, where there may be others. What their replicas have made of it, they know.
    node: Option<NodeName>,
    revision: u64,
    services: BTreeMap<ServiceName, OfService>,
    replicas: BTreeMap<ReplicaId, Said>,
}

#[derive(Debug)]
struct OfService {
    wanted: Configuration,
    /// One that may be in force already.
    next: Option<Configuration>,
}

/// What a replica has said last.
#[derive(Debug, Default)]
struct Said {
    applied: Option<u64>,
    /// Of the configuration with this number.
    last: Option<(u64, Taken)>,
    since: Option<Timestamp>,
}

impl Configurations {
    /// Those of the replicas of one node, where there may be others.
    pub fn of_node(node: Option<NodeName>) -> Self {
        Self(Arc::new(watch::Sender::new(State { node, ..State::default() })))
    }

    /// Makes configurations known that are about to be in force. What is the same as before keeps its number.
    pub fn prepare(
        &self,
        revision: u64,
        services: impl IntoIterator<Item = (ServiceName, [u8; 32], Arc<Value>)>,
    ) {
        self.0.send_modify(|state| {
            for (service, digest, value) in services {
                let next = Configuration { revision, digest, value };
                match state.services.get_mut(&service) {
                    Some(known) => known.next = Some(next).filter(|next| next.digest != known.wanted.digest),
                    None => {
                        state.services.insert(service, OfService { wanted: next, next: None });
                    }
                }
            }
        });
    }

    /// Those that were prepared are in force, and so is the revision with this number.
    pub fn take_over(&self, revision: u64) {
        self.0.send_modify(|state| {
            state.revision = revision;
            for service in state.services.values_mut() {
                if let Some(next) = service.next.take() {
                    service.wanted = next;
                }
            }
        });
    }

    /// Those that were prepared will not be in force.
    pub fn give_up(&self) {
        self.0.send_modify(|state| {
            for service in state.services.values_mut() {
                service.next = None;
            }
        });
    }

    /// The configuration of a service that has this digest, if it is in force or about to be.
    pub fn of_digest(&self, service: &ServiceName, digest: &[u8; 32]) -> Option<Configuration> {
        let state = self.0.borrow();
        let known = state.services.get(service)?;
        let mut both = [Some(&known.wanted), known.next.as_ref()].into_iter().flatten();
        both.find(|one| one.digest == *digest).cloned()
    }

    /// Writes down what a replica has made of the configuration with this number; says whether it is news.
    pub fn said(&self, replica: &ReplicaId, revision: u64, taken: Taken, now: Timestamp) -> bool {
        self.0.send_if_modified(|state| {
            let said = state.replicas.entry(replica.clone()).or_default();
            let last = Some((revision, taken));
            if said.last == last {
                return false;
            }
            if matches!(last, Some((_, Taken::Applied))) {
                said.applied = Some(revision);
            }
            (said.last, said.since) = (last, Some(now));
            true
        })
    }

    /// A replica is launched anew: what the process before has said is nothing to it.
    pub fn launched(&self, replica: &ReplicaId, now: Timestamp) {
        self.0.send_modify(|state| {
            let said = Said { since: Some(now), ..Said::default() };
            state.replicas.insert(replica.clone(), said);
        });
    }

    /// A replica is gone for good.
    pub fn forget(&self, replica: &ReplicaId) {
        self.0.send_if_modified(|state| state.replicas.remove(replica).is_some());
    }

    /// The number of the configuration in force, and of the one that each service is to work with.
    pub fn wanted(&self) -> (u64, BTreeMap<ServiceName, u64>) {
        let state = self.0.borrow();
        let services = state.services.iter().map(|(name, known)| (name.clone(), known.wanted.revision));
        (state.revision, services.collect())
    }

    /// A replica and its configuration; none for one of a service that has none, and none for one of another node.
    pub fn of_replica(&self, replica: &ReplicaId) -> Option<ReplicaConfiguration> {
        let state = self.0.borrow();
        if replica.node != state.node {
            return None;
        }
        let wanted = state.services.get(&replica.service)?.wanted.revision;
        let said = state.replicas.get(replica);
        let last = said.and_then(|said| said.last.as_ref());
        let taken = last.filter(|(revision, _)| *revision == wanted).map(|(_, taken)| taken.clone());
        Some(ReplicaConfiguration {
            wanted,
            applied: said.and_then(|said| said.applied),
            taken: taken.unwrap_or(Taken::Pending),
            since: said.and_then(|said| said.since),
        })
    }

    /// Returns once something holds, which is asked again soon after any of it has changed.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        let mut changes = self.0.subscribe();
        while !holds() {
            // This holds the sender.
            let _changed = changes.changed().await.is_ok();
            sleep(BETWEEN_LOOKS).await;
            changes.mark_unchanged();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn service(name: &str, digest: u8) -> (ServiceName, [u8; 32], Arc<Value>) {
        (name.parse().unwrap(), [digest; 32], Arc::new(json!({"of": digest})))
    }

    fn replica(text: &str) -> ReplicaId {
        text.parse().unwrap()
    }

    /// Two services, at the start.
    fn configurations() -> Configurations {
        let configurations = Configurations::default();
        configurations.prepare(4, [service("oracle", 1), service("vrf", 2)]);
        configurations.take_over(4);
        configurations
    }

    #[test]
    fn only_what_is_another_configuration_has_another_number() {
        let configurations = configurations();
        configurations.prepare(5, [service("oracle", 3), service("vrf", 2)]);
        configurations.take_over(6);
        let wanted: Vec<_> = configurations.wanted().1.into_values().collect();
        assert_eq!((configurations.wanted().0, wanted), (6, vec![5, 4]));
    }

    #[test]
    fn while_it_is_decided_both_are_known_and_what_is_given_up_never_was() {
        let configurations = configurations();
        let known = |digest| {
            let found = configurations.of_digest(&"oracle".parse().unwrap(), &[digest; 32]);
            found.map(|found| found.revision)
        };
        configurations.prepare(5, [service("oracle", 3)]);
        assert_eq!([known(1), known(3), known(9)], [Some(4), Some(5), None]);
        configurations.give_up();
        assert_eq!([known(1), known(3)], [Some(4), None]);
        configurations.take_over(5);
        assert_eq!([known(1), known(3)], [Some(4), None]);
        configurations.prepare(6, [service("oracle", 3)]);
        configurations.take_over(6);
        assert_eq!([known(1), known(3)], [None, Some(6)]);
    }

    #[test]
    fn what_a_replica_has_said_counts_for_the_configuration_that_it_is_about() {
        let (configurations, oracle) = (configurations(), replica("oracle/0"));
        let state = || {
            let found = configurations.of_replica(&oracle).unwrap();
            (found.wanted, found.applied, found.taken)
        };
        assert_eq!(state(), (4, None, Taken::Pending));
        assert!(configurations.said(&oracle, 4, Taken::Applied, NOW));
        assert!(!configurations.said(&oracle, 4, Taken::Applied, NOW), "it is said again");
        assert_eq!(state(), (4, Some(4), Taken::Applied));
        configurations.prepare(5, [service("oracle", 3)]);
        configurations.take_over(5);
        assert_eq!(state(), (5, Some(4), Taken::Pending));
        let rejected = Taken::Rejected("no".into());
        assert!(configurations.said(&oracle, 5, rejected.clone(), NOW));
        assert_eq!(state(), (5, Some(4), rejected));
        configurations.launched(&oracle, NOW);
        assert_eq!(state(), (5, None, Taken::Pending));
        assert_eq!(configurations.of_replica(&replica("legacy/0")), None);
        assert_eq!(configurations.of_replica(&replica("oracle/0@n2")), None, "it says so to its own node");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_when_it_holds() {
        let (configurations, oracle) = (configurations(), replica("oracle/0"));
        let answered = || configurations.of_replica(&oracle).is_some_and(|found| found.applied == Some(4));
        let waits = tokio::time::timeout(Duration::from_secs(9), configurations.until(answered));
        let says = async {
            tokio::task::yield_now().await;
            configurations.said(&replica("vrf/0"), 4, Taken::Applied, NOW);
            tokio::task::yield_now().await;
            configurations.said(&oracle, 4, Taken::Applied, NOW);
        };
        assert!(tokio::join!(waits, says).0.is_ok());
    }
}
