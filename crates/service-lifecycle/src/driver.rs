//! The one task that owns a replica's state.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_registry::{
    Attestation, Change, Channel, Confirmed, Health, Instance, LifecycleState, Presence, Registration,
    Registry, Replica, Verdict,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use types::ReplicaId;

use crate::backoff::Backoff;
use crate::{Cause, Event, Exit, Launch, LaunchError, Left, Listening, Process, Signal, transition};

/// How long a drain waits for the gateway's workers to confirm that they select the replica no more.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long a process that closed its descriptor is given to end, so that it can be told how it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a replica that has registered itself is shown once it is not there any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What the configuration says of a replica's life.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The label of the version that runs.
    pub version: Arc<str>,
    /// From the launch until it must be Ready.
    pub start_timeout: Duration,
    /// How long requests in flight may take to finish.
    pub drain_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// The first wait before a restart.
    pub restart_min: Duration,
    /// The longest wait before a restart.
    pub restart_max: Duration,
    /// How long it must have been Ready for the waits to begin anew.
    pub restart_reset: Duration,
}

/// What a driver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// Keep the replica running.
    #[default]
    No,
    /// Finish what is in flight, then stop.
    Drain,
    /// Stop at once.
    Now,
}

/// Drives one replica through its lives.
pub struct Driver<L> {
    replica: ReplicaId,
    policy: Policy,
    launcher: Arc<L>,
    registry: Registry,
    stop: watch::Receiver<Stop>,
    random: fastrand::Rng,
    /// Whether it was asked for a process that was there before.
    has_looked: bool,
}

/// How one life ended.
enum Ended {
    /// By order; the driver ends too.
    Stopped,
    /// By itself, or because its attestation has ceased to hold.
    Died {
        /// How long it had been Ready.
        ready_for: Duration,
        /// Why, as the operator is told.
        reason: String,
    },
}

impl<L: Launch> Driver<L> {
    /// A driver of a replica that does not run yet.
    pub fn new(
        replica: ReplicaId,
        policy: Policy,
        launcher: Arc<L>,
        registry: Registry,
        stop: watch::Receiver<Stop>,
        random: fastrand::Rng,
    ) -> Self {
        Self { replica, policy, launcher, registry, stop, random, has_looked: false }
    }

