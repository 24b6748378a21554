//! One instance under observation.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use observability::HealthShard;
use service_registry::{Change, Health, Instance, Registry, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::CheckPolicy;
use super::check::{CheckChannel, CheckError};
use super::ejection::{Ejections, may_eject};
use super::success_rate::SuccessRate;
use crate::SuspicionKind;

/// Between checks of a replica that was never healthy: the first wait, doubled up to [`UNSETTLED`].
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Between checks while the state changes, unless the interval is shorter.
const UNSETTLED: Duration = Duration::from_secs(1);
/// How long a check may take that decides about a suspicion…
const DECIDING: Duration = Duration::from_millis(50);
/// …or as many times what the last passed check took, where that is longer: a replica that is far away does not come nearer
/// because it is suspected.
const DECIDING_CHECKS: u32 = 4;

/// One instance and what is known of it.
pub(super) struct Subject {
    registry: Registry,
    instance: Arc<Instance>,
    policies: watch::Receiver<Arc<CheckPolicy>>,
    policy: Arc<CheckPolicy>,
    suspicions: mpsc::Receiver<SuspicionKind>,
    shard: Arc<HealthShard>,
    random: fastrand::Rng,
    passed: u32,
    failed: u32,
    /// What the checks say.
    checked: Verdict,
    ejections: Ejections,
    success_rate: SuccessRate,
}

impl Subject {
    pub(super) fn new(
        registry: Registry,
        instance: Arc<Instance>,
        mut policies: watch::Receiver<Arc<CheckPolicy>>,
        suspicions: mpsc::Receiver<SuspicionKind>,
        shard: Arc<HealthShard>,
        random: fastrand::Rng,
    ) -> Self {
        let policy = Arc::clone(&policies.borrow_and_update());
        // An endpoint whose version alone is another is held for what it was held before.
        let snapshot = registry.snapshot();
        let known = snapshot.replica(&instance.replica).map(|replica| replica.health.verdict);
        let checked = match known {
            Some(Verdict::Ejected) => {
                // Whatever its calls failed by may be gone with the version before. One call decides, once its checks pass.
                instance.outcomes.begin_probation();
                Verdict::Unhealthy
            }
            Some(verdict) => verdict,
            None => Verdict::Unknown,
        };
        let ejections = Ejections::default();
        let service = snapshot.service(&instance.replica.service);
        let success_rate = SuccessRate::new(service.map(|service| &**service));
        Self {
            registry,
            instance,
            policies,
            policy,
            suspicions,
            shard,
            random,
            passed: 0,
            failed: 0,
            checked,
            ejections,
            success_rate,
        }
    }

    /// Checks from `begins` on, until the task is aborted. `probe` is the seam: what one check does.
    pub(super) async fn keep_checking<P, F>(mut self, begins: Instant, probe: P)
    where
        P: Fn(Arc<Instance>, CheckChannel) -> F,
        F: Future<Output = Result<(), CheckError>>,
    {
        sleep_until(begins).await;
        let mut first_wait = FIRST_WAIT;
        let mut suspected = 0;
        loop {
            let (result, took) = self.check(&probe, &mut suspected).await;
            self.conclude(&result, took, suspected);
            self.publish(result.err().map(CheckError::into_text), suspected);
            self.judge_success_rate();
            let settled = self.checked == Verdict::Healthy && self.failed == 0;
            let wait = if settled {
                self.policy.interval.mul_f64(0.9 + self.random.f64() * 0.2)
            } else if self.checked == Verdict::Unknown {
                let wait = first_wait;
                first_wait = (first_wait * 2).min(UNSETTLED).min(self.policy.interval);
                wait
            } else {
                UNSETTLED.min(self.policy.interval)
            };
            suspected = self.wait(wait).await;
        }
    }

    /// One check, and how long it took. A suspicion that comes meanwhile begins another one, since what the running one finds
    /// may be from before; but one that answers suspicions already is short, and is not begun again.
    async fn check<P, F>(&mut self, probe: &P, suspected: &mut u64) -> (Result<(), CheckError>, Duration)
    where
        P: Fn(Arc<Instance>, CheckChannel) -> F,
        F: Future<Output = Result<(), CheckError>>,
    {
        loop {
            let (began, limit) = (Instant::now(), self.limit(*suspected));
            let checked = probe(Arc::clone(&self.instance), self.policy.channel.clone());
            // Boxed: a check is rare, and its state would be kept for each instance all the time.
            let mut checked = Box::pin(timeout(limit, checked));
            tokio::select! {
                biased;
                result = &mut checked => {
                    let late = |_| Err(CheckError::Failed(format!("no answer within {limit:?}")));
                    return (result.unwrap_or_else(late), began.elapsed());
                }
                Some(kind) = self.suspicions.recv(), if *suspected == 0 => *suspected = self.hear(kind),
            }
        }
    }

    fn limit(&self, suspected: u64) -> Duration {
        if suspected == 0 {
            return self.policy.timeout;
        }
        let usual = self.instance.last_check.latency().unwrap_or_default();
        DECIDING.max(usual * DECIDING_CHECKS).min(self.policy.timeout)
    }

    /// What the result of a check makes of the verdict.
    fn conclude(&mut self, result: &Result<(), CheckError>, took: Duration, suspected: u64) {
        match result {
            // Nothing was learned, so nothing is concluded; but whoever suspects must not wait for ever.
            Err(CheckError::Local(reason)) => {
                tracing::warn!(replica = %self.instance.replica, reason, "a health check could not be made");
            }
            Ok(()) => {
                (self.passed, self.failed) = (self.passed + 1, 0);
                self.instance.last_check.passed(took);
                if self.passed >= self.policy.healthy_threshold {
                    self.checked = Verdict::Healthy;
                }
            }
            Err(CheckError::Failed(reason)) => {
                (self.passed, self.failed) = (0, self.failed + 1);
                self.instance.last_check.failed(reason.clone());
                // A failed call and a failed check are two witnesses; the threshold is for checks alone.
                let enough = self.failed >= self.policy.unhealthy_threshold || suspected > 0;
                if enough && self.checked != Verdict::Unknown {
                    self.checked = Verdict::Unhealthy;
                }
                // Its verdict does not change, so this is the only word about it.
                if self.checked == Verdict::Unknown && self.failed == self.policy.unhealthy_threshold {
                    tracing::warn!(replica = %self.instance.replica, reason, "the replica has passed no check yet");
                }
            }
        }
    }

    /// Waits for the next check; returns how many suspicions it will answer.
    async fn wait(&mut self, wait: Duration) -> u64 {
        let now = Instant::now();
        let until = self.ejections.until().map_or(now + wait, |until| until.min(now + wait));
        let heard = tokio::select! {
            biased;
            Some(kind) = self.suspicions.recv() => Some(kind),
            Ok(()) = self.policies.changed() => {
                self.policy = Arc::clone(&self.policies.borrow_and_update());
                None
            }
            () = sleep_until(until) => None,
        };
        if self.ejections.end_if_over(Instant::now()) {
            // Before it is published: whoever sees that it may be chosen must also see that one call decides.
            self.instance.outcomes.begin_probation();
        }
        heard.map_or(0, |kind| self.hear(kind))
    }

    /// What suspicions change before a check has answered them. Returns how many there were.
    fn hear(&mut self, first: SuspicionKind) -> u64 {
        let mut kinds = vec![first];
        while let Ok(another) = self.suspicions.try_recv() {
            kinds.push(another);
        }
        if kinds.contains(&SuspicionKind::Refused) && self.checked == Verdict::Healthy {
            self.checked = Verdict::Unhealthy;
            self.publish(Some("it refused a connection".into()), 0);
        }
        if kinds.contains(&SuspicionKind::Failing) {
            self.eject("its calls fail");
        }
        kinds.len() as u64
    }

    fn judge_success_rate(&mut self) {
        let snapshot = self.registry.snapshot();
        let service = snapshot.service(&self.instance.replica.service);
        if let Some(percent) = service.and_then(|service| self.success_rate.too_low(service, &self.instance))
        {
            self.eject(&format!("only {percent} % of its calls succeed"));
        }
    }

    fn eject(&mut self, why: &str) {
        if self.checked != Verdict::Healthy || self.ejections.until().is_some() {
            return;
        }
        let snapshot = self.registry.snapshot();
        let id = &self.instance.replica;
        let allowed = snapshot
            .service(&id.service)
            .is_some_and(|service| may_eject(service, id, self.policy.max_ejected_percent));
        if !allowed {
            tracing::warn!(replica = %id, why, "it is not left alone, since too few other replicas would be left");
            self.instance.outcomes.succeeded();
            return;
        }
        let length = self.ejections.begin(self.policy.ejection, Instant::now());
        self.shard.ejections.add_one();
        self.publish(Some(format!("{why}; left alone for {length:?}")), 0);
    }

    fn verdict(&self) -> Verdict {
        match self.checked {
            Verdict::Healthy if self.ejections.until().is_some() => Verdict::Ejected,
            other => other,
        }
    }

    fn publish(&self, reason: Option<String>, answered: u64) {
        let (id, verdict) = (&self.instance.replica, self.verdict());
        let mut changed = false;
        self.registry.update(id, |replica| {
            let current = replica.instance.as_ref().map(|instance| instance.incarnation);
            let changes = replica.health.verdict != verdict || answered > 0;
            if current != Some(self.instance.incarnation) || !changes {
                return Change::None;
            }
            changed = replica.health.verdict != verdict;
            if changed && verdict == Verdict::Healthy {
                self.instance.served_first.get_or_init(Instant::now);
                // A probe that failed while the checks did is decided by the checks first, then by another one.
                self.instance.outcomes.probe_again();
            }
            let since = if changed { Timestamp::now() } else { replica.health.since };
            let reason = match verdict {
                Verdict::Healthy => None,
                _ if reason.is_none() => replica.health.reason.clone(),
                _ => reason.clone(),
            };
            replica.health = Health { verdict, since, reason, answered: replica.health.answered + answered };
            Change::Made
        });
        // Not inside of the update, which others wait for, while standard error may be slow.
        if changed {
            let reason = reason.unwrap_or_default();
            tracing::info!(replica = %id, health = verdict.as_str(), reason, "the replica's health changed");
        }
    }
}
