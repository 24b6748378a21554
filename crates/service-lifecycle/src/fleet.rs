//! The replicas of one service: how many there are, what they run, and which of them begin and leave.
//!
//! One task owns the drivers of a service. While nothing is on its way it keeps as many replicas as are wanted; a rollout says
//! what begins and what leaves while they change from one release to another, and a restart of the service is one to the release
//! that runs already.

mod answered;
mod command;
mod found;
mod standing;
mod steering;
mod telling;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_registry::{Actor, Labels, Registry, Replica, Snapshot, Subject, Version, What};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use types::{NodeName, ReplicaId, ServiceName};

use crate::rollout::{self, Action, Member, Plan, Rollout, Samples, Seen, Side, Stage, Standing, Strategy};
use crate::{Driver, Launch, Order, Policy, Wanted};
use answered::Answered;
use command::{Change, Command};
pub use command::{
    EndedRollout, FleetEnd, FleetHandle, FleetRefused, Fleets, RolloutStatus, Rollouts, Steer,
};
pub use found::{Found, FoundRollout};
use standing::{Driven, another, old_is_alone, standing};

/// How often a rollout is looked at where nothing happens.
const LOOK: Duration = Duration::from_secs(1);

/// What the configuration says of the replicas of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// How each of them lives.
    pub policy: Policy,
    /// How many there are, and how they change from one release to another.
    pub plan: Plan,
}

/// What replicas are of.
#[derive(Debug, Clone)]
pub struct ReplicasOf {
    /// The service.
    pub service: ServiceName,
    /// The node, where there are several.
    pub node: Option<NodeName>,
    /// What is said of each of them.
    pub labels: Option<Arc<Labels>>,
    /// The version that they run at first.
    pub version: Version,
}

/// The replicas of a service.
pub struct Fleet<L> {
    launcher: Arc<L>,
    service: ServiceName,
    node: Option<NodeName>,
    /// What is said of each of its replicas.
    labels: Option<Arc<Labels>>,
    registry: Registry,
    random: fastrand::Rng,
    plan: Plan,
    policy: watch::Sender<Policy>,
    stable: Release,
    on_its_way: Option<OnItsWay>,
    /// Rollouts that have ended, the latest last.
    ended: VecDeque<EndedRollout>,
    /// The number of the next release.
    next_number: u64,
    drivers: JoinSet<u32>,
    driven: BTreeMap<u32, Driven>,
    /// What was there before this fleet was.
    left: found::Left,
    /// Who wanted what was wanted last, and why.
    by: (Actor, Option<String>),
    /// What a rollout knows of time counts from here: by a clock that nobody puts right, and that stands while the machine is suspended
    /// (`CLOCK_MONOTONIC`, clock_gettime(2)), so that neither is a deadline that has passed.
    began: Instant,
}

/// What replicas run.
#[derive(Debug, Clone)]
struct Release {
    /// By which one is told from another of the same version that takes its place.
    number: u64,
    version: Version,
}

struct OnItsWay {
    target: Release,
    rollout: Rollout,
    /// How both versions had answered when the stage began.
    before: Answered,
    since: Timestamp,
    /// Who wants it, and why; once it is given up, the rollout itself, or whoever has undone it.
    by: (Actor, Option<String>),
}

impl<L: Launch> Fleet<L> {
    /// Replicas none of which has begun.
    pub fn new(
        of: ReplicasOf,
        launcher: Arc<L>,
        terms: Terms,
        registry: Registry,
        random: fastrand::Rng,
    ) -> Self {
        let (ReplicasOf { service, node, labels, version }, Terms { policy, plan }) = (of, terms);
        Self {
            launcher,
            service,
            node,
            labels,
            registry,
            random,
            plan,
            policy: watch::Sender::new(policy),
            stable: Release { number: 0, version },
            on_its_way: None,
            ended: VecDeque::new(),
            next_number: 1,
            drivers: JoinSet::new(),
            driven: BTreeMap::new(),
            left: found::Left::default(),
            by: (Actor::Configuration, None),
            began: Instant::now(),
        }
    }

