//! The one task that owns a replica's state.

mod facts;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_registry::{
    Actor, Attestation, Confirmed, Instance, LastExit, Registry, Replica, Verdict, Version, What,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use types::ReplicaId;

use crate::backoff::Backoff;
use crate::crash::Crashes;
use crate::order::Orders;
use crate::{Cause, Event, Exit, Launch, LaunchError, Left, Listening, Order, Process, Signal, Wanted};
use facts::Facts;

/// How long a drain waits for the gateway's workers to confirm that they select the replica no more.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// How long a process that closed its descriptor is given to end, so that it can be told how it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a replica that has registered itself is shown once it is not there any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What the configuration says of a replica's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
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

/// Drives one replica through its lives.
pub struct Driver<L> {
    facts: Facts,
    /// The version that runs.
    version: Version,
    launcher: Arc<L>,
    policy: watch::Receiver<Policy>,
    orders: Orders,
    random: fastrand::Rng,
    crashes: Crashes,
    /// Whether it was asked for a process that was there before.
    has_looked: bool,
}

/// How one life ended.
enum Ended {
    /// By order.
    Told,
    /// By itself, or because its attestation has ceased to hold.
    Died {
        /// How long it had been Ready.
        ready_for: Duration,
        last: LastExit,
    },
}

/// How a wait between two lives ended.
#[derive(PartialEq)]
enum Waited {
    /// It is over.
    Out,
    /// It was told something else.
    Told,
}

/// Why something is done to a replica, and who wants it.
#[derive(Clone)]
struct Why {
    cause: Cause,
    actor: Actor,
}

impl Why {
    fn wanted(reason: impl Into<String>, actor: Actor) -> Self {
        Self { cause: Cause::Wanted(reason.into()), actor }
    }

    fn failed(reason: impl Into<String>, actor: Actor) -> Self {
        Self { cause: Cause::Failed(reason.into()), actor }
    }

    fn reason(&self) -> String {
        self.cause.reason().to_owned()
    }
}

enum Started {
    Ready(Arc<Instance>),
    Failed(Why),
    /// Its process has ended by itself.
    Exited(Exit),
    /// The same, and this says more than how it ended.
    Ended(Why, Exit),
    Told,
}

impl<L: Launch> Driver<L> {
    /// A driver of a replica that does not run yet; `version` is what the launcher launches.
    pub fn new(
        replica: ReplicaId,
        version: Version,
        launcher: Arc<L>,
        policy: watch::Receiver<Policy>,
        registry: Registry,
        orders: watch::Receiver<Order>,
        random: fastrand::Rng,
    ) -> Self {
        let (facts, orders) = (Facts { replica, registry }, Orders::new(orders));
        let crashes = Crashes::default();
        Self { facts, version, launcher, policy, orders, random, crashes, has_looked: false }
    }

    /// Keeps the replica running until it is to be gone; returns when no process of it is left.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut last = None;
        while let Some(begun) = self.next_life().await {
            match self.live(&begun, last.take()).await {
                Ended::Told => {
                    backoff.reset();
                    self.recovered();
                }
                Ended::Died { ready_for, last: how } => {
                    if ready_for >= self.policy().restart_reset {
                        backoff.reset();
                        self.recovered();
                    }
                    last = Some(how.reason.clone());
                    self.count_crash(how);
                    if L::STARTS_AGAIN
                        && self.wait(&mut backoff, &begun, last.as_deref()).await == Waited::Told
                    {
                        backoff.reset();
                        self.recovered();
                        last = None;
                    }
                }
            }
        }
    }

    /// The order that the next life begins under. Where there is none for now, this is the reason that is shown.
    async fn next_life(&mut self) -> Option<Order> {
        let Order { wanted, cause, actor, .. } = self.orders.now();
        if wanted == Wanted::Drained {
            self.facts.stays_stopped(cause, actor);
        }
        self.orders.next_life().await
    }

