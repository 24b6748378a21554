use std::collections::BTreeSet;
use std::sync::Mutex;

use expect_test::{Expect, expect};
use service_registry::{
    Attestation, Channel, LifecycleState, Registry, Service, Snapshot, Subject, Verdict, What,
};

use super::*;
use crate::rollout::{Pace, Reached};
use crate::{Cause, Exit, LaunchError, Listening, Process, Signal};
use tokio::time::timeout;

/// Starts processes that do as they are told, but for those of version 6.6.6, which end at once.
struct Fake {
    running: Arc<Mutex<BTreeSet<u32>>>,
    forgotten: Arc<Mutex<Vec<u32>>>,
}

struct FakeProcess {
    ordinal: u32,
    running: Arc<Mutex<BTreeSet<u32>>>,
    ended: watch::Sender<bool>,
}

impl Launch for Fake {
    type Process = FakeProcess;

    fn forget(&self, replica: &ReplicaId) {
        self.forgotten.lock().unwrap().push(replica.ordinal);
    }

    async fn launch(&self, replica: &ReplicaId, version: &Version) -> Result<FakeProcess, LaunchError> {
        let is_new = self.running.lock().unwrap().insert(replica.ordinal);
        assert!(is_new, "{replica} runs twice");
        let (running, ended) = (Arc::clone(&self.running), watch::Sender::new(version.label() == "6.6.6"));
        Ok(FakeProcess { ordinal: replica.ordinal, running, ended })
    }
}

impl Process for FakeProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.ordinal)
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        sleep(Duration::from_millis(200)).await;
        let address = ([127, 0, 0, 1], 1).into();
        Ok(Listening { address, channel: Channel::Plain, registration: None })
    }

    async fn exited(&mut self) -> Exit {
        let _ended = self.ended.subscribe().wait_for(|ended| *ended).await.is_ok();
        self.running.lock().unwrap().remove(&self.ordinal);
        Exit::Ended { code: Some(0), signal: None, last_lines: Vec::new() }
    }

    fn signal(&self, _signal: Signal, _cause: &Cause) {
        self.ended.send_replace(true);
    }
}

struct Stage {
    registry: Registry,
    fleet: FleetHandle,
    stop: watch::Sender<Wanted>,
    running: Arc<Mutex<BTreeSet<u32>>>,
    forgotten: Arc<Mutex<Vec<u32>>>,
    /// The fewest replicas that were selectable, since it was asked for.
    fewest: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

fn terms(replicas: u32) -> Terms {
    let policy = Policy {
        start_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        restart_min: Duration::from_millis(100),
        restart_max: Duration::from_secs(30),
        restart_reset: Duration::from_secs(60),
    };
    let plan = Plan {
        replicas,
        max_surge: 1,
        max_unavailable: 0,
        min_ready: Duration::from_secs(2),
        progress_deadline: Duration::from_secs(600),
        strategy: Strategy::Rolling,
    };
    Terms { policy, plan }
}

fn id(ordinal: u32) -> ReplicaId {
    ReplicaId::new(service(), ordinal)
}

fn service() -> ServiceName {
    "vrf".parse().unwrap()
}

impl Stage {
    fn new(replicas: u32) -> Self {
        Self::of("1.0.0", replicas)
    }

    fn of(version: &str, replicas: u32) -> Self {
        Self::with(version, replicas, Found::default())
    }

