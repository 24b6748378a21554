use std::sync::Mutex;

use expect_test::{Expect, expect};
use service_registry::{Change, Channel, LifecycleState, MeshPeer, Registration, Service};
use types::Description;

use super::*;

mod adoption;
mod attestation;
mod elsewhere;

/// What a fake process does.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Listens, and ends when it is told to.
    Good,
    /// Listens, and ignores SIGTERM.
    Stubborn,
    /// Never listens.
    Silent,
    /// Says that it was refused, and waits to be ended.
    Refused,
    /// Ends at once.
    Crash,
    /// Ends at once as if all were well.
    Finishes,
    /// Listens, and ends by itself after this many seconds.
    Dies(u64),
    /// Cannot be launched.
    Missing,
    /// Registers itself, listens, and asks to be drained after this many seconds.
    Leaves(u64),
}

struct Fake {
    scripts: Mutex<Vec<Script>>,
    /// A process that is there before, and how often its replica was started again.
    left: Mutex<Option<(Script, u32)>>,
    /// Nothing is launched while this is so.
    held: watch::Receiver<bool>,
    signals: Arc<Mutex<Vec<Signal>>>,
    /// As whom each process listens, the latest last.
    peers: Arc<Mutex<Vec<Arc<MeshPeer>>>>,
}

struct FakeProcess {
    script: Script,
    peer: Arc<MeshPeer>,
    ended: watch::Sender<Option<Exit>>,
    signals: Arc<Mutex<Vec<Signal>>>,
}

fn exit(code: i32, words: &str) -> Exit {
    Exit::Ended { code: Some(code), signal: None, last_lines: words.lines().map(str::to_owned).collect() }
}

impl Launch for Fake {
    type Process = FakeProcess;

    fn may_begin(&self, _replica: &ReplicaId) -> impl Future<Output = ()> + Send {
        let mut held = self.held.clone();
        async move {
            let _said_or_nobody_holds = held.wait_for(|held| !held).await.is_ok();
        }
    }

    async fn left(
        &self,
        _replica: &ReplicaId,
        at_once: impl Future<Output = ()> + Send,
    ) -> Option<Left<FakeProcess>> {
        let (script, restarts) = self.left.lock().unwrap().take()?;
        if script == Script::Silent {
            // It does not show who it is, and is ended.
            let _over_or_late = timeout(Duration::from_secs(10), at_once).await.is_ok();
            return None;
        }
        Some(Left { process: self.process(script), restarts })
    }

    async fn launch(&self, _replica: &ReplicaId, _version: &Version) -> Result<FakeProcess, LaunchError> {
        let mut scripts = self.scripts.lock().unwrap();
        let script = if scripts.len() > 1 { scripts.remove(0) } else { scripts[0] };
        match script {
            Script::Missing => Err(LaunchError("no such program".into())),
            script => Ok(self.process(script)),
        }
    }
}

impl Fake {
    fn process(&self, script: Script) -> FakeProcess {
        let ended = watch::Sender::new(None);
        match script {
            Script::Crash => {
                ended.send_replace(Some(exit(3, "bad luck")));
            }
            Script::Finishes => {
                ended.send_replace(Some(exit(0, "nothing to do")));
            }
            Script::Dies(seconds) => {
                let ended = ended.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_secs(seconds)).await;
                    ended.send_replace(Some(exit(9, "")));
                });
            }
            Script::Missing
            | Script::Good
            | Script::Stubborn
            | Script::Silent
            | Script::Refused
            | Script::Leaves(_) => {}
        }
        let peer = Arc::new(MeshPeer::new("spiffe://test.dev.invalid/service/vrf/0".to_owned(), [1; 32]));
        self.peers.lock().unwrap().push(Arc::clone(&peer));
        FakeProcess { script, peer, ended, signals: Arc::clone(&self.signals) }
    }
}

impl Process for FakeProcess {
    fn pid(&self) -> Option<u32> {
        Some(42)
    }

