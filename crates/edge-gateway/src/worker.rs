//! One worker: a thread with an event loop, its listeners, its view of the services, its counters and its log lines.

use std::cell::RefCell;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access::KeyTable;
use http1::{BufferPool, RequestHead};
use observability::{GatewayShard, LineBuffer};
use service_router::{PRUNE_INTERVAL, Timer, WorkerRouter};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::authenticate::Tokens;
use crate::clock::Clock;
use crate::drain_signal::{DrainSignal, Stage};
use crate::exchange::Exchange;
use crate::followed::Followed;
use crate::gateway::{Phase, PublishedPlan, Shared};
use crate::held::HeldBytes;
use crate::plan::{Plan, WorkerPlan};
use crate::{FlowError, accept, access_line};

/// How long an access log line may wait in the worker's buffer.
const LOG_FLUSH: Duration = Duration::from_millis(200);
/// After a failed accept (most likely no descriptors are left), connections must end before another can begin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long those may take to be told that there is no answer for them who have none when a drain's time is over.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Heads and output buffers that are kept for the next requests.
const KEPT: usize = 256;
/// Output buffers that grew larger than this are not kept.
const KEPT_OUT_BYTES: usize = 64 << 10;
/// Heads that grew larger than this are not kept: few are longer, and all that are kept together are 1 MiB at the most.
const KEPT_HEAD_BYTES: usize = 4 << 10;

/// What every connection and request of this worker shares.
pub(crate) struct Worker {
    plan: RefCell<Rc<WorkerPlan>>,
    /// What it has in common with the others.
    pub(crate) shared: Shared,
    pub(crate) keys: Followed<KeyTable>,
    pub(crate) tokens: Tokens,
    pub(crate) router: WorkerRouter,
    pub(crate) shard: Arc<GatewayShard>,
    pub(crate) clock: Clock,
    pub(crate) requests: RequestCount,
    pub(crate) buffers: Rc<BufferPool>,
    /// For bodies that are read whole.
    pub(crate) held_bytes: HeldBytes,
    lines: Option<RefCell<LineBuffer>>,
    #[expect(clippy::vec_box, reason = "the boxes are what is handed out, so that no head is copied")]
    heads: RefCell<Vec<Box<RequestHead>>>,
    outs: RefCell<Vec<Vec<u8>>>,
    timers: RefCell<Vec<Timer>>,
    number: usize,
}

/// Requests in flight in the whole process: a single atomic, as the limit is for all workers together.
#[derive(Clone, Default)]
pub(crate) struct RequestCount(Arc<AtomicUsize>);

impl RequestCount {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What becomes a worker on its own thread.
pub(crate) struct WorkerSeed {
    pub(crate) plan: Arc<Plan>,
    pub(crate) shared: Shared,
    pub(crate) requests: RequestCount,
    pub(crate) random: fastrand::Rng,
    pub(crate) number: usize,
}

impl WorkerSeed {
    /// Is a worker on this thread until its gateway has drained.
    pub(crate) fn run(self, inputs: Inputs) {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, worker = self.number, "a gateway worker has no event loop");
                return;
            }
        };
        runtime.block_on(async move {
            let (worker, following) = self.worker();
            serve(worker, inputs, following).await;
        });
    }

    /// The worker, and what keeps its view of the replicas up to date.
    pub(crate) fn worker(self) -> (Rc<Worker>, impl Future<Output = ()> + 'static) {
        let Self { plan, shared, requests, mut random, number } = self;
        let shard = shared.metrics.gateway(number);
        let lines = shared.access_log.clone().map(|log| LineBuffer::new(log, Arc::clone(&shard)).into());
        let buffers = Rc::new(BufferPool::default());
        let (router, subscription) =
            WorkerRouter::new(shared.router.clone(), number, random.fork(), Rc::clone(&buffers));
        router.use_services(&plan.services);
        let worker = Rc::new(Worker {
            plan: WorkerPlan::new(plan, number, None).into(),
            keys: Followed::new(shared.keys.clone()),
            tokens: Tokens::new(shared.tokens.clone(), Arc::clone(&shared.users)),
            shared,
            router,
            shard,
            clock: Clock::new(random),
            requests,
            buffers,
            held_bytes: HeldBytes::default(),
            lines,
            heads: RefCell::default(),
            outs: RefCell::default(),
            timers: RefCell::default(),
            number,
        });
        let following = Rc::clone(&worker);
        (worker, async move { following.router.follow_snapshots(subscription).await })
    }
}