    fn with(version: &str, replicas: u32, found: Found) -> Self {
        let (running, forgotten) = (Arc::default(), Arc::default());
        let launcher = Fake { running: Arc::clone(&running), forgotten: Arc::clone(&forgotten) };
        let launcher = Arc::new(launcher);
        let known = Service {
            name: service(),
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas as usize,
            replicas: Vec::new(),
        };
        let registry = Registry::new(vec![known]);
        let (stop, stopping) = watch::channel(Wanted::Running);
        let of = ReplicasOf { service: service(), node: None, labels: None, version: version.into() };
        for (ordinal, _) in &found.left {
            registry.add_replica(Replica::stopped(id(*ordinal), Timestamp::now()));
        }
        let random = fastrand::Rng::with_seed(3);
        let run = Fleet::new(of, launcher, terms(replicas), registry.clone(), random).with(found);
        let (fleet, commands) = FleetHandle::of(run.rollouts(), watch::Sender::new(0));
        let task = tokio::spawn(run.run(stopping, commands));
        let fewest = Arc::new(Mutex::new(usize::MAX));
        tokio::spawn(pass_every_check(registry.clone(), Arc::clone(&fewest)));
        Self { registry, fleet, stop, running, forgotten, fewest, task }
    }

    /// Waits until exactly these are selectable and there is no other.
    async fn until(&self, ordinals: &[u32]) {
        let reached = |snapshot: &Arc<Snapshot>| {
            let replicas = &snapshot.service(&service()).unwrap().replicas;
            let serving = replicas.iter().filter(|replica| replica.selectable().is_ok());
            let serving: BTreeSet<u32> = serving.map(|replica| replica.id.ordinal).collect();
            replicas.len() == ordinals.len() && serving == ordinals.iter().copied().collect()
        };
        let limit = Duration::from_secs(3600);
        let mut snapshots = self.registry.subscribe();
        let reached = timeout(limit, snapshots.wait_for(reached)).await.is_ok();
        let shown = self.registry.snapshot().service(&service()).unwrap().clone();
        let shown: Vec<_> =
            shown.replicas.iter().map(|replica| (replica.id.ordinal, replica.state)).collect();
        assert!(reached, "{ordinals:?} are not selectable after an hour: {shown:?}");
    }

    async fn scale(&self, replicas: u32) {
        self.fleet.take(terms(replicas), Actor::Operator).await.unwrap();
    }

    fn count_fewest(&self) {
        *self.fewest.lock().unwrap() = usize::MAX;
    }

    fn check_events(&self, expected: &Expect) {
        let mut shown = String::new();
        for event in self.registry.events().after(0) {
            let subject = match &event.subject {
                Subject::Replica(id) => id.to_string(),
                Subject::Service(name) => name.to_string(),
                Subject::Process => "process".to_owned(),
            };
            let what = match &event.what {
                What::State { from, to } => format!("{from} -> {to}"),
                other => format!("{other:?}"),
            };
            let cause = event.cause.as_deref().unwrap_or("-");
            shown += &format!("{subject} {what} ({cause}; {})\n", event.actor);
        }
        expected.assert_eq(&shown);
    }

