//! The health owner: the one task that decides who is healthy, for the whole process.
//!
//! Each instance has a checker that waits between checks, or until the request path suspects it. A verdict that changes,
//! and the answer to a suspicion, are published; a check that changes nothing publishes nothing.
//!
//! ```text
//! unknown ──checks pass──▶ healthy ──too many calls fail──▶ ejected ──time──▶ on probation: one call decides
//!                           │   ▲                             ▲                  │ fails        │ succeeds
//!             checks fail   ▼   │ checks pass                 └──────────────────┘              ▼
//!                          unhealthy                                                          healthy
//! ```

mod check;
mod ejection;
mod subject;
mod success_rate;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use observability::Metrics;
use service_registry::{Registry, Service, Snapshot, Version};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use types::ServiceName;

pub use check::{CheckChannel, Probe};
use subject::Subject;

use crate::{Suspicion, SuspicionKind};

/// Suspicions waiting at one checker; more say nothing new.
const QUEUED_SUSPICIONS: usize = 16;
/// Between the first checks of instances that come together: thousands of them begin one after the other, so that neither
/// they nor the requests beside them have to wait for a burst.
const FIRST_CHECKS: Duration = Duration::from_micros(500);

/// How the replicas of a service are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPolicy {
    /// What is asked, and how.
    pub channel: CheckChannel,
    /// Between two checks of a replica whose state does not change.
    pub interval: Duration,
    /// Until a check counts as failed.
    pub timeout: Duration,
    /// Checks passed in a row that make a replica healthy.
    pub healthy_threshold: u32,
    /// Checks failed in a row that make a replica unhealthy.
    pub unhealthy_threshold: u32,
    /// How long a replica whose calls fail is left alone the first time.
    pub ejection: Duration,
    /// How many of a service's replicas may be left alone at once, in percent.
    pub max_ejected_percent: u8,
}

/// How the replicas of a service are checked, of which several versions may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// All replicas, but for those of former versions.
    pub latest: Arc<CheckPolicy>,
    /// Those of versions that another one takes the place of, as the configuration said of them.
    pub former: Vec<(Version, Arc<CheckPolicy>)>,
}

impl Checks {
    fn of(&self, version: &Version) -> &Arc<CheckPolicy> {
        let former = self.former.iter().find(|(former, _)| former == version);
        former.map_or(&self.latest, |(_, policy)| policy)
    }
}

impl From<CheckPolicy> for Checks {
    fn from(latest: CheckPolicy) -> Self {
        Self { latest: Arc::new(latest), former: Vec::new() }
    }
}

/// The policies of all services.
pub type CheckPolicies = Arc<BTreeMap<ServiceName, Arc<Checks>>>;

/// Checks every instance in the registry.
pub struct HealthOwner {
    registry: Registry,
    policies: watch::Receiver<CheckPolicies>,
    suspicions: mpsc::Receiver<Suspicion>,
    metrics: Arc<Metrics>,
    random: fastrand::Rng,
}

/// The checkers of one service, by the incarnation of what they check.
type Checkers = HashMap<u64, Checker>;

struct Checker {
    /// Another one is taken over without beginning anew: what was found under the one before stays.
    policy: watch::Sender<Arc<CheckPolicy>>,
    suspicions: mpsc::Sender<SuspicionKind>,
    task: AbortHandle,
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is being checked, and up to where the registry was followed.
#[derive(Default)]
struct Watched {
    services: HashMap<ServiceName, Checkers>,
    snapshot: Arc<Snapshot>,
    policies: CheckPolicies,
    tasks: JoinSet<()>,
    /// When the next first check may begin.
    next_first: Option<Instant>,
}

impl HealthOwner {
    /// An owner that checks each service by its policy, and by another one as soon as there is one; a service without one
    /// is never healthy.
    pub fn new(
        registry: Registry,
        policies: watch::Receiver<CheckPolicies>,
        suspicions: mpsc::Receiver<Suspicion>,
        metrics: Arc<Metrics>,
        random: fastrand::Rng,
    ) -> Self {
        Self { registry, policies, suspicions, metrics, random }
    }