    /// Keeps the replicas until they are to be gone; returns when no process of them is left. `stop` says how much is wanted of
    /// all of them at the least.
    pub async fn run(mut self, mut stop: watch::Receiver<Wanted>, mut end: FleetEnd) {
        let mut snapshots = self.registry.subscribe();
        self.take_over_what_was_left();
        loop {
            while self.settle(&end) {}
            let is_moving = self.on_its_way.is_some() || self.has_strays();
            tokio::select! {
                biased;
                told = stop.wait_for(|stop| *stop > Wanted::Running) => {
                    drop(told);
                    break;
                }
                Some(Command { change, actor, answer }) = end.commands.recv() => {
                    let done = self.change(change, actor);
                    let _nobody_waits = answer.send(done).is_err();
                }
                Some(ended) = self.drivers.join_next(), if !self.drivers.is_empty() => match ended {
                    Ok(ordinal) => self.forget(ordinal),
                    Err(error) => {
                        tracing::error!(service = %self.service, %error, "the driver of a replica failed, which is a bug");
                        return;
                    }
                },
                () = another(&mut snapshots, &self.service), if is_moving => {}
                () = sleep(LOOK), if is_moving => {}
            }
        }
        drop(end);
        self.stop(stop).await;
    }

    /// Until no driver is left.
    async fn stop(mut self, mut stop: watch::Receiver<Wanted>) {
        let mut is_led = true;
        loop {
            let wanted = if is_led { *stop.borrow_and_update() } else { Wanted::GoneAtOnce };
            for driven in self.driven.values() {
                driven.orders.send_if_modified(|order| {
                    let is_news = order.wanted < wanted;
                    if is_news {
                        order.becomes(wanted, Actor::Operator, "serviceos stops".to_owned());
                    }
                    is_news
                });
            }
            tokio::select! {
                biased;
                ended = self.drivers.join_next() => match ended {
                    None => return,
                    Some(Ok(_ordinal)) => {}
                    Some(Err(error)) => tracing::error!(service = %self.service, %error, "the driver of a replica failed"),
                },
                changed = stop.changed(), if is_led => is_led = changed.is_ok(),
            }
        }
    }

    fn change(&mut self, change: Change, actor: Actor) -> Result<(), FleetRefused> {
        match change {
            Change::Terms(terms) => self.take(terms, actor),
            Change::Restart => return self.restart_all(actor),
            Change::Roll { version, terms } => return self.roll(version, terms, actor),
            Change::Steer(steer) => return self.steer(steer, actor),
            Change::RestartOne(replica) => match self.heir_of(&replica) {
                Some(heir) => heir.restart(actor, "restarted".to_owned()),
                None => {
                    let orders = self.orders_of(&replica)?;
                    orders.send_modify(|order| order.restart(actor, "restarted".to_owned()));
                }
            },
            Change::Drain(replica) => {
                let orders = self.orders_of(&replica)?;
                let cause = format!("drained; `serviceos restart {replica}` starts it again");
                orders.send_modify(|order| order.becomes(Wanted::Drained, actor, cause));
            }
        }
        Ok(())
    }

    /// What is wanted of the one that comes in the place of a replica which is held and ends.
    fn heir_of(&mut self, replica: &ReplicaId) -> Option<&mut Order> {
        let is_it = self.id(replica.ordinal) == *replica;
        self.driven.get_mut(&replica.ordinal).filter(|_| is_it)?.heir.as_mut()
    }

    fn orders_of(&self, replica: &ReplicaId) -> Result<&watch::Sender<Order>, FleetRefused> {
        let driven = self.driven.get(&replica.ordinal).filter(|_| self.id(replica.ordinal) == *replica);
        match driven {
            None => Err(FleetRefused::Unknown(replica.clone())),
            Some(driven) if driven.is_leaving() => Err(FleetRefused::Leaving(replica.clone())),
            Some(driven) => Ok(&driven.orders),
        }
    }

    fn take(&mut self, terms: Terms, actor: Actor) {
        let (before, now) = (self.plan.replicas, terms.plan.replicas);
        self.plan = terms.plan;
        self.policy.send_replace(terms.policy);
        if before == now {
            return;
        }
        self.by = (actor.clone(), Some(format!("scaled from {before} to {now}")));
        self.registry.scale(&self.service, before as usize, now as usize);
        self.record(What::Scaled { from: before, to: now }, None, actor);
        if let Some(OnItsWay { rollout, .. }) = &mut self.on_its_way {
            rollout.scale(now);
        }
    }

    /// Every replica begins anew, in the order of a rolling rollout, so that no more are missing at a time than may be.
    fn restart_all(&mut self, actor: Actor) -> Result<(), FleetRefused> {
        if !L::STARTS_AGAIN {
            return Err(FleetRefused::Elsewhere(self.service.clone()));
        }
        if self.on_its_way.is_some() {
            return Err(FleetRefused::OnItsWay(self.service.clone()));
        }
        let plan = Plan { strategy: Strategy::Rolling, ..self.plan.clone() };
        self.by = (actor, Some("restarted".to_owned()));
        self.begin(self.stable.version.clone(), plan);
        Ok(())
    }