    /// Keeps the replica running until it is told to stop; returns when no process of it is left.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.policy.restart_min, self.policy.restart_max);
        let mut last = None;
        while let Ended::Died { ready_for, reason } = self.live(last.take()).await {
            if ready_for >= self.policy.restart_reset {
                backoff.reset();
            }
            last = Some(reason);
            if !L::STARTS_AGAIN {
                continue;
            }
            let wait = backoff.wait(&mut self.random);
            let (replica, wait_ms) = (&self.replica, wait.as_millis());
            tracing::warn!(%replica, reason = last, wait_ms, "the replica is started again after a wait");
            if timeout(wait, told(&mut self.stop, Stop::Drain)).await.is_ok() {
                return;
            }
        }
    }

    /// One life, from Stopped to Stopped.
    ///
    /// What ended the last one stays visible while this one starts: a replica that cannot start would otherwise never say
    /// why for longer than the wait.
    async fn live(&mut self, last: Option<String>) -> Ended {
        tokio::select! {
            biased;
            () = told(&mut self.stop, Stop::Drain) => return Ended::Stopped,
            () = self.launcher.may_begin(&self.replica) => {}
            never = vacate(&self.registry, &self.replica) => match never {},
        }
        if last.is_some() {
            self.count_restart();
        }
        let Some(left) = self.left().await else { return Ended::Stopped };
        // What it says is of the life before, or holds for the process that is there.
        let known = self.attestation();
        let mut process = if let Some(process) = left {
            process
        } else {
            self.enter(Event::Launch, last.map(|reason| format!("started again: {reason}")));
            match self.launcher.launch(&self.replica).await {
                Ok(process) => process,
                Err(error) => return self.failed(error.to_string()),
            }
        };
        self.set_pid(process.pid());
        match self.start(&mut process, known).await {
            Started::Ready(instance) => self.serve(process, &instance).await,
            Started::Failed(cause) => {
                self.terminate(&mut process, &cause).await;
                self.failed(cause.reason().to_owned())
            }
            Started::Stopped => {
                let cause = Cause::Wanted("stopped before it was ready".into());
                self.terminate(&mut process, &cause).await;
                self.enter(Event::Failed, Some(cause.reason().to_owned()));
                Ended::Stopped
            }
        }
    }

    /// A process that was there before, where there is one and it was not asked for already; `None` once it is told to stop.
    async fn left(&mut self) -> Option<Option<L::Process>> {
        if std::mem::replace(&mut self.has_looked, true) {
            return Some(None);
        }
        let left = tokio::select! {
            left = self.launcher.left(&self.replica) => left,
            () = told(&mut self.stop, Stop::Drain) => return None,
        };
        let Some(Left { process, restarts }) = left else { return Some(None) };
        self.registry.update(&self.replica, |replica| {
            replica.restarts = restarts;
            Change::Made
        });
        self.enter(Event::Launch, Some("adopted: an earlier serviceos has left it".into()));
        Some(Some(process))
    }

    /// From the launch to the first passed health check. `known` is the attestation as it was before.
    async fn start(&mut self, process: &mut L::Process, known: Option<Attestation>) -> Started {
        let deadline = Instant::now() + self.policy.start_timeout;
        let late = format!("not ready within the start timeout of {:?}", self.policy.start_timeout);
        let listening = tokio::select! {
            listening = tokio::time::timeout_at(deadline, process.listening()) => listening,
            () = told(&mut self.stop, Stop::Drain) => return Started::Stopped,
        };
        let Listening { address, channel, registration } = match listening {
            Ok(Ok(listening)) => listening,
            Ok(Err(LaunchError(reason))) => {
                return Started::Failed(Cause::Failed(self.why(process, reason).await));
            }
            Err(_) => return Started::Failed(Cause::Failed(late)),
        };
        let incarnation = self.registry.next_incarnation();
        let version = self.policy.version.clone();
        let instance = Instance::new(self.replica.clone(), incarnation, address, version);
        let instance = Arc::new(Instance { channel, ..instance });
        self.register(Arc::clone(&instance), registration);
        let leaves = process.leaves();
        tokio::select! {
            exit = process.exited() => Started::Failed(Cause::Failed(exit.to_string())),
            () = leaves => Started::Failed(Cause::Wanted("it left before it was ready".into())),
            () = told(&mut self.stop, Stop::Drain) => Started::Stopped,
            reason = ceased(&self.registry, &self.replica, known) => Started::Failed(Cause::Failed(reason)),
            healthy = tokio::time::timeout_at(deadline, healthy(&self.registry, &self.replica)) => match healthy {
                Ok(()) => Started::Ready(Arc::clone(&instance)),
                Err(_) => Started::Failed(Cause::Failed(match instance.last_check.error() {
                    Some(error) => format!("{late}; the last health check: {error}"),
                    None => late,
                })),
            },
        }
    }

    /// A replica that could not report has usually died, and then its last words say more than the closed descriptor.
    async fn why(&self, process: &mut L::Process, reason: String) -> String {
        match timeout(LAST_WORDS, process.exited()).await {
            Ok(exit) if !exit.is_clean() || reason.is_empty() => exit.to_string(),
            _ => reason,
        }
    }

    /// From Ready to Stopped.
    async fn serve(&mut self, mut process: L::Process, instance: &Instance) -> Ended {
        let ready_since = Instant::now();
        self.enter(Event::Ready, None);
        let leaves = process.leaves();
        let lost = tokio::select! {
            exit = process.exited() => {
                self.lost(&exit);
                return Ended::Died { ready_for: ready_since.elapsed(), reason: exit.to_string() };
            }
            () = told(&mut self.stop, Stop::Drain) => None,
            () = leaves => Some(Cause::Wanted("stopped where it was started".to_owned())),
            reason = ceased(&self.registry, &self.replica, None) => Some(Cause::Failed(reason)),
        };
        let ready_for = ready_since.elapsed();
        self.drain(process, instance, lost.clone()).await;
        match lost {
            Some(cause) if *self.stop.borrow() == Stop::No => {
                Ended::Died { ready_for, reason: cause.reason().to_owned() }
            }
            Some(_) | None => Ended::Stopped,
        }
    }

    /// From Draining to Stopped, by order or for a reason of its own.
    async fn drain(&mut self, mut process: L::Process, instance: &Instance, cause: Option<Cause>) {
        let in_flight = &instance.in_flight;
        let why = cause.as_ref().map(Cause::reason);
        let epoch = self.enter(Event::Drain, Some(why.unwrap_or("stopping").to_owned()));
        let drained = async {
            if self.registry.confirmed(epoch, CONFIRMATION).await == Confirmed::TimedOut {
                tracing::warn!(replica = %self.replica, "a gateway worker did not confirm the drain in time");
            }
            in_flight.idle().await;
        };
        let mut impatient = self.stop.clone();
        let exit = tokio::select! {
            exit = process.exited() => Some(exit),
            _ = timeout(self.policy.drain_timeout, drained) => None,
            () = told(&mut impatient, Stop::Now) => None,
        };
        if let Some(exit) = exit {
            self.lost(&exit);
            return;
        }
        if in_flight.count() > 0 {
            tracing::warn!(replica = %self.replica, requests = in_flight.count(), "stopping with requests in flight");
        }
        let cause = cause.unwrap_or_else(|| Cause::Wanted("stopped".to_owned()));
        self.terminate(&mut process, &cause).await;
        self.enter(Event::Done, Some(cause.reason().to_owned()));
    }

    /// SIGTERM, grace, SIGKILL; returns when nothing of the process group is left.
    async fn terminate(&mut self, process: &mut L::Process, cause: &Cause) {
        if *self.stop.borrow() < Stop::Now {
            process.signal(Signal::Terminate, cause);
            tokio::select! {
                exited = timeout(self.policy.grace, process.exited()) => if exited.is_ok() {
                    return;
                },
                () = told(&mut self.stop, Stop::Now) => {}
            }
            tracing::warn!(replica = %self.replica, "the replica did not end by itself: killing it");
        }
        process.signal(Signal::Kill, cause);
        process.exited().await;
    }

    fn failed(&self, reason: String) -> Ended {
        self.enter(Event::Failed, Some(reason.clone()));
        Ended::Died { ready_for: Duration::ZERO, reason }
    }

    fn lost(&self, exit: &Exit) {
        self.enter(Event::Lost, Some(exit.to_string()));
    }

    fn register(&self, instance: Arc<Instance>, registration: Option<Arc<Registration>>) {
        self.registry.update(&self.replica, |replica| {
            if let Some(registration) = registration {
                replica.register(registration);
            }
            replica.health =
                Health { verdict: Verdict::Unknown, since: Timestamp::now(), reason: None, answered: 0 };
            replica.instance = Some(instance);
            Change::Made
        });
    }

    fn attestation(&self) -> Option<Attestation> {
        self.registry.snapshot().replica(&self.replica).map(|replica| replica.attestation.clone())
    }

    fn count_restart(&self) {
        self.registry.update(&self.replica, |replica| {
            replica.restarts += 1;
            Change::Made
        });
    }

    fn set_pid(&self, pid: Option<u32>) {
        self.registry.update(&self.replica, |replica| {
            replica.pid = pid;
            Change::Made
        });
    }

    /// Takes the transition and publishes it; returns the epoch from which on it is seen.
    fn enter(&self, event: Event, reason: Option<String>) -> u64 {
        let (mut entered, mut gone) = (Ok(LifecycleState::Stopped), None);
        let epoch = self.registry.update(&self.replica, |replica| {
            entered = transition(replica.state, event);
            let Ok(state) = entered else { return Change::None };
            (replica.state, replica.reason, replica.since) = (state, reason.clone(), Timestamp::now());
            if state == LifecycleState::Stopped {
                replica.pid = None;
                gone = replica.instance.take();
                replica.health.verdict = Verdict::Unknown;
            }
            Change::Made
        });
        // Whoever listens at its address from now on is somebody else.
        if let Some(Channel::Mesh(peer)) = gone.map(|instance| instance.channel.clone()) {
            peer.end();
        }
        let reason = reason.unwrap_or_default();
        match entered {
            Ok(state) => {
                tracing::info!(replica = %self.replica, %state, reason, "the replica changed its state");
            }
            Err(denied) => {
                tracing::error!(replica = %self.replica, %denied, "a driver asked for an impossible transition");
            }
        }
        epoch
    }
}