    fn policy(&self) -> Policy {
        self.policy.borrow().clone()
    }

    fn replica(&self) -> &ReplicaId {
        &self.facts.replica
    }

    /// Waits between two lives, unless it is told something else.
    async fn wait(&mut self, backoff: &mut Backoff, begun: &Order, last: Option<&str>) -> Waited {
        let policy = self.policy();
        let wait = backoff.wait(policy.restart_min, policy.restart_max, &mut self.random);
        let (replica, wait_ms) = (self.replica(), wait.as_millis());
        tracing::warn!(%replica, reason = last, wait_ms, "the replica is started again after a wait");
        match timeout(wait, self.orders.end_of_life(begun)).await {
            Ok(()) => Waited::Told,
            Err(_) => Waited::Out,
        }
    }

    fn count_crash(&mut self, last: LastExit) {
        let reason = last.reason.clone();
        let shown = self.crashes.ended(last, Timestamp::now());
        if self.crashes.is_new() {
            tracing::error!(replica = %self.replica(), reason, "the replica ends again and again");
            self.facts.record(What::CrashLoop, Some(reason), Actor::Supervisor);
        }
        self.facts.show_crash_loop(shown);
    }

    fn recovered(&mut self) {
        self.crashes.over();
        self.facts.show_crash_loop(None);
    }

    /// One life, from Stopped to Stopped.
    ///
    /// What ended the last one stays visible while this one starts: a replica that cannot start would otherwise never say
    /// why for longer than the wait.
    async fn live(&mut self, begun: &Order, last: Option<String>) -> Ended {
        tokio::select! {
            biased;
            () = self.orders.end_of_life(begun) => return Ended::Told,
            () = self.launcher.may_begin(&self.facts.replica) => {}
            never = vacate(&self.facts) => match never {},
        }
        let Some(left) = self.left(begun).await else { return Ended::Told };
        // What it says is of the life before, or holds for the process that is there.
        let known = self.facts.attestation();
        if let Some(process) = left {
            return self.live_on(process, begun, known).await;
        }
        let (reason, actor) = match last {
            Some(reason) => {
                self.facts.count_restart();
                (Some(format!("started again: {reason}")), Actor::Supervisor)
            }
            None => (begun.cause.clone(), begun.actor.clone()),
        };
        self.facts.enter(Event::Launch, reason, actor);
        match self.launcher.launch(self.replica(), &self.version).await {
            Ok(process) => self.live_on(process, begun, known).await,
            Err(error) => {
                self.failed(&Why::failed(error.to_string(), Actor::Supervisor), LastExit::default())
            }
        }
    }

    /// The rest of a life whose process is there.
    async fn live_on(&mut self, mut process: L::Process, begun: &Order, known: Option<Attestation>) -> Ended {
        self.facts.set_pid(process.pid());
        match self.start(&mut process, begun, known).await {
            Started::Ready(instance) => self.serve(process, &instance, begun).await,
            Started::Exited(exit) => self.failed(&Why::failed(exit.to_string(), Actor::Replica), exit.last()),
            Started::Ended(why, exit) => self.failed(&why, exit.last()),
            Started::Failed(why) => {
                self.terminate(&mut process, &why.cause).await;
                // How it ended is what it was told; what it wrote may say why it could not start.
                let last_lines = process.exited().await.last().last_lines;
                self.failed(&why, LastExit { last_lines, ..LastExit::default() })
            }
            Started::Told => {
                let why = self.told();
                self.terminate(&mut process, &why.cause).await;
                let reason = format!("stopped before it was ready: {}", why.reason());
                self.facts.enter(Event::Failed, Some(reason), why.actor);
                Ended::Told
            }
        }
    }