    /// Another version takes the place of the one that runs, in the place of one that is on its way already. Back to the one that
    /// runs, that one is undone.
    fn roll(&mut self, version: Version, terms: Terms, actor: Actor) -> Result<(), FleetRefused> {
        if !L::STARTS_AGAIN {
            return Err(FleetRefused::Elsewhere(self.service.clone()));
        }
        self.take(terms, actor.clone());
        if version == self.stable.version {
            // No call would be one of its own, so nothing could ever be said of it.
            return if self.leads_elsewhere() { self.steer(Steer::Undo, actor) } else { Ok(()) };
        }
        self.by = (actor.clone(), Some(format!("rollout of {}", version.id())));
        let to = What::Rollout(format!("{} to {}", self.stable.version.id(), version.id()));
        self.record(to, None, actor);
        self.begin(version, self.plan.clone());
        Ok(())
    }

    /// Whether a rollout to another version is on its way.
    fn leads_elsewhere(&self) -> bool {
        self.on_its_way.as_ref().is_some_and(|on_its_way| on_its_way.target.version != self.stable.version)
    }

    fn begin(&mut self, version: Version, plan: Plan) {
        if let Some(replaced) = self.on_its_way.take() {
            self.remember(&replaced, rollout::Outcome::Replaced);
        }
        // Whatever serves at this moment is counted on.
        let snapshot = self.registry.snapshot();
        let now = self.now();
        for (ordinal, driven) in &mut self.driven {
            let id = ReplicaId::new(self.service.clone(), *ordinal).on(self.node.clone());
            let serves = snapshot.replica(&id).is_some_and(|replica| replica.selectable().is_ok());
            driven.selectable_since = serves.then_some(Duration::ZERO);
        }
        let target = Release { number: self.next_number, version };
        self.next_number += 1;
        // What the version has answered in an earlier rollout says nothing of this one.
        let before = Answered::of(&snapshot, &self.service, &target.version);
        let rollout = Rollout::begin(plan, now);
        let by = self.by.clone();
        self.on_its_way = Some(OnItsWay { target, rollout, before, since: Timestamp::now(), by });
    }

    /// Who wants what is done now, and why.
    fn by(&self) -> &(Actor, Option<String>) {
        self.on_its_way.as_ref().map_or(&self.by, |on_its_way| &on_its_way.by)
    }

    /// Does what is to be done now; whether more may be.
    fn settle(&mut self, end: &FleetEnd) -> bool {
        let snapshot = self.registry.snapshot();
        self.note_who_serves(&snapshot);
        self.hold_for_what_runs();
        let members = self.members(&snapshot);
        let now = self.now();
        let is_awaited = self.is_somebody_awaited(&snapshot);
        let (actions, stage) = match &mut self.on_its_way {
            Some(OnItsWay { rollout, .. }) if is_awaited => {
                (rollout.missing(&Seen { now, members: &members, samples: Samples::default() }), None)
            }
            None => (rollout::steady(&members, &self.plan), None),
            Some(OnItsWay { target, rollout, before, by, .. }) => {
                let stage_before = rollout.stage().clone();
                let answered = Answered::of(&snapshot, &self.service, &target.version);
                let seen = Seen { now, members: &members, samples: answered.since(before) };
                let actions = rollout.advance(&seen);
                let stage = rollout.stage().clone();
                let is_another = stage != stage_before;
                if is_another {
                    *before = answered;
                }
                if is_another && matches!(stage, Stage::Reverting(_)) {
                    *by = (Actor::Rollout, Some(stage.to_string()));
                }
                (actions, is_another.then_some(stage))
            }
        };
        self.divide_calls();
        self.tell(&snapshot, &members, end);
        for action in actions {
            match action {
                Action::Start(side) => self.start(side),
                Action::Drain(id) => self.leave(&id),
            }
        }
        // Who was to run what runs already has nothing to come back to.
        let is_restart = self
            .on_its_way
            .as_ref()
            .is_some_and(|on_its_way| on_its_way.target.version == self.stable.version);
        let is_alone = old_is_alone(&members);
        let stage = match self.on_its_way.as_ref().map(|on_its_way| on_its_way.rollout.stage()) {
            Some(Stage::Reverting(failure)) if is_restart && is_alone => {
                Some(Stage::Over(rollout::Outcome::Reverted(failure.clone())))
            }
            _ => stage,
        };
        match stage {
            Some(Stage::Over(outcome)) => {
                self.finish(outcome, end);
                true
            }
            Some(stage) => {
                self.record(What::Rollout(stage.to_string()), None, Actor::Rollout);
                false
            }
            None => false,
        }
    }