    /// Checks until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut snapshots = self.registry.subscribe();
        let mut policies = self.policies.clone();
        let mut watched = Watched::default();
        tokio::pin!(shutdown);
        loop {
            self.follow(&mut watched);
            tokio::select! {
                () = &mut shutdown => return,
                changed = snapshots.changed() => if changed.is_err() {
                    return;
                },
                changed = policies.changed() => if changed.is_err() {
                    return;
                },
                Some(suspicion) = self.suspicions.recv() => {
                    let of_service = watched.services.get(&suspicion.replica.service);
                    if let Some(checker) = of_service.and_then(|checkers| checkers.get(&suspicion.incarnation)) {
                        // A full queue means that a check is about to run anyway.
                        let _full_or_ended = checker.suspicions.try_send(suspicion.kind).is_err();
                    }
                }
            }
            while watched.tasks.try_join_next().is_some() {}
        }
    }

    /// One checker for each instance there is, none for those that are gone. Only what has changed is looked at.
    fn follow(&mut self, watched: &mut Watched) {
        let (snapshot, policies) = (self.registry.snapshot(), Arc::clone(&self.policies.borrow_and_update()));
        if Arc::ptr_eq(&snapshot, &watched.snapshot) && Arc::ptr_eq(&policies, &watched.policies) {
            return;
        }
        let before = std::mem::replace(&mut watched.snapshot, Arc::clone(&snapshot));
        let former = std::mem::replace(&mut watched.policies, Arc::clone(&policies));
        let same_policies = Arc::ptr_eq(&former, &policies);
        let mut moved = before.services.len() != snapshot.services.len();
        for (place, service) in snapshot.services.iter().enumerate() {
            let known = before.services.get(place);
            let same_facts = known.is_some_and(|known| Arc::ptr_eq(known, service));
            if same_facts && same_policies {
                continue;
            }
            moved |= known.is_none_or(|known| known.name != service.name);
            let checks = policies.get(&service.name);
            if !same_facts || former.get(&service.name).map(Arc::as_ptr) != checks.map(Arc::as_ptr) {
                self.follow_service(watched, service, checks);
            }
        }
        if moved {
            let names: HashSet<_> = snapshot.services.iter().map(|service| &service.name).collect();
            watched.services.retain(|name, _| names.contains(name));
        }
    }

    fn follow_service(&mut self, watched: &mut Watched, service: &Service, checks: Option<&Arc<Checks>>) {
        let Some(checks) = checks else {
            watched.services.remove(&service.name);
            return;
        };
        let checkers = watched.services.entry(service.name.clone()).or_default();
        let instances = || service.replicas.iter().filter_map(|replica| replica.instance.as_ref());
        let wanted: HashSet<u64> = instances().map(|instance| instance.incarnation).collect();
        checkers.retain(|incarnation, _| wanted.contains(incarnation));
        for instance in instances() {
            let policy = checks.of(&instance.version);
            if let Some(checker) = checkers.get(&instance.incarnation) {
                checker.policy.send_if_modified(|known| {
                    let differs = known != policy;
                    known.clone_from(policy);
                    differs
                });
                continue;
            }
            let (suspicions, received) = mpsc::channel(QUEUED_SUSPICIONS);
            let (policies, follows) = watch::channel(Arc::clone(policy));
            let subject = Subject::new(
                self.registry.clone(),
                Arc::clone(instance),
                follows,
                received,
                Arc::clone(self.metrics.service(service.name.as_str()).health()),
                self.random.fork(),
            );
            let begins = watched.next_first.map_or_else(Instant::now, |next| next.max(Instant::now()));
            watched.next_first = Some(begins + FIRST_CHECKS);
            let task = watched.tasks.spawn(subject.keep_checking(begins, check::run));
            checkers.insert(instance.incarnation, Checker { policy: policies, suspicions, task });
        }
    }
}

#[cfg(test)]
mod tests;