    fn leaves(&self) -> impl Future<Output = ()> + Send + 'static {
        let script = self.script;
        async move {
            match script {
                Script::Leaves(seconds) => sleep(Duration::from_secs(seconds)).await,
                _ => std::future::pending().await,
            }
        }
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        match self.script {
            Script::Silent => std::future::pending().await,
            Script::Refused => Err(LaunchError("RELEASE_NOT_ALLOWED: expected aa, found bb".into())),
            Script::Crash | Script::Finishes => Err(LaunchError("it closed its descriptor".into())),
            _ => {
                let channel = Channel::Mesh(Arc::clone(&self.peer));
                let registers = matches!(self.script, Script::Leaves(_));
                let description = Description { weight: 7, ..Description::default() };
                let registered = Registration { lease: "a".into(), fencing_token: 1, description };
                let registration = registers.then(|| Arc::new(registered));
                Ok(Listening { address: ([127, 0, 0, 1], 1).into(), channel, registration })
            }
        }
    }

    async fn exited(&mut self) -> Exit {
        self.ended.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    fn signal(&self, signal: Signal, _cause: &Cause) {
        self.signals.lock().unwrap().push(signal);
        if signal == Signal::Kill || self.script != Script::Stubborn {
            let words = if self.script == Script::Silent { "I wait" } else { "" };
            self.ended.send_replace(Some(exit(0, words)));
        }
    }
}

struct Stage {
    registry: Registry,
    id: ReplicaId,
    orders: watch::Sender<Order>,
    _policy: watch::Sender<Policy>,
    held: watch::Sender<bool>,
    signals: Arc<Mutex<Vec<Signal>>>,
    peers: Arc<Mutex<Vec<Arc<MeshPeer>>>>,
    log: Arc<Mutex<String>>,
    running: tokio::task::JoinHandle<()>,
}

impl Stage {
    /// A driver over these scripts, a health owner that passes every instance which is attested, and a log of every published
    /// state.
    fn new(scripts: &[Script]) -> Self {
        Self::held(scripts, false)
    }

    /// The same, where nothing is launched before it is said.
    fn held(scripts: &[Script], is_held: bool) -> Self {
        Self::with_left(scripts, is_held, None)
    }

    /// The same, where a process is there before.
    fn with_left(scripts: &[Script], is_held: bool, left: Option<(Script, u32)>) -> Self {
        let (held, holding) = watch::channel(is_held);
        let id: ReplicaId = "vrf/0".parse().unwrap();
        let mut replica = Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH);
        replica.attestation = Attestation::exempt(Timestamp::UNIX_EPOCH);
        let replicas = vec![replica];
        let service = Service {
            name: id.service.clone(),
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        };
        let registry = Registry::new(vec![service]);
        let (signals, peers) = (Arc::default(), Arc::default());
        let launcher = Arc::new(Fake {
            scripts: Mutex::new(scripts.to_vec()),
            left: Mutex::new(left),
            held: holding,
            signals: Arc::clone(&signals),
            peers: Arc::clone(&peers),
        });
        let policy = Policy {
            start_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            restart_min: Duration::from_millis(100),
            restart_max: Duration::from_secs(30),
            restart_reset: Duration::from_secs(60),
        };
        let (orders, told) = watch::channel(Order::run(Actor::Configuration, None));
        let (policy, follows) = watch::channel(policy);
        let log = Arc::new(Mutex::new(String::new()));
        tokio::spawn(pass_every_check(registry.clone(), id.clone(), Arc::clone(&log)));
        let driver = Driver::new(
            id.clone(),
            "1.0.0".into(),
            launcher,
            follows,
            registry.clone(),
            told,
            fastrand::Rng::with_seed(7),
        );
        let running = tokio::spawn(driver.run());
        Self { registry, id, orders, _policy: policy, held, signals, peers, log, running }
    }

    async fn until(&self, state: LifecycleState) {
        let reached =
            |snapshot: &Arc<service_registry::Snapshot>| snapshot.replica(&self.id).unwrap().state == state;
        self.registry.subscribe().wait_for(reached).await.unwrap();
        tokio::task::yield_now().await;
    }

    /// How the replica has ended the last time, once it is known to end again and again.
    async fn last_of_a_crash_loop(&self) -> LastExit {
        let found = |snapshot: &Arc<service_registry::Snapshot>| {
            snapshot.replica(&self.id).unwrap().crash_loop.is_some()
        };
        let snapshot = self.registry.subscribe().wait_for(found).await.unwrap().clone();
        snapshot.replica(&self.id).unwrap().crash_loop.clone().unwrap().last.clone()
    }

    fn order(&self, wanted: Wanted, cause: &str) {
        self.orders.send_modify(|order| order.becomes(wanted, Actor::Operator, cause.to_owned()));
    }

    async fn stop(self, wanted: Wanted, expected: Expect) {
        self.order(wanted, "stopped");
        self.running.await.unwrap();
        tokio::task::yield_now().await;
        let signals = self.signals.lock().unwrap().clone();
        expected.assert_eq(&format!("{}{signals:?}\n", self.log.lock().unwrap()));
    }
}