impl Worker {
    /// The configuration in force.
    pub(crate) fn plan(&self) -> Rc<WorkerPlan> {
        Rc::clone(&self.plan.borrow())
    }

    /// Every request from now on is handled by this configuration; those that have begun end with theirs.
    async fn use_plan(&self, published: &PublishedPlan) {
        let before = self.plan();
        let plan = WorkerPlan::new(Arc::clone(&published.plan), self.number, Some(&before));
        plan.begun().await;
        self.router.use_services(&published.plan.services);
        *self.plan.borrow_mut() = plan;
    }

    /// Refuses a request when too many are in flight; it counts itself already.
    pub(crate) fn admit(&self, plan: &WorkerPlan) -> Result<(), FlowError> {
        if self.requests.count() > plan.plan.limits.requests {
            self.shard.requests_shed.add_one();
            return Err(FlowError::Overloaded("the gateway"));
        }
        Ok(())
    }

    pub(crate) fn log(&self, exchange: &Exchange, total: Duration) {
        if let Some(lines) = &self.lines {
            let routes = exchange.plan.plan.routes.routes();
            let route = exchange.route.and_then(|number| routes.get(number));
            lines.borrow_mut().line(|out| access_line::write(out, exchange, route, total));
        }
    }

    fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().flush();
        }
    }

    /// A head to read a request into.
    pub(crate) fn take_head(&self) -> Box<RequestHead> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back_head(&self, mut head: Box<RequestHead>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < KEPT && head.capacity() <= KEPT_HEAD_BYTES {
            // Nobody reads a credential in it later, by whatever mistake.
            head.clear();
            heads.push(head);
        }
    }

    /// A timer for a task that lives no longer than a request.
    pub(crate) fn take_timer(&self, now: Instant) -> Timer {
        self.timers.borrow_mut().pop().unwrap_or_else(|| Timer::new(now))
    }

    pub(crate) fn give_back_timer(&self, mut timer: Timer) {
        timer.disarm();
        let mut timers = self.timers.borrow_mut();
        if timers.len() < KEPT {
            timers.push(timer);
        }
    }

    /// An empty buffer for what is written.
    pub(crate) fn take_out(&self) -> Vec<u8> {
        self.outs.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back_out(&self, mut out: Vec<u8>) {
        let mut outs = self.outs.borrow_mut();
        if outs.len() < KEPT && out.capacity() <= KEPT_OUT_BYTES {
            out.clear();
            outs.push(out);
        }
    }
}

/// What a worker needs beside what its requests share.
pub(crate) struct Inputs {
    pub(crate) listeners: Vec<StdTcpListener>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) plans: watch::Receiver<PublishedPlan>,
    /// Where the worker says which configuration it uses.
    pub(crate) used_plan: watch::Sender<u64>,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// Serves until the phase says to drain, then until the last connection ended or the drain's time is over. Whoever has no answer
