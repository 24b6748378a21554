//! A service whose replicas do what a script says, on loopback sockets, and calls to it.
//!
//! A script names the replicas in the order in which they are preferred, or, separated by commas, those that are called in
//! turn: `vrf/0: 200 reset | 200; vrf/1: refuse`. Each has a list of connections, separated by `|`, the last of which
//! repeats; a connection has a word for each request on it. The words stand in `http1_replica.rs`, and those of replicas that
//! speak HTTP/2 in `http2_replica.rs`. Two stand alone: with `refuse` nobody listens, and with `deaf` a connection is neither
//! accepted nor refused.
//!
//! A call is written as its method and the size of its body, as `PUT 1024`; all but POST may be repeated.

use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use expect_test::Expect;
use http::Method;
use http1::{BufferPool, Framing, Trailers};
use jiff::Timestamp;
use observability::{CircuitLimit, Metrics, RetryDenied, ServiceShard, UpstreamFailure};
use service_registry::{
    Attestation, Calls, Change, Instance, LifecycleState, Registry, Replica, Sample, Service, Side, Verdict,
    Version,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::Instant;
use types::{ReplicaId, ServiceName};

use super::{http1_replica, http2_replica};
use crate::circuit::{Circuit, CircuitLimits};
use crate::endpoint::Endpoint;
use crate::upload::tests::Pieces;
use crate::{
    Answer, Balancing, BalancingPolicy, BodyError, CallHead, CallOptions, Failure, Replay, RequestBody,
    RetryOn, RouterPlan, RouterPolicy, ServicePlan, ServiceView, Suspicion, Timer, UpstreamProtocol, Wanted,
    WorkerRouter,
};

/// How long a call may take that asks for nothing else.
const ALLOWED: Duration = Duration::from_secs(15);

/// Makes the calls one after the other, on replicas of their own.
pub(super) async fn check(script: &str, calls: &[&str], expected: Expect) {
    let mut bench = Bench::new(script);
    for call in calls {
        bench.call(call).await;
    }
    bench.shows(expected);
}

/// The same over HTTP/2.
pub(super) async fn check_http2(script: &str, calls: &[&str], expected: Expect) {
    let checked = async {
        let mut bench = Bench::http2(script);
        for call in calls {
            bench.call(call).await;
        }
        bench.shows(expected);
    };
    LocalSet::new().run_until(checked).await;
}

/// One worker's router to a service that a script plays.
pub(super) struct Bench {
    router: WorkerRouter,
    registry: Registry,
    view: Rc<ServiceView>,
    plan: ServicePlan,
    shard: Arc<ServiceShard>,
    suspicions: mpsc::Receiver<Suspicion>,
    /// Sockets that keep the ports at which nobody listens, or nobody accepts.
    _refusing: Vec<TcpSocket>,
    _deaf: Vec<(TcpListener, Vec<std::net::TcpStream>)>,
    playing: BTreeMap<String, AbortHandle>,
    log: Log,
    pub(super) timeout: Duration,
    /// Which version calls are for.
    pub(super) wanted: Wanted,
}

/// What happened, a line for each thing.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<String>>);

impl Log {
    pub(super) fn line(&self, line: &str) {
        *self.0.lock().unwrap() += &format!("{}\n", line.trim_end());
    }
}

impl Bench {
    pub(super) fn new(script: &str) -> Self {
        Self::speaking(UpstreamProtocol::Http1, script)
    }

    /// One whose replicas speak HTTP/2. Its calls are made inside of a [`LocalSet`].
    pub(super) fn http2(script: &str) -> Self {
        Self::speaking(UpstreamProtocol::Http2, script)
    }

    fn speaking(protocol: UpstreamProtocol, script: &str) -> Self {
        let (log, mut replicas) = (Log::default(), Vec::new());
        let (mut refusing, mut deaf, mut playing) = (Vec::new(), Vec::new(), BTreeMap::new());
        let levels = script.split(';').zip(0..);
        for (level, replica) in
            levels.flat_map(|(level, number)| level.split(',').map(move |part| (number, part)))
        {
            let (id, connections) = replica.trim().split_once(": ").unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            replicas.push(ready(id.parse().unwrap(), socket.local_addr().unwrap(), level));
            if connections == "refuse" {
                refusing.push(socket);
                continue;
            }
            if connections == "deaf" {
                deaf.push(full(socket));
                continue;
            }
            let words = |connection: &str| connection.split_whitespace().map(str::to_owned).collect();
            let connections = connections.split('|').map(words).collect();
            let listener = socket.listen(128).unwrap();
            let task = match protocol {
                UpstreamProtocol::Http1 => {
                    tokio::spawn(http1_replica::play(listener, id.to_owned(), connections, log.clone()))
                }
                UpstreamProtocol::Http2 => {
                    tokio::spawn(http2_replica::play(listener, id.to_owned(), connections, log.clone()))
                }
            };
            playing.insert(id.to_owned(), task.abort_handle());
        }
        let name: ServiceName = "vrf".parse().unwrap();
        let service = Service {
            name: name.clone(),
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        };
        let registry = Registry::new(vec![service]);
        let (suspect, suspicions) = mpsc::channel(100);
        let plan = RouterPlan { registry: registry.clone(), suspicions: suspect };
        let (router, _subscription) =
            WorkerRouter::new(plan, 0, fastrand::Rng::with_seed(1), Rc::new(BufferPool::default()));
        let limits = CircuitLimits { connections: 100, pending: 100, requests: 100 };
        let series = Metrics::new(1).service("vrf");
        let shard = Arc::clone(series.shard(0));
        let policy = Arc::new(policy(protocol));
        let plan = ServicePlan { name, policy, circuit: Circuit::new(limits), series };
        let view = router.view(&plan);
        let timeout = Duration::from_secs(10);
        let (_refusing, _deaf) = (refusing, deaf);
        Self {
            router,
            registry,
            view,
            plan,
            shard,
            suspicions,
            _refusing,
            _deaf,
            playing,
            log,
            timeout,
            wanted: Wanted::Any,
        }
    }

    pub(super) fn change_policy(&mut self, change: impl FnOnce(&mut RouterPolicy)) {
        let mut policy = RouterPolicy::clone(&self.plan.policy);
        change(&mut policy);
        self.plan.policy = Arc::new(policy);
        self.use_plan();
    }

    pub(super) fn change_circuit(&mut self, circuit: Arc<Circuit>) {
        self.plan.circuit = circuit;
        self.use_plan();
    }

    fn use_plan(&self) {
        self.view.set_policy(&self.plan.policy, &self.plan.circuit);
    }

    /// From now on a replica takes no more calls.
    pub(super) fn drain(&self, id: &str) {
        self.change_replica(id, |replica| replica.state = LifecycleState::Draining);
    }

    /// The checks say that of a replica.
    pub(super) fn check_says(&self, id: &str, verdict: Verdict) {
        self.change_replica(id, |replica| replica.health.verdict = verdict);
    }

    pub(super) fn change_replica(&self, id: &str, change: impl FnOnce(&mut Replica)) {
        self.registry.update(&id.parse().unwrap(), |replica| {
            change(replica);
            Change::Made
        });
        self.view.follow(&self.registry.snapshot().services[0], Instant::now());
    }

    /// From now on a replica is of this version, in another run of it at the same place.
    pub(super) fn change_version(&self, id: &str, version: &Version) {
        self.change_replica(id, |replica| {
            let known = replica.instance.as_ref().unwrap();
            let incarnation = self.registry.next_incarnation() + 100;
            let run = Instance::new(replica.id.clone(), incarnation, known.address, version.clone());
            replica.instance = Some(Arc::new(run));
        });
    }

    /// From now on this version has this part of the calls.
    pub(super) fn split(&self, part: Option<(Version, u8)>) {
        self.registry.split(&self.plan.name, part);
        self.view.follow(&self.registry.snapshot().services[0], Instant::now());
    }

    /// How a side has answered so far.
    pub(super) fn sample(&self, side: Side) -> Sample {
        self.registry.snapshot().services[0].split.as_ref().unwrap().answered.sample(side)
    }

    /// The number of a version.
    pub(super) fn version(&self, version: &str) -> u32 {
        self.view.version(version.as_bytes())
    }

    /// From now on a replica is gone, with all of its connections.
    pub(super) fn kill(&self, id: &str) {
        self.playing[id].abort();
    }

    /// Waits until so many lines of the log say that.
    pub(super) async fn until_logged(&self, times: usize, what: &str) {
        while self.log.0.lock().unwrap().matches(what).count() < times {
            tokio::task::yield_now().await;
        }
    }

    /// The lines of the log that say that.
    pub(super) fn logged(&self, what: &str) -> String {
        let log = self.log.0.lock().unwrap();
        log.lines().filter(|line| line.contains(what)).map(str::trim).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn use_up_the_budget(&self) {
        // It fills up again with the time, which for the budget stands still until then.
        let later = Instant::now() + Duration::from_secs(3600);
        while self.view.budget.take(0, later) {}
    }

    /// Makes a call, reads its answer, and writes both down.
    pub(super) async fn call(&self, call: &str) {
        match self.begin(call).await {
            Ok(answer) => {
                self.finish(answer).await;
            }
            Err(failure) => {
                let mut error = failure.error.to_string();
                for replica in &self.registry.snapshot().services[0].replicas {
                    let address = replica.instance.as_ref().unwrap().address;
                    error = error.replace(&address.to_string(), &replica.id.to_string());
                }
                self.log.line(&format!("  failed, tries: {}: {error}", failure.attempts));
            }
        }
    }

    /// Makes a call up to the head of its answer.
    pub(super) async fn begin(&self, call: &str) -> Result<Answer, Failure> {
        self.begin_with(call, pending()).await
    }

    /// The same for a client that goes away with the end of `stays`.
    pub(super) async fn begin_with(
        &self,
        call: &str,
        stays: impl Future<Output = ()>,
    ) -> Result<Answer, Failure> {
        self.log.line(call);
        let (method, size) = call.split_once(' ').unwrap_or((call, "0"));
        let head = Head(method.parse().unwrap());
        let mut body = Client { body: body(size.parse().unwrap()), stays: Box::pin(stays) };
        let replay = if head.0 == Method::POST { Replay::Unsafe } else { Replay::Safe };
        let began = Instant::now();
        let options = CallOptions {
            began,
            replay,
            timeout: self.timeout,
            allowed: ALLOWED,
            hash: None,
            version: self.wanted,
            sticky: None,
        };
        let mut timer = Timer::new(began);
        self.router.execute(&self.view, options, &head, &mut body, &mut timer).await
    }

    /// Reads an answer to its end and writes it down; how long it is.
    pub(super) async fn finish(&self, mut answer: Answer) -> usize {
        let (mut text, mut none) = (Vec::new(), Pieces(Vec::new()));
        let (status, tries) = (answer.head().status().as_u16(), answer.attempts);
        loop {
            match poll_fn(|context| answer.poll_data(context, &mut none)).await {
                Ok(true) => text.extend_from_slice(answer.data()),
                Ok(false) => break,
                Err(_) => {
                    self.log.line(&format!(
                        "  {status} by {}, tries: {tries}, breaks off",
                        answer.instance().replica
                    ));
                    return text.len();
                }
            }
            let length = answer.data().len();
            answer.consume(length);
        }
        let name = answer.instance().replica.to_string();
        let bodiless = answer.head().framing() == Framing::Length(0);
        assert!(bodiless || text.starts_with(name.as_bytes()));
        self.log.line(&format!("  {status} by {name}, tries: {tries}"));
        answer.finish();
        text.len()
    }

    /// Makes calls at once; who answered each of them.
    pub(super) async fn together(&self, calls: usize, call: &str) -> String {
        let one = async || match self.begin(call).await {
            Ok(answer) => {
                let replica = answer.instance().replica.clone();
                self.finish(answer).await;
                replica.to_string()
            }
            Err(failure) => failure.error.to_string(),
        };
        let mut running: Vec<_> = (0..calls).map(|_| Box::pin(one())).collect();
        let mut answered = BTreeMap::<String, usize>::new();
        poll_fn(|context| {
            running.retain_mut(|call| match call.as_mut().poll(context) {
                Poll::Ready(by) => {
                    *answered.entry(by).or_default() += 1;
                    false
                }
                Poll::Pending => true,
            });
            if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        answered.iter().map(|(by, calls)| format!("{calls} by {by}")).collect::<Vec<_>>().join(", ")
    }

    /// A replica as the worker sees it.
    pub(super) fn endpoint(&self, id: &str) -> Rc<Endpoint> {
        let mut endpoints = self.view.endpoints().into_iter();
        endpoints.find(|endpoint| endpoint.instance.replica.to_string() == id).unwrap()
    }

    /// How many calls replicas have declined.
    pub(super) fn declined(&self) -> u64 {
        self.shard.upstream_failures.value(UpstreamFailure::Declined)
    }

    /// What a call usually costs, in seconds.
    pub(super) fn usual_load(&self) -> f64 {
        self.view.usual_load(Instant::now())
    }

    /// How many connections were made.
    pub(super) fn connects(&self) -> u64 {
        self.shard.connects.value()
    }

    /// How many retries the budget has given away that are not over.
    pub(super) fn retries(&self) -> u32 {
        self.view.budget.retries()
    }

    /// From now on one call decides about a replica.
    pub(super) fn put_on_probation(&self, id: &str) {
        self.instance(id).outcomes.begin_probation();
    }

    /// Looks for idle connections, as is done every [`crate::PRUNE_INTERVAL`].
    pub(super) fn prune(&self) {
        self.view.prune();
    }

    /// Connections that are open. Those over HTTP/2 are ended by tasks of their own, which have their turn first.
    pub(super) async fn open_connections(&self) -> i64 {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.shard.connections.value()
    }

    /// How many calls a replica had.
    pub(super) fn calls_of(&self, id: &str) -> Calls {
        self.instance(id).calls.total()
    }

    fn instance(&self, id: &str) -> Arc<Instance> {
        let snapshot = self.registry.snapshot();
        snapshot.replica(&id.parse().unwrap()).unwrap().instance.clone().unwrap()
    }

    /// What the health owner was told since the last time.
    pub(super) fn suspicions(&mut self) -> String {
        let told = std::iter::from_fn(|| self.suspicions.try_recv().ok());
        let told = told.map(|suspicion| format!("{} {:?}", suspicion.replica, suspicion.kind));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Everything that happened, and what it says of the replicas and of the service.
    pub(super) fn shows(&mut self, expected: Expect) {
        while let Ok(suspicion) = self.suspicions.try_recv() {
            self.log.line(&format!("suspected: {} {:?}", suspicion.replica, suspicion.kind));
        }
        let alone = self.view.endpoints();
        let alone = alone.iter().filter(|endpoint| !endpoint.trusted());
        let alone: Vec<_> = alone.map(|endpoint| endpoint.instance.replica.to_string()).collect();
        if !alone.is_empty() {
            self.log.line(&format!("left alone: {}", alone.join(", ")));
        }
        for reason in [RetryDenied::Budget, RetryDenied::NotReplayable] {
            self.count(&format!("not retried for {reason:?}"), self.shard.retries_denied.value(reason));
        }
        self.count("declined", self.declined());
        for limit in [CircuitLimit::Connections, CircuitLimit::Pending, CircuitLimit::Requests] {
            self.count(&format!("shed for {limit:?}"), self.shard.circuit_open.value(limit));
        }
        expected.assert_eq(&self.log.0.lock().unwrap());
    }

    fn count(&self, what: &str, number: u64) {
        if number > 0 {
            self.log.line(&format!("{what}: {number}"));
        }
    }
}

/// While this is kept, a paused clock moves by [`tokio::time::advance`] alone: it would run ahead of the sockets as soon as all
/// wait for those, but not while a blocking task runs.
pub(super) fn hold_clock() -> std::sync::mpsc::Sender<()> {
    let (held, until_dropped) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || until_dropped.recv().is_err());
    held
}

/// A socket whose queue of connections is full, so that the kernel answers no further one.
fn full(socket: TcpSocket) -> (TcpListener, Vec<std::net::TcpStream>) {
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = |_| {
        let connected = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50));
        connected.ok()
    };
    // As many as are taken; the queue's length is the kernel's affair.
    let taken: Vec<_> = (0..8).map_while(fill).collect();
    (listener, taken)
}

/// A replica that serves while those of lower levels do not.
fn ready(id: ReplicaId, address: SocketAddr, level: u32) -> Replica {
    let mut replica = Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH);
    replica.attestation = Attestation::exempt(Timestamp::UNIX_EPOCH);
    let run = u64::from(id.ordinal) + 1;
    replica.instance = Some(Arc::new(Instance::new(id, run, address, "1.0.0".into())));
    replica.priority = level;
    (replica.state, replica.health.verdict) = (LifecycleState::Ready, Verdict::Healthy);
    replica
}

fn policy(protocol: UpstreamProtocol) -> RouterPolicy {
    RouterPolicy {
        protocol,
        tls: None,
        attempts: 2,
        per_try_timeout: Duration::from_secs(10),
        retry_on: RetryOn { connect: true, reset: true, statuses: vec![503] },
        budget_percent: 20,
        failures_in_a_row: 0,
        balancing: Balancing {
            policy: BalancingPolicy::RoundRobin,
            slow_start: Duration::ZERO,
            panic_threshold_percent: 0,
            version_weights: Vec::new(),
        },
    }
}

/// In pieces of at most 10,000 bytes, as if it came over a network.
fn body(size: usize) -> Pieces {
    Pieces(vec![b'x'; size].chunks(10_000).map(<[u8]>::to_vec).collect())
}

/// The body of a call, and how long its client is there.
struct Client<F> {
    body: Pieces,
    stays: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> RequestBody for Client<F> {
    fn framing(&self) -> Framing {
        self.body.framing()
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        self.body.poll_data(context)
    }

    fn data(&self) -> &[u8] {
        self.body.data()
    }

    fn consume(&mut self, bytes: usize) {
        self.body.consume(bytes);
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stays.as_mut().poll(context)
    }

    fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        self.body.take_trailers()
    }
}

/// The head of every call.
struct Head(Method);

impl CallHead for Head {
    fn method(&self) -> &Method {
        &self.0
    }

    fn target(&self) -> (&[u8], &[u8]) {
        (b"/v1/random", b"")
    }

    fn host(&self) -> &[u8] {
        b"api.example.org"
    }

    fn upgrade(&self) -> Option<&str> {
        None
    }

    fn has_grpc_timeout(&self) -> bool {
        false
    }

    fn each_field(&self, _put: &mut impl FnMut(&[u8], &[u8])) {}
}