async fn pass_every_check(registry: Registry, id: ReplicaId, log: Arc<Mutex<String>>) {
    let began = Instant::now();
    let mut snapshots = registry.subscribe();
    let mut last = String::new();
    loop {
        let replica = snapshots.borrow_and_update().replica(&id).unwrap().clone();
        let line = format!("{} {}", replica.state, replica.reason.unwrap_or_default());
        if line != last {
            *log.lock().unwrap() += &format!("{}s {}\n", began.elapsed().as_secs(), line.trim_end());
            last = line;
        }
        let is_unchecked = replica.health.verdict == Verdict::Unknown && replica.attestation.holds();
        if replica.instance.is_some() && is_unchecked {
            registry.update(&id, |replica| {
                replica.health.verdict = Verdict::Healthy;
                Change::Made
            });
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_becomes_ready_and_stops_when_it_is_told() {
    let stage = Stage::new(&[Script::Good]);
    stage.until(LifecycleState::Ready).await;
    assert_eq!(stage.registry.snapshot().replica(&stage.id).unwrap().pid, Some(42));
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        0s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_requests_in_flight() {
    let stage = Stage::new(&[Script::Good]);
    stage.until(LifecycleState::Ready).await;
    let snapshot = stage.registry.snapshot();
    let in_flight = &snapshot.replica(&stage.id).unwrap().instance.as_ref().unwrap().in_flight;
    in_flight.begin();
    stage.order(Wanted::Gone, "stopped");
    stage.until(LifecycleState::Draining).await;
    sleep(Duration::from_secs(20)).await;
    assert!(stage.signals.lock().unwrap().is_empty(), "it was told to end with a request in flight");
    in_flight.end();
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        0s Draining stopped
        20s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_ignores_sigterm_is_killed_after_the_grace() {
    let stage = Stage::new(&[Script::Stubborn]);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        0s Draining stopped
        10s Stopped stopped
        [Terminate, Kill]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_at_once_kills_at_once() {
    let stage = Stage::new(&[Script::Stubborn]);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        0s Stopped stopped
        [Kill]
    "#]];
    stage.stop(Wanted::GoneAtOnce, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_never_listens_is_stopped_after_the_start_timeout_and_tried_again() {
    let stage = Stage::new(&[Script::Silent, Script::Good]);
    stage.until(LifecycleState::Ready).await;
    assert_eq!(stage.registry.snapshot().replica(&stage.id).unwrap().restarts, 1);
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        60s Stopped not ready within the start timeout of 60s
        60s Starting started again: not ready within the start timeout of 60s
        60s Ready
        60s Stopped stopped
        [Terminate, Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_shows_its_exit_code_and_last_words() {
    let stage = Stage::new(&[Script::Crash, Script::Missing, Script::Dies(100), Script::Good]);
    sleep(Duration::from_secs(200)).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Stopped exited with code 3; its last words: bad luck
        0s Stopped no such program
        0s Starting started again: no such program
        0s Ready
        100s Stopped exited with code 9
        100s Starting started again: exited with code 9
        100s Ready
        200s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_as_if_all_were_well_shows_why_its_exit_code_and_its_last_words() {
    let last = Stage::new(&[Script::Finishes]).last_of_a_crash_loop().await;
    assert_eq!((last.code, last.last_lines), (Some(0), vec!["nothing to do".to_owned()]));
    assert_eq!(last.reason, "it closed its descriptor (exited with code 0; its last words: nothing to do)");
}

#[tokio::test(start_paused = true)]
async fn what_one_has_written_that_never_listens_is_shown_and_not_how_it_was_ended() {
    let last = Stage::new(&[Script::Silent]).last_of_a_crash_loop().await;
    assert_eq!((last.code, last.last_lines), (None, vec!["I wait".to_owned()]));
    assert_eq!(last.reason, "not ready within the start timeout of 60s");
}

#[tokio::test(start_paused = true)]
async fn stopping_in_the_middle_of_starting_ends_the_process() {
    let stage = Stage::new(&[Script::Silent]);
    stage.until(LifecycleState::Starting).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Stopped stopped before it was ready: stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_between_two_lives_starts_no_third() {
    let stage = Stage::new(&[Script::Missing]);
    sleep(Duration::from_secs(40)).await;
    let restarts = stage.registry.snapshot().replica(&stage.id).unwrap().restarts;
    assert!((8..=12).contains(&restarts), "back-off: {restarts} restarts in 40 s");
    let id = stage.id.clone();
    let registry = stage.registry.clone();
    stage.order(Wanted::Gone, "stopped");
    stage.running.await.unwrap();
    assert_eq!(registry.snapshot().replica(&id).unwrap().restarts, restarts);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_one_event_whatever_the_replica_does_then() {
    for (scripts, expected) in [
        (&[Script::Missing][..], "Stopped -> Stopped: drained"),
        (&[Script::Silent], "Starting -> Stopped: stopped before it was ready: drained"),
        (&[Script::Good], "Draining -> Stopped: drained"),
    ] {
        let stage = Stage::new(scripts);
        let state = match scripts {
            [Script::Missing] => LifecycleState::Stopped,
            [Script::Silent] => LifecycleState::Starting,
            _ => LifecycleState::Ready,
        };
        // By then it is in the middle of its first wait, where it has one.
        sleep(Duration::from_millis(10)).await;
        stage.until(state).await;
        stage.order(Wanted::Drained, "drained");
        sleep(Duration::from_secs(100)).await;
        let events = stage.registry.events().after(0);
        let stopped = events.iter().filter_map(|event| match &event.what {
            What::State { from, to: to @ LifecycleState::Stopped } if event.actor == Actor::Operator => {
                Some(format!("{from} -> {to}: {}", event.cause.as_deref().unwrap_or_default()))
            }
            _ => None,
        });
        assert_eq!(stopped.collect::<Vec<_>>(), [expected]);
        let shown = stage.registry.snapshot().replica(&stage.id).unwrap().reason.clone();
        assert_eq!(shown.as_deref(), Some("drained"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_to_begin_anew_between_two_lives_is_whose_it_is_and_forgets_the_crashes() {
    let stage = Stage::new(&[Script::Missing, Script::Missing, Script::Missing, Script::Good]);
    let loops = |snapshot: &Arc<service_registry::Snapshot>| {
        snapshot.replica(&stage.id).unwrap().crash_loop.is_some()
    };
    stage.registry.subscribe().wait_for(loops).await.unwrap();
    stage.orders.send_modify(|order| order.restart(Actor::Operator, "restarted".to_owned()));
    stage.until(LifecycleState::Ready).await;
    let replica = stage.registry.snapshot().replica(&stage.id).unwrap().clone();
    assert_eq!((replica.restarts, replica.crash_loop), (2, None));
    let launched = |event: &&Arc<service_registry::Event>| {
        matches!(event.what, What::State { to: LifecycleState::Starting, .. })
    };
    let events = stage.registry.events().after(0);
    let last = events.iter().rfind(launched).unwrap();
    assert_eq!((last.cause.as_deref(), &last.actor), (Some("restarted"), &Actor::Operator));
}