/// then is told why there is none.
///
/// `following` keeps the router's view of the replicas up to date.
async fn serve(worker: Rc<Worker>, inputs: Inputs, following: impl Future<Output = ()> + 'static) {
    let Inputs { listeners, mut phase, plans, used_plan, connections } = inputs;
    worker.plan().begun().await;
    let mut background = JoinSet::new();
    background.spawn_local(following);
    background.spawn_local(follow_plans(Rc::clone(&worker), plans, used_plan));
    background.spawn_local(housekeeping(Rc::clone(&worker)));
    let _said_or_nobody_left = phase.wait_for(|phase| !matches!(phase, Phase::Waiting)).await.is_ok();
    let (mut accepting, signal) = (JoinSet::new(), DrainSignal::default());
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let (worker, signal) = (Rc::clone(&worker), signal.clone());
                accepting.spawn_local(accept_all(worker, listener, signal, Arc::clone(&connections)));
            }
            Err(error) => tracing::error!(%error, "a worker cannot use its listening socket"),
        }
    }
    let finished = async { while accepting.join_next().await.is_some() {} };
    tokio::pin!(finished);
    let (mut deadline, idle) = draining(&mut phase).await;
    signal.keep_idle(idle);
    signal.say(Stage::Draining);
    loop {
        tokio::select! {
            () = &mut finished => break,
            () = sleep_until(deadline) => {
                signal.say(Stage::Over);
                if timeout(LAST_ANSWERS, &mut finished).await.is_err() {
                    tracing::warn!("open client connections are closed before their requests have ended");
                }
                break;
            }
            // A second order may shorten the time.
            Ok(()) = phase.changed() => (deadline, _) = draining(&mut phase).await,
        }
    }
    worker.flush();
}

/// Accepts connections until draining; returns when the last one ended.
async fn accept_all(
    worker: Rc<Worker>,
    listener: TcpListener,
    signal: DrainSignal,
    connections: Arc<AtomicUsize>,
) {
    let (mut open, mut failing) = (JoinSet::new(), false);
    let mut listening = signal.listen();
    let draining = listening.reached(Stage::Draining);
    tokio::pin!(draining);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_ended) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                begin(&worker, stream, peer.ip(), &signal, &connections, &mut open);
            }
            Err(error) => {
                // Said once, not twenty times a second for as long as it lasts.
                if !failing {
                    tracing::warn!(%error, "accepting client connections fails; they wait until it works again");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever the kernel has accepted already is served: closing the socket would reset those connections.
    while let Some(Ok((stream, peer))) = now(listener.accept()).await {
        begin(&worker, stream, peer.ip(), &signal, &connections, &mut open);
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

fn begin(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: std::net::IpAddr,
    signal: &DrainSignal,
    connections: &Arc<AtomicUsize>,
    open: &mut JoinSet<()>,
) {
    if connections.fetch_add(1, Ordering::Relaxed) >= worker.plan().plan.limits.connections {
        connections.fetch_sub(1, Ordering::Relaxed);
        worker.shard.connections_refused.add_one();
        return;
    }
    let slot = Slot(Arc::clone(connections));
    let served = accept::serve(Rc::clone(worker), stream, peer, signal.clone());
    open.spawn_local(async move {
        served.await;
        drop(slot);
    });
}

/// One of the process's connections.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the drain's deadline once there is one, and how long connections that idle are kept.
async fn draining(phase: &mut watch::Receiver<Phase>) -> (Instant, Duration) {
    loop {
        if let Phase::Draining { deadline, idle } = *phase.borrow_and_update() {
            return (deadline, idle);
        }
        if phase.changed().await.is_err() {
            // Nobody is left to wait for.
            return (Instant::now(), Duration::ZERO);
        }
    }
}

/// The outcome of a future that is ready at once.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// Takes over each configuration that is published, and says so.
async fn follow_plans(
    worker: Rc<Worker>,
    mut plans: watch::Receiver<PublishedPlan>,
    used_plan: watch::Sender<u64>,
) {
    used_plan.send_replace(plans.borrow_and_update().number);
    while plans.changed().await.is_ok() {
        let published = plans.borrow_and_update().clone();
        worker.use_plan(&published).await;
        used_plan.send_replace(published.number);
    }
}

async fn housekeeping(worker: Rc<Worker>) {
    let mut flush = interval(LOG_FLUSH);
    let mut prune = interval(PRUNE_INTERVAL);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = flush.tick() => worker.flush(),
            _ = prune.tick() => worker.router.prune(),
        }
    }
}