enum Started {
    Ready(Arc<Instance>),
    Failed(Cause),
    Stopped,
}

/// Returns once the order is at least this one. A lost sender is an order to stop at once.
async fn told(stop: &mut watch::Receiver<Stop>, least: Stop) {
    let _told_or_nobody_left = stop.wait_for(|order| *order >= least).await.is_ok();
}

/// Forgets after a while who had registered as the replica; never returns.
async fn vacate(registry: &Registry, replica: &ReplicaId) -> Infallible {
    tokio::time::sleep(FORGOTTEN).await;
    registry.update(replica, |replica| match replica.presence {
        Presence::Registered(_) => {
            replica.vacate();
            Change::Made
        }
        Presence::Given | Presence::Vacant => Change::None,
    });
    std::future::pending().await
}

/// Returns once the health owner calls the replica healthy.
async fn healthy(registry: &Registry, replica: &ReplicaId) {
    let passed = |replica: &Replica| (replica.health.verdict == Verdict::Healthy).then_some(());
    until(registry, replica, passed).await;
}

/// Returns why, once the attestation of the replica has ceased to hold. One that is as it was `before` says nothing yet.
async fn ceased(registry: &Registry, replica: &ReplicaId, before: Option<Attestation>) -> String {
    let is_new = |replica: &&Replica| before.as_ref() != Some(&replica.attestation);
    until(registry, replica, |replica| Some(replica).filter(is_new)?.attestation.ceased()).await
}

/// Returns what is looked for in the replica, once it is found.
async fn until<T>(registry: &Registry, replica: &ReplicaId, look: impl Fn(&Replica) -> Option<T>) -> T {
    let mut snapshots = registry.subscribe();
    loop {
        let found = snapshots.borrow_and_update().replica(replica).and_then(&look);
        if let Some(found) = found {
            return found;
        }
        let _registry_outlives_drivers = snapshots.changed().await.is_ok();
    }
}

#[cfg(test)]
mod tests;