    fn note_who_serves(&mut self, snapshot: &Snapshot) {
        let now = self.now();
        for (ordinal, driven) in &mut self.driven {
            let id = ReplicaId::new(self.service.clone(), *ordinal).on(self.node.clone());
            let serves = snapshot.replica(&id).is_some_and(|replica| replica.selectable().is_ok());
            driven.selectable_since = serves.then(|| driven.selectable_since.unwrap_or(now));
        }
    }

    fn members(&self, snapshot: &Snapshot) -> Vec<Member> {
        let member = |(ordinal, driven): (&u32, &Driven)| {
            let id = self.id(*ordinal);
            // Who has an heir is what runs, but for its process.
            let side = if driven.heir.is_some() { Side::Stable } else { self.side(driven.release) };
            let standing = match snapshot.replica(&id) {
                _ if driven.is_held() => Standing::Held,
                _ if driven.is_leaving() => Standing::Draining,
                Some(replica) => standing(replica, driven, side),
                None => Standing::Pending,
            };
            Member { id, side, standing }
        };
        self.driven.iter().map(member).collect()
    }

    /// Whether replicas are there of a version that does not stay.
    fn has_strays(&self) -> bool {
        self.driven.values().any(|driven| self.side(driven.release) == Side::Stray)
    }

    fn side(&self, release: u64) -> Side {
        let target = self.on_its_way.as_ref().map(|on_its_way| on_its_way.target.number);
        if Some(release) == target {
            Side::Target
        } else if release == self.stable.number {
            Side::Stable
        } else {
            Side::Stray
        }
    }

    /// Starts one more, which takes the lowest number that is free.
    fn start(&mut self, side: Side) {
        let ordinal = self.free_ordinal();
        let release = match (&self.on_its_way, side) {
            (Some(OnItsWay { target, .. }), Side::Target) => target,
            _ => &self.stable,
        };
        let (release, (actor, cause)) = (release.clone(), self.by().clone());
        let row = Replica::stopped(self.id(ordinal), Timestamp::now());
        self.registry.add_replica(Replica { labels: self.labels.clone(), ..row });
        self.drive(ordinal, release, Order::run(actor, cause));
    }

    /// Begins the driver of a replica that is in the registry.
    fn drive(&mut self, ordinal: u32, Release { number, version }: Release, order: Order) {
        let (orders, told) = watch::channel(order);
        let (policy, registry, launcher) =
            (self.policy.subscribe(), self.registry.clone(), Arc::clone(&self.launcher));
        let random = self.random.fork();
        let driver = Driver::new(self.id(ordinal), version, launcher, policy, registry, told, random);
        self.drivers.spawn(async move {
            driver.run().await;
            ordinal
        });
        self.driven.insert(ordinal, Driven { orders, release: number, selectable_since: None, heir: None });
    }

    /// One that is in the registry and has not begun, else the lowest.
    fn free_ordinal(&self) -> u32 {
        let snapshot = self.registry.snapshot();
        let known = snapshot.service(&self.service).into_iter().flat_map(|service| &service.replicas);
        let own = known.filter(|replica| replica.id.node == self.node).map(|replica| replica.id.ordinal);
        let waiting = own.filter(|ordinal| !self.driven.contains_key(ordinal)).min();
        let free = || (0..).find(|ordinal| !self.driven.contains_key(ordinal));
        waiting.or_else(free).expect("there are more numbers than replicas")
    }

    fn leave(&mut self, id: &ReplicaId) {
        let (actor, cause) = self.by().clone();
        let Some(driven) = self.driven.get_mut(&id.ordinal) else { return };
        driven.heir = None;
        let cause = cause.unwrap_or_else(|| "there is one too many".to_owned());
        driven.orders.send_modify(|order| order.becomes(Wanted::Gone, actor, cause));
    }

    /// Its driver has ended.
    fn forget(&mut self, ordinal: u32) {
        let id = self.id(ordinal);
        if let Some(heir) = self.driven.remove(&ordinal).and_then(|driven| driven.heir) {
            return self.drive(ordinal, self.stable.clone(), heir);
        }
        self.launcher.forget(&id);
        self.registry.remove_replica(&id);
    }

    fn id(&self, ordinal: u32) -> ReplicaId {
        ReplicaId::new(self.service.clone(), ordinal).on(self.node.clone())
    }

    fn record(&self, what: What, cause: Option<String>, actor: Actor) {
        self.registry.events().record(Subject::Service(self.service.clone()), what, cause, actor);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests;