    /// A process that was there before, where there is one and it was not asked for already; `None` once it is told something
    /// else.
    async fn left(&mut self, begun: &Order) -> Option<Option<L::Process>> {
        if std::mem::replace(&mut self.has_looked, true) {
            return Some(None);
        }
        // Whatever is ordered meanwhile: who gives up here would leave a process that nobody holds.
        let mut orders = self.orders.clone();
        let at_once = async move { orders.until(Wanted::GoneAtOnce).await };
        let left = self.launcher.left(&self.facts.replica, at_once).await;
        let Some(Left { process, restarts }) = left else {
            return self.goes_on(begun).then_some(None);
        };
        self.facts.set_restarts(restarts);
        let reason = "adopted: an earlier serviceos has left it".to_owned();
        self.facts.enter(Event::Launch, Some(reason), Actor::Supervisor);
        Some(Some(process))
    }

    /// From the launch to the first passed health check. `known` is the attestation as it was before.
    async fn start(
        &mut self,
        process: &mut L::Process,
        begun: &Order,
        known: Option<Attestation>,
    ) -> Started {
        let start_timeout = self.policy().start_timeout;
        let deadline = Instant::now() + start_timeout;
        let late = format!("not ready within the start timeout of {start_timeout:?}");
        let listening = tokio::select! {
            biased;
            listening = tokio::time::timeout_at(deadline, process.listening()) => listening,
            () = self.orders.end_of_life(begun) => return Started::Told,
        };
        let Listening { address, channel, registration } = match listening {
            Ok(Ok(listening)) => listening,
            Ok(Err(LaunchError(reason))) => return Self::why(process, reason).await,
            Err(_) => return Started::Failed(Why::failed(late, Actor::Supervisor)),
        };
        let (replica, registry) = (self.replica().clone(), self.facts.registry.clone());
        let incarnation = registry.next_incarnation();
        let instance = Instance::new(replica.clone(), incarnation, address, self.version.clone());
        let instance = Arc::new(Instance { channel, ..instance });
        self.facts.register(Arc::clone(&instance), registration);
        let leaves = process.leaves();
        tokio::select! {
            biased;
            exit = process.exited() => Started::Exited(exit),
            () = leaves => Started::Failed(Why::wanted("it left before it was ready", Actor::Replica)),
            () = self.orders.end_of_life(begun) => Started::Told,
            reason = ceased(&registry, &replica, known) => Started::Failed(Why::failed(reason, Actor::Authority)),
            healthy = tokio::time::timeout_at(deadline, healthy(&registry, &replica)) => match healthy {
                Ok(()) => Started::Ready(Arc::clone(&instance)),
                Err(_) => Started::Failed(Why::failed(match instance.last_check.error() {
                    Some(error) => format!("{late}; the last health check: {error}"),
                    None => late,
                }, Actor::Supervisor)),
            },
        }
    }

    /// A replica that could not report has usually died, and then its last words say more than the closed descriptor.
    async fn why(process: &mut L::Process, reason: String) -> Started {
        match timeout(LAST_WORDS, process.exited()).await {
            Ok(exit) if !exit.is_clean() || reason.is_empty() => Started::Exited(exit),
            Ok(exit) => Started::Ended(Why::failed(format!("{reason} ({exit})"), Actor::Replica), exit),
            Err(_) => Started::Failed(Why::failed(reason, Actor::Replica)),
        }
    }

