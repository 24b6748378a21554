//! The health owner: the one task that decides who is healthy, for the whole process.
//!
//! Each instance has a checker that waits between checks, or until the request path suspects it. A verdict that changes,
//! and the answer to a suspicion, are published; a check that changes nothing publishes nothing.

mod check;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_registry::{Change, Health, Instance, Registry, Verdict};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use types::ServiceName;

use crate::health::check::CheckError;
use crate::{Suspicion, SuspicionKind};

/// Suspicions waiting at one checker; more say nothing new.
const QUEUED_SUSPICIONS: usize = 16;
/// Between checks of a replica that was never healthy: the first wait, doubled up to [`UNSETTLED`].
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Between checks while the state changes, unless the interval is shorter.
const UNSETTLED: Duration = Duration::from_secs(1);

/// How the replicas of a service are checked.
#[derive(Debug, Clone)]
pub struct CheckPolicy {
    /// The path of the check.
    pub path: String,
    /// Between two checks of a replica whose state does not change.
    pub interval: Duration,
    /// Until a check counts as failed.
    pub timeout: Duration,
    /// Checks passed in a row that make a replica healthy.
    pub healthy_threshold: u32,
    /// Checks failed in a row that make a replica unhealthy.
    pub unhealthy_threshold: u32,
}

/// Checks every instance in the registry.
pub struct HealthOwner {
    registry: Registry,
    policies: BTreeMap<ServiceName, CheckPolicy>,
    suspicions: mpsc::Receiver<Suspicion>,
    random: fastrand::Rng,
}

struct Checker {
    suspicions: mpsc::Sender<SuspicionKind>,
    task: AbortHandle,
}

impl HealthOwner {
    /// An owner that checks each service by its policy; a service without one is never healthy.
    pub fn new(
        registry: Registry,
        policies: BTreeMap<ServiceName, CheckPolicy>,
        suspicions: mpsc::Receiver<Suspicion>,
        random: fastrand::Rng,
    ) -> Self {
        Self { registry, policies, suspicions, random }
    }

    /// Checks until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut snapshots = self.registry.subscribe();
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

    /// One checker for each instance there is, none for those that are gone.
    fn follow(&mut self, checkers: &mut HashMap<u64, Checker>, tasks: &mut JoinSet<()>) {
        let snapshot = self.registry.snapshot();
        let instances = || {
            let services = snapshot.services.iter();
            services
                .flat_map(|service| service.replicas.iter().filter_map(|replica| replica.instance.as_ref()))
        };
        checkers.retain(|incarnation, checker| {
            let lives = instances().any(|instance| instance.incarnation == *incarnation);
            if !lives {
                checker.task.abort();
            }
            lives
        });
        for instance in instances() {
            let Some(policy) = self.policies.get(&instance.replica.service) else { continue };
            checkers.entry(instance.incarnation).or_insert_with(|| {
                let (suspicions, received) = mpsc::channel(QUEUED_SUSPICIONS);
                let subject = Subject {
                    registry: self.registry.clone(),
                    instance: Arc::clone(instance),
                    policy: policy.clone(),
                    suspicions: received,
                    random: self.random.fork(),
                };
                Checker { suspicions, task: tasks.spawn(subject.keep_checking(check::over_http)) }
            });
        }
    }
}

/// One instance under observation.
struct Subject {
    registry: Registry,
    instance: Arc<Instance>,
    policy: CheckPolicy,
    suspicions: mpsc::Receiver<SuspicionKind>,
    random: fastrand::Rng,
}

impl Subject {
    /// Checks until the task is aborted. `probe` is the seam: what one check does.
    async fn keep_checking<P, F>(mut self, probe: P)
    where
        P: Fn(Arc<Instance>, String) -> F,
        F: Future<Output = Result<(), CheckError>>,
    {
        let (mut passed, mut failed) = (0_u32, 0_u32);
        let mut verdict = Verdict::Unknown;
        let mut first_wait = FIRST_WAIT;
        let mut suspected = 0;
        loop {
            let began = Instant::now();
            let path = self.policy.path.clone();
            let limit = self.policy.timeout;
            let result = timeout(limit, probe(Arc::clone(&self.instance), path)).await;
            let result =
                result.unwrap_or_else(|_| Err(CheckError::Failed(format!("no answer within {limit:?}"))));
            match &result {
                Err(CheckError::Local(reason)) => {
                    tracing::warn!(replica = %self.instance.replica, reason, "a health check could not be made");
                    // Nothing was learned, so nothing is concluded; but whoever suspects must not wait for ever.
                }
                Ok(()) => {
                    (passed, failed) = (passed + 1, 0);
                    self.instance.last_check.passed(began.elapsed());
                    if passed >= self.policy.healthy_threshold {
                        verdict = Verdict::Healthy;
                    }
                }
                Err(CheckError::Failed(reason)) => {
                    (passed, failed) = (0, failed + 1);
                    self.instance.last_check.failed(reason.clone());
                    // A failed call and a failed check are two witnesses; the threshold is for checks alone.
                    let enough = failed >= self.policy.unhealthy_threshold || suspected > 0;
                    if enough && verdict != Verdict::Unknown {
                        verdict = Verdict::Unhealthy;
                    }
                }
            }
            let reason = result.err().map(CheckError::into_text);
            self.publish(verdict, reason, suspected);
            let settled = verdict == Verdict::Healthy && failed == 0;
            let wait = if settled {
                self.policy.interval.mul_f64(0.9 + self.random.f64() * 0.2)
            } else if verdict == Verdict::Unknown {
                let wait = first_wait;
                first_wait = (first_wait * 2).min(UNSETTLED).min(self.policy.interval);
                wait
            } else {
                UNSETTLED.min(self.policy.interval)
            };
            suspected = self.wait(wait, &mut verdict).await;
        }
    }

    /// Waits for the next check; returns how many suspicions it will answer.
    async fn wait(&mut self, wait: Duration, verdict: &mut Verdict) -> u64 {
        let Ok(received) = timeout(wait, self.suspicions.recv()).await else { return 0 };
        let Some(mut kind) = received else {
            // The owner is gone and this task about to be.
            return std::future::pending().await;
        };
        let mut suspected = 1;
        while let Ok(another) = self.suspicions.try_recv() {
            suspected += 1;
            if another == SuspicionKind::Refused {
                kind = another;
            }
        }
        if kind == SuspicionKind::Refused && *verdict == Verdict::Healthy {
            *verdict = Verdict::Unhealthy;
            self.publish(*verdict, Some("it refused a connection".into()), 0);
        }
        suspected
    }

    fn publish(&self, verdict: Verdict, reason: Option<String>, answered: u64) {
        let id = &self.instance.replica;
        let mut changed = false;
        self.registry.update(id, |replica| {
            let current = replica.instance.as_ref().map(|instance| instance.incarnation);
            let changes = replica.health.verdict != verdict || answered > 0;
            if current != Some(self.instance.incarnation) || !changes {
                return Change::None;
            }
            let since =
                if replica.health.verdict == verdict { replica.health.since } else { Timestamp::now() };
            changed = replica.health.verdict != verdict;
            let answered = replica.health.answered + answered;
            let reason = if verdict == Verdict::Healthy { None } else { reason.clone() };
            replica.health = Health { verdict, since, reason, answered };
            Change::Made
        });
        // Not inside of the update, which others wait for, while standard error may be slow.
        if changed {
            let reason = reason.unwrap_or_default();
            tracing::info!(replica = %id, health = verdict.as_str(), reason, "the replica's health changed");
        }
    }
}

#[cfg(test)]
mod tests;