    async fn end(self) {
        self.stop.send_replace(Wanted::Gone);
        self.task.await.unwrap();
        assert!(self.running.lock().unwrap().is_empty());
    }
}

/// A health owner that passes every check after a while, of replicas that are all attested.
async fn pass_every_check(registry: Registry, fewest: Arc<Mutex<usize>>) {
    let mut snapshots = registry.subscribe();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let known = snapshot.service(&service()).unwrap();
        let serving = known.selectable().count();
        note_fewest(&fewest, serving);
        for replica in &known.replicas {
            if replica.instance.is_some() && replica.health.verdict == Verdict::Unknown {
                registry.update(&replica.id, |replica| {
                    replica.attestation = Attestation::exempt(Timestamp::UNIX_EPOCH);
                    replica.health.verdict = Verdict::Healthy;
                    service_registry::Change::Made
                });
            }
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn note_fewest(fewest: &Mutex<usize>, serving: usize) {
    let mut fewest = fewest.lock().unwrap();
    *fewest = (*fewest).min(serving);
}

/// The labels of what selectable replicas run, by number.
fn labels(stage: &Stage) -> String {
    let snapshot = stage.registry.snapshot();
    let known = snapshot.service(&service()).unwrap();
    let mut shown: Vec<_> = known
        .selectable()
        .map(|instance| format!("{}: {}", instance.replica.ordinal, instance.version.label()))
        .collect();
    shown.sort();
    shown.join(", ")
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_with_the_replicas_that_were_left_each_as_what_it_runs() {
    let left = vec![(0, "1.0.0".into()), (2, "1.0.0".into()), (3, "2.0.0".into()), (7, "1.5.0".into())];
    let reached = Reached { stage: rollout::Stage::Filling, pace: Pace::Going, percent: None };
    let since = Timestamp::UNIX_EPOCH;
    let rollout = FoundRollout { to: "2.0.0".into(), reached: Some(reached), since };
    let stage = Stage::with("1.0.0", 3, Found { left, rollout: Some(rollout), ..Found::default() });
    let before = stage.fleet.rollouts();
    let on_its_way = before.on_its_way.unwrap();
    assert_eq!((before.wanted.label(), on_its_way.from.label(), on_its_way.since), ("2.0.0", "1.0.0", since));
    stage.until(&[0, 2, 3, 7]).await;
    assert_eq!(labels(&stage), "0: 1.0.0, 2: 1.0.0, 3: 2.0.0, 7: 1.5.0", "each is what it was");
    stage.count_fewest();
    let mut rollouts = stage.fleet.watch_rollouts();
    let over = rollouts.wait_for(|rollouts| rollouts.on_its_way.is_none());
    let ended = timeout(Duration::from_secs(600), over).await.unwrap().unwrap().ended.clone();
    assert_eq!((ended[0].outcome.clone(), ended[0].times.0), (rollout::Outcome::Done, since));
    assert!(labels(&stage).matches("2.0.0").count() == 3, "{}", labels(&stage));
    assert!(labels(&stage).contains("3: 2.0.0"), "it stays: {}", labels(&stage));
    assert!(*stage.fewest.lock().unwrap() >= 3);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_replica_stays_stopped_through_a_rollout_and_runs_the_new_version_once_it_is_restarted() {
    let stage = Stage::new(3);
    stage.until(&[0, 1, 2]).await;
    stage.fleet.drain(id(1), Actor::Operator).await.unwrap();
    stage.fleet.roll("2.0.0".into(), terms(3), Actor::Operator).await.unwrap();
    let mut rollouts = stage.fleet.watch_rollouts();
    let over = rollouts.wait_for(|rollouts| rollouts.on_its_way.is_none() && !rollouts.ended.is_empty());
    assert!(timeout(Duration::from_secs(600), over).await.is_ok());
    let snapshot = stage.registry.snapshot();
    let known = snapshot.service(&service()).unwrap();
    assert_eq!((known.selectable().count(), known.replicas.len()), (2, 3));
    stage.fleet.restart(Actor::Operator).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    let known = stage.registry.snapshot().service(&service()).unwrap().clone();
    assert_eq!((known.selectable().count(), known.replicas.len()), (2, 3), "a restart leaves it alone");
    assert_eq!(known.replica(&id(1)).unwrap().state, LifecycleState::Stopped);
    let reason = known.replica(&id(1)).unwrap().reason.clone().unwrap();
    assert!(reason.starts_with("drained; `serviceos restart vrf/1`"), "{reason}");
    stage.fleet.restart_one(id(1), Actor::Operator).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(labels(&stage).contains("1: 2.0.0"), "{}", labels(&stage));
    assert!(labels(&stage).matches("2.0.0").count() == 3, "{}", labels(&stage));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_as_are_wanted_and_the_last_ones_leave_first() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    stage.scale(4).await;
    stage.until(&[0, 1, 2, 3]).await;
    assert_eq!(stage.registry.snapshot().service(&service()).unwrap().desired, 4);
    stage.scale(1).await;
    stage.until(&[0]).await;
    assert_eq!(*stage.running.lock().unwrap(), [0].into());
    let mut forgotten = stage.forgotten.lock().unwrap().clone();
    forgotten.sort_unstable();
    assert_eq!(forgotten, [1, 2, 3]);
    stage.scale(0).await;
    stage.until(&[]).await;
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn every_change_says_who_wanted_it_and_why() {
    let stage = Stage::new(1);
    stage.until(&[0]).await;
    stage.scale(2).await;
    stage.until(&[0, 1]).await;
    stage.scale(1).await;
    stage.until(&[0]).await;
    stage.fleet.restart_one(id(0), Actor::Operator).await.unwrap();
    let is_starting = |snapshot: &Arc<Snapshot>| {
        snapshot.service(&service()).unwrap().replicas[0].state == LifecycleState::Starting
    };
    stage.registry.subscribe().wait_for(is_starting).await.unwrap();
    stage.until(&[0]).await;
    stage.check_events(&expect![[r#"
        vrf/0 Stopped -> Starting (-; configuration)
        vrf/0 Starting -> Ready (-; supervisor)
        vrf Scaled { from: 1, to: 2 } (-; operator)
        vrf/1 Stopped -> Starting (scaled from 1 to 2; operator)
        vrf/1 Starting -> Ready (-; supervisor)
        vrf Scaled { from: 2, to: 1 } (-; operator)
        vrf/1 Ready -> Draining (scaled from 2 to 1; operator)
        vrf/1 Draining -> Stopped (scaled from 2 to 1; operator)
        vrf/0 Ready -> Draining (restarted; operator)
        vrf/0 Draining -> Stopped (restarted; operator)
        vrf/0 Stopped -> Starting (restarted; operator)
        vrf/0 Starting -> Ready (-; supervisor)
    "#]]);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_never_has_fewer_than_are_wanted() {
    let stage = Stage::new(3);
    stage.until(&[0, 1, 2]).await;
    stage.count_fewest();
    stage.fleet.restart(Actor::Operator).await.unwrap();
    assert_eq!(
        stage.fleet.restart(Actor::Operator).await,
        Err(FleetRefused::OnItsWay(service())),
        "one after the other"
    );
    stage.until(&[0, 1, 3]).await;
    assert_eq!(*stage.fewest.lock().unwrap(), 3);
    stage.fleet.restart(Actor::Operator).await.unwrap();
    stage.until(&[0, 1, 2]).await;
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_drained_stays_stopped_until_it_is_restarted_and_none_comes_in_its_place() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    stage.fleet.drain(id(1), Actor::Operator).await.unwrap();
    let is_stopped = |snapshot: &Arc<Snapshot>| {
        snapshot.service(&service()).unwrap().replicas[1].state == LifecycleState::Stopped
    };
    stage.registry.subscribe().wait_for(is_stopped).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    let snapshot = stage.registry.snapshot();
    let replica = &snapshot.service(&service()).unwrap().replicas[1];
    assert_eq!(
        (replica.state, replica.reason.as_deref(), replica.restarts),
        (LifecycleState::Stopped, Some("drained; `serviceos restart vrf/1` starts it again"), 0)
    );
    stage.fleet.restart_one(id(1), Actor::Operator).await.unwrap();
    stage.until(&[0, 1]).await;
    let unknown = stage.fleet.drain(id(7), Actor::Operator).await;
    assert_eq!(unknown, Err(FleetRefused::Unknown(id(7))));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_once_everything_stops() {
    let stage = Stage::new(1);
    stage.until(&[0]).await;
    stage.stop.send_replace(Wanted::Gone);
    stage.task.await.unwrap();
    assert_eq!(stage.fleet.drain(id(0), Actor::Operator).await, Err(FleetRefused::Stopping));
    assert!(stage.running.lock().unwrap().is_empty());
}

fn versions(stage: &Stage) -> BTreeSet<String> {
    let snapshot = stage.registry.snapshot();
    let selectable = snapshot.service(&service()).unwrap().selectable();
    selectable.map(|instance| instance.version.label().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn another_version_takes_the_place_of_the_one_that_runs() {
    let stage = Stage::new(3);
    stage.until(&[0, 1, 2]).await;
    stage.count_fewest();
    stage.fleet.roll("2.0.0".into(), terms(3), Actor::Configuration).await.unwrap();
    stage.until(&[0, 1, 3]).await;
    assert_eq!((versions(&stage), *stage.fewest.lock().unwrap()), (["2.0.0".to_owned()].into(), 3));
    let none = stage.fleet.steer(Steer::Undo, Actor::Operator).await;
    assert_eq!(none, Err(FleetRefused::NoRollout(service())));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_come_to_serve_is_given_up_and_the_old_one_never_lost_a_replica() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    stage.count_fewest();
    stage.fleet.roll("6.6.6".into(), terms(2), Actor::Configuration).await.unwrap();
    let is_reverted = |event: &Arc<service_registry::Event>| matches!(&event.what, What::Rollout(stage) if stage.starts_with("reverted: vrf/2: exited with code 0"));
    let mut events = stage.registry.events().last();
    while !stage.registry.events().after(0).iter().any(is_reverted) {
        timeout(Duration::from_secs(3600), events.changed()).await.unwrap().unwrap();
    }
    stage.until(&[0, 1]).await;
    assert_eq!((versions(&stage), *stage.fewest.lock().unwrap()), (["1.0.0".to_owned()].into(), 2));
    let running: Vec<_> = stage.running.lock().unwrap().iter().copied().collect();
    assert_eq!(running, [0, 1]);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_has_its_part_of_the_calls_and_waits_for_samples() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    let gate = rollout::Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 10 };
    let steps = vec![rollout::Step { weight: 50, pause: Some(Duration::from_secs(60)) }];
    let mut canary = terms(2);
    canary.plan.strategy = Strategy::Canary { steps, gate };
    stage.fleet.roll("2.0.0".into(), canary, Actor::Operator).await.unwrap();
    stage.until(&[0, 1, 2]).await;
    sleep(Duration::from_secs(600)).await;
    let split = || stage.registry.snapshot().service(&service()).unwrap().split.clone();
    let divided = split().unwrap();
    assert_eq!((divided.to.label(), divided.percent), ("2.0.0", 50), "too few calls say nothing");
    let tally = divided.answered.begin(service_registry::Side::Target);
    (0..10).for_each(|_| tally.add_call());
    stage.until(&[0, 2]).await;
    assert_eq!(versions(&stage), ["2.0.0".to_owned()].into());
    assert!(split().is_none());
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_back_to_the_version_that_runs_undoes_the_one_that_is_on_its_way() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    stage.count_fewest();
    let gate = rollout::Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 10 };
    let steps = vec![rollout::Step { weight: 50, pause: Some(Duration::from_secs(60)) }];
    let mut canary = terms(2);
    canary.plan.strategy = Strategy::Canary { steps, gate };
    let roll = |version: &'static str| stage.fleet.roll(version.into(), canary.clone(), Actor::Operator);
    roll("1.0.0").await.unwrap();
    let none = stage.fleet.steer(Steer::Undo, Actor::Operator).await;
    assert_eq!(none, Err(FleetRefused::NoRollout(service())), "it runs already");
    roll("2.0.0").await.unwrap();
    stage.until(&[0, 1, 2]).await;
    roll("1.0.0").await.unwrap();
    stage.until(&[0, 1]).await;
    assert_eq!((versions(&stage), *stage.fewest.lock().unwrap()), (["1.0.0".to_owned()].into(), 2));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_rolled_out_once_more_is_judged_by_new_calls_alone() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    let gate = rollout::Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 10 };
    let steps = vec![rollout::Step { weight: 50, pause: Some(Duration::from_secs(60)) }];
    let mut canary = terms(2);
    canary.plan.strategy = Strategy::Canary { steps, gate };
    stage.fleet.roll("2.0.0".into(), canary.clone(), Actor::Operator).await.unwrap();
    stage.until(&[0, 1, 2]).await;
    let split = || stage.registry.snapshot().service(&service()).unwrap().split.clone();
    let tally = split().unwrap().answered.begin(service_registry::Side::Target);
    (0..10).for_each(|_| tally.add_call());
    stage.fleet.roll("2.0.0".into(), canary, Actor::Operator).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert!(split().is_some(), "it waits for calls");
    (0..10).for_each(|_| tally.add_call());
    let is_over = |snapshot: &Arc<Snapshot>| snapshot.service(&service()).unwrap().split.is_none();
    timeout(Duration::from_secs(600), stage.registry.subscribe().wait_for(is_over)).await.unwrap().unwrap();
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_too_many_the_one_that_does_not_serve_goes_first() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    stage.fleet.restart(Actor::Operator).await.unwrap();
    stage.until(&[0, 2]).await;
    let unwell = |replica: &mut Replica| {
        replica.health.verdict = Verdict::Unhealthy;
        service_registry::Change::Made
    };
    stage.registry.update(&id(0), unwell);
    stage.scale(1).await;
    stage.until(&[2]).await;
    stage.end().await;
}

#[test]
fn a_replica_of_the_old_version_that_serves_between_two_crashes_is_missed_when_it_goes() {
    let mut replica = Replica::stopped(id(0), Timestamp::UNIX_EPOCH);
    let last = service_registry::LastExit::default();
    let crash_loop = service_registry::CrashLoop { ended: 3, since: Timestamp::UNIX_EPOCH, last };
    replica.crash_loop = Some(Arc::new(crash_loop));
    let orders = watch::Sender::new(Order::run(Actor::Operator, None));
    let mut driven = Driven { orders, release: 0, selectable_since: Some(Duration::ZERO), heir: None };
    assert_eq!(standing(&replica, &driven, Side::Stable), Standing::Selectable(Duration::ZERO));
    assert_eq!(standing(&replica, &driven, Side::Target), Standing::Failing(String::new()));
    driven.selectable_since = None;
    assert_eq!(standing(&replica, &driven, Side::Stable), Standing::Failing(String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_what_ends_again_and_again_is_over_once_nobody_new_is_left() {
    let bad = Stage::of("6.6.6", 1);
    sleep(Duration::from_secs(60)).await;
    bad.fleet.restart(Actor::Operator).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bad.fleet.restart(Actor::Operator).await, Ok(()), "the one before is over");
    bad.end().await;
}

#[test]
fn a_restart_that_is_given_up_is_on_its_way_until_nobody_takes_a_place_who_goes() {
    let member = |ordinal, side, standing| Member { id: id(ordinal), side, standing };
    let serves = || member(0, Side::Stable, Standing::Selectable(Duration::ZERO));
    assert!(old_is_alone(&[serves()]));
    assert!(!old_is_alone(&[serves(), member(1, Side::Stable, Standing::Draining)]));
    assert!(!old_is_alone(&[serves(), member(1, Side::Target, Standing::Pending)]));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_as_somebody_says_and_says_what_it_waits_for() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    let gate = rollout::Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 10 };
    let mut canary = terms(2);
    canary.plan.strategy = Strategy::Canary { steps: vec![rollout::Step { weight: 50, pause: None }], gate };
    stage.fleet.roll("2.0.0".into(), canary, Actor::Operator).await.unwrap();
    stage.until(&[0, 1, 2]).await;
    let steer = |steer| stage.fleet.steer(steer, Actor::Operator);
    let refused = |why| Err(FleetRefused::NotNow(service(), why));
    let waits = || stage.fleet.progress().unwrap().waits;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(waits(), [rollout::Waits::Promotion]);
    let going = "is not paused; `serviceos rollout promote` skips what it waits for";
    assert_eq!(steer(Steer::Resume).await, refused(going));
    assert_eq!((steer(Steer::Pause).await, steer(Steer::Pause).await), (Ok(()), Ok(())));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(waits(), [rollout::Waits::Resumption]);
    assert_eq!(steer(Steer::Promote).await, Ok(()));
    let filling = "has no steps and waits left; the new version takes the place of the old one already";
    assert_eq!(steer(Steer::Promote).await, refused(filling));
    assert_eq!((steer(Steer::Undo).await, steer(Steer::Undo).await), (Ok(()), Ok(())));
    let given_up = "is given up already, and the old version takes its place again; wait for its end";
    assert_eq!(steer(Steer::Promote).await, refused(given_up));
    stage.until(&[0, 1]).await;
    let told = |event: &Arc<service_registry::Event>| match &event.what {
        What::Rollout(told) => Some(format!("{told} ({})", event.actor)),
        _ => None,
    };
    let told: Vec<_> = stage.registry.events().after(0).iter().filter_map(told).collect();
    expect![[r#"
        1.0.0 to 2.0.0 (operator)
        paused (operator)
        promoted (operator)
        undone (operator)
        reverted: somebody wants it so (rollout)"#]]
    .assert_eq(&told.join("\n"));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_is_paused_is_promoted_where_all_of_it_serve_and_only_there() {
    let stage = Stage::new(2);
    stage.until(&[0, 1]).await;
    let mut green = terms(2);
    let (promotion, keep) = (rollout::Promotion::ByHand, Duration::from_secs(600));
    green.plan.strategy = Strategy::BlueGreen { promotion, keep };
    stage.fleet.roll("2.0.0".into(), green, Actor::Operator).await.unwrap();
    stage.until(&[0, 1, 2, 3]).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.fleet.progress().unwrap().waits, [rollout::Waits::Promotion]);
    let steer = |steer| stage.fleet.steer(steer, Actor::Operator);
    let is_to_be = |verdict| {
        stage.registry.update(&id(2), |replica| {
            replica.health.verdict = verdict;
            service_registry::Change::Made
        });
    };
    let too_few = "has too few replicas of the new version that serve, and starts none while it is paused; `serviceos rollout resume` lets it go on";
    let waits = "waits for replicas of the new version; promote it once all of them serve";
    let refused = |why| Err(FleetRefused::NotNow(service(), why));
    steer(Steer::Pause).await.unwrap();
    is_to_be(Verdict::Unhealthy);
    assert_eq!(steer(Steer::Promote).await, refused(too_few), "all served before");
    steer(Steer::Resume).await.unwrap();
    assert_eq!(steer(Steer::Promote).await, refused(waits));
    steer(Steer::Pause).await.unwrap();
    is_to_be(Verdict::Healthy);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(steer(Steer::Promote).await, Ok(()), "they came to serve while it was paused");
    sleep(Duration::from_secs(1)).await;
    let split = stage.registry.snapshot().service(&service()).unwrap().split.clone().unwrap();
    assert_eq!((split.to.label(), split.percent), ("2.0.0", 100));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_nobody_leads_any_more_what_is_in_flight_is_not_waited_for() {
    let stage = Stage::new(1);
    stage.until(&[0]).await;
    let instance = stage.registry.snapshot().replica(&id(0)).unwrap().instance.clone().unwrap();
    instance.in_flight.begin();
    stage.stop.send_replace(Wanted::Gone);
    let drains = |snapshot: &Arc<Snapshot>| {
        snapshot.replica(&id(0)).is_some_and(|replica| replica.state == LifecycleState::Draining)
    };
    stage.registry.subscribe().wait_for(drains).await.unwrap();
    let began = Instant::now();
    drop(stage.stop);
    stage.task.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(stage.running.lock().unwrap().is_empty());
}