    /// From Ready to Stopped.
    async fn serve(&mut self, mut process: L::Process, instance: &Instance, begun: &Order) -> Ended {
        let ready_since = Instant::now();
        self.facts.enter(Event::Ready, None, Actor::Supervisor);
        let (replica, registry) = (self.replica().clone(), self.facts.registry.clone());
        let mut leaves = std::pin::pin!(process.leaves());
        let mut ceased = std::pin::pin!(ceased(&registry, &replica, None));
        let mut settled = std::pin::pin!(sleep(self.policy().restart_reset));
        let mut is_settled = false;
        let lost = loop {
            tokio::select! {
                biased;
                exit = process.exited() => {
                    self.lost(&exit);
                    return Ended::Died { ready_for: ready_since.elapsed(), last: exit.last() };
                }
                () = self.orders.end_of_life(begun) => break None,
                () = &mut leaves => break Some(Why::wanted("stopped where it was started", Actor::Replica)),
                reason = &mut ceased => break Some(Why::failed(reason, Actor::Authority)),
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    self.recovered();
                }
            }
        };
        let ready_for = ready_since.elapsed();
        let died = self.drain(process, instance, lost.clone()).await;
        match (lost, died) {
            (Some(why), last) if self.goes_on(begun) => {
                let last = last.unwrap_or_else(|| LastExit { reason: why.reason(), ..LastExit::default() });
                Ended::Died { ready_for, last }
            }
            _ => Ended::Told,
        }
    }

    /// Whether nobody has told it anything since its life began.
    fn goes_on(&self, begun: &Order) -> bool {
        let now = self.orders.now();
        now.wanted == Wanted::Running && now.restarts == begun.restarts
    }

    /// From Draining to Stopped, by order or for a reason of its own. Gives how it ended where it did so by itself.
    async fn drain(
        &mut self,
        mut process: L::Process,
        instance: &Instance,
        lost: Option<Why>,
    ) -> Option<LastExit> {
        let in_flight = &instance.in_flight;
        let why = lost.unwrap_or_else(|| self.told());
        let epoch = self.facts.enter(Event::Drain, Some(why.reason()), why.actor.clone());
        let registry = self.facts.registry.clone();
        let (replica, drain_timeout) = (self.replica().clone(), self.policy().drain_timeout);
        let drained = async {
            if registry.confirmed(epoch, CONFIRMATION).await == Confirmed::TimedOut {
                tracing::warn!(%replica, "a gateway worker did not confirm the drain in time");
            }
            in_flight.idle().await;
        };
        let exit = tokio::select! {
            biased;
            exit = process.exited() => Some(exit),
            _ = timeout(drain_timeout, drained) => None,
            () = self.orders.until(Wanted::GoneAtOnce) => None,
        };
        if let Some(exit) = exit {
            self.lost(&exit);
            return Some(exit.last());
        }
        if in_flight.count() > 0 {
            tracing::warn!(replica = %self.replica(), requests = in_flight.count(), "stopping with requests in flight");
        }
        self.terminate(&mut process, &why.cause).await;
        self.facts.enter(Event::Done, Some(why.reason()), why.actor);
        None
    }

    /// SIGTERM, grace, SIGKILL; returns when nothing of the process group is left.
    async fn terminate(&mut self, process: &mut L::Process, cause: &Cause) {
        if self.orders.now().wanted < Wanted::GoneAtOnce {
            process.signal(Signal::Terminate, cause);
            tokio::select! {
                biased;
                exited = timeout(self.policy().grace, process.exited()) => if exited.is_ok() {
                    return;
                },
                () = self.orders.until(Wanted::GoneAtOnce) => {}
            }
            tracing::warn!(replica = %self.replica(), "the replica did not end by itself: killing it");
        }
        process.signal(Signal::Kill, cause);
        process.exited().await;
    }

    /// Why it is to end, by the order in force.
    fn told(&self) -> Why {
        let Order { actor, cause, .. } = self.orders.now();
        Why::wanted(cause.unwrap_or_else(|| "nobody looks after it any more".to_owned()), actor)
    }

    fn failed(&self, why: &Why, last: LastExit) -> Ended {
        self.facts.enter(Event::Failed, Some(why.reason()), why.actor.clone());
        Ended::Died { ready_for: Duration::ZERO, last: LastExit { reason: why.reason(), ..last } }
    }

    fn lost(&self, exit: &Exit) {
        self.facts.enter(Event::Lost, Some(exit.to_string()), Actor::Replica);
    }
}

/// Forgets after a while who had registered as the replica; never returns.
async fn vacate(facts: &Facts) -> Infallible {
    sleep(FORGOTTEN).await;
    facts.vacate();
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
