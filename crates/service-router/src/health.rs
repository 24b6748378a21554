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

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use observability::Metrics;
use service_registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use types::ServiceName;

pub use check::{CheckChannel, Probe};
use subject::Subject;

use crate::{Suspicion, SuspicionKind};

/// Suspicions waiting at one checker; more say nothing new.
const QUEUED_SUSPICIONS: usize = 16;

/// How the replicas of a service are checked.
#[derive(Debug, Clone)]
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

/// The policies of all services.
pub type CheckPolicies = Arc<BTreeMap<ServiceName, Arc<CheckPolicy>>>;

/// Checks every instance in the registry.
pub struct HealthOwner {
    registry: Registry,
    policies: watch::Receiver<CheckPolicies>,
    suspicions: mpsc::Receiver<Suspicion>,
    metrics: Arc<Metrics>,
    random: fastrand::Rng,
}

struct Checker {
    policy: Arc<CheckPolicy>,
    suspicions: mpsc::Sender<SuspicionKind>,
    task: AbortHandle,
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
        let mut checkers: HashMap<u64, Checker> = HashMap::new();
        let mut tasks = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            self.follow(&mut checkers, &mut tasks);
            tokio::select! {
                () = &mut shutdown => return,
                changed = snapshots.changed() => if changed.is_err() {
                    return;
                },
                changed = policies.changed() => if changed.is_err() {
                    return;
                },
                Some(suspicion) = self.suspicions.recv() => {
                    if let Some(checker) = checkers.get(&suspicion.incarnation) {
                        // A full queue means that a check is about to run anyway.
                        let _full_or_ended = checker.suspicions.try_send(suspicion.kind).is_err();
                    }
                }
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    /// One checker for each instance there is, none for those that are gone; another one where the policy is another.
    fn follow(&mut self, checkers: &mut HashMap<u64, Checker>, tasks: &mut JoinSet<()>) {
        let snapshot = self.registry.snapshot();
        let policies = Arc::clone(&self.policies.borrow_and_update());
        let mut wanted = HashMap::new();
        for replica in snapshot.services.iter().flat_map(|service| &service.replicas) {
            if let (Some(instance), Some(policy)) = (&replica.instance, policies.get(&replica.id.service)) {
                wanted.insert(instance.incarnation, (instance, policy));
            }
        }
        checkers.retain(|incarnation, checker| {
            let same =
                wanted.get(incarnation).is_some_and(|(_, policy)| Arc::ptr_eq(policy, &checker.policy));
            if !same {
                checker.task.abort();
            }
            same
        });
        for (incarnation, (instance, policy)) in wanted {
            checkers.entry(incarnation).or_insert_with(|| {
                let (suspicions, received) = mpsc::channel(QUEUED_SUSPICIONS);
                let subject = Subject::new(
                    self.registry.clone(),
                    Arc::clone(instance),
                    Arc::clone(policy),
                    received,
                    self.metrics.health(instance.replica.service.as_str()),
                    self.random.fork(),
                );
                let task = tasks.spawn(subject.keep_checking(check::run));
                Checker { policy: Arc::clone(policy), suspicions, task }
            });
        }
    }
}

#[cfg(test)]
mod tests;
