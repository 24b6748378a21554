//! The workers together: started with everything that they need, and drained.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use access::KeyTable;
use configuration::GatewayLimits;
use observability::{AccessLogHandle, LineBuffer, Metrics};
use service_router::{RouterPlan, WorkerRouter};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::worker::{self, Inputs, Keys, RequestCount, Worker};
use crate::{Listeners, RouteTable};

/// What all workers read and nobody changes.
pub(crate) struct Plan {
    pub(crate) routes: RouteTable,
    pub(crate) limits: GatewayLimits,
}

/// Whether the gateway accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Serving,
    /// It does not; open requests are finished until the deadline.
    Draining {
        /// When open connections are closed.
        deadline: Instant,
    },
}

/// Everything that a gateway is made of.
pub struct GatewayParts {
    /// The routes and own pages.
    pub routes: RouteTable,
    /// The limits.
    pub limits: GatewayLimits,
    /// How a replica is selected and called.
    pub router: RouterPlan,
    /// Who may call.
    pub keys: watch::Receiver<Arc<KeyTable>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where access log lines go; none where there is no access log.
    pub access_log: Option<AccessLogHandle>,
    /// The source of request ids and of the two choices.
    pub random: fastrand::Rng,
}

/// A running gateway.
pub struct Gateway {
    phase: watch::Sender<Phase>,
    /// One task for each worker's thread, which ends when the thread does.
    workers: JoinSet<std::thread::Result<()>>,
    addresses: Vec<SocketAddr>,
}

impl Gateway {
    /// Starts a worker for each set of sockets.
    ///
    /// # Errors
    /// The machine's, when it has no room for a thread; workers started before end by themselves.
    pub fn start(listeners: Listeners, parts: GatewayParts) -> std::io::Result<Self> {
        let addresses = listeners.addresses().to_vec();
        let (phase, phases) = watch::channel(Phase::Serving);
        let GatewayParts { routes, limits, router, keys, metrics, access_log, mut random } = parts;
        let plan = Arc::new(Plan { routes, limits });
        let (requests, connections) = (RequestCount::default(), Arc::new(AtomicUsize::new(0)));
        let mut workers = JoinSet::new();
        for (number, sockets) in listeners.into_workers().into_iter().enumerate() {
            let inputs =
                Inputs { listeners: sockets, phase: phases.clone(), connections: Arc::clone(&connections) };
            let seed = WorkerSeed {
                plan: Arc::clone(&plan),
                router: router.clone(),
                keys: keys.clone(),
                metrics: Arc::clone(&metrics),
                access_log: access_log.clone(),
                requests: requests.clone(),
                random: random.fork(),
                number,
            };
            let thread = std::thread::Builder::new().name(format!("gateway-{number}"));
            let thread = thread.spawn(move || seed.run(inputs))?;
            workers.spawn_blocking(move || thread.join());
        }
        Ok(Self { phase, workers, addresses })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting and lets open requests finish for at most `limit`. Said again, the new limit counts.
    pub fn drain(&self, limit: Duration) {
        self.phase.send_replace(Phase::Draining { deadline: Instant::now() + limit });
    }

    /// Returns when a worker has ended, which none does before [`Self::drain`] unless something is badly wrong.
    pub async fn worker_ended(&mut self) {
        match self.workers.join_next().await {
            Some(Ok(Ok(()))) | None => {}
            Some(Ok(Err(_)) | Err(_)) => tracing::error!("a gateway worker panicked"),
        }
    }

    /// Returns when every worker has ended, which they do after [`Self::drain`].
    pub async fn ended(&mut self) {
        while !self.workers.is_empty() {
            self.worker_ended().await;
        }
    }
}

/// What becomes a worker on its own thread.
struct WorkerSeed {
    plan: Arc<Plan>,
    router: RouterPlan,
    keys: watch::Receiver<Arc<KeyTable>>,
    metrics: Arc<Metrics>,
    access_log: Option<AccessLogHandle>,
    requests: RequestCount,
    random: fastrand::Rng,
    number: usize,
}

impl WorkerSeed {
    fn run(self, inputs: Inputs) {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, worker = self.number, "a gateway worker has no event loop");
                return;
            }
        };
        runtime.block_on(async move {
            let Self { plan, router, keys, metrics, access_log, requests, mut random, number } = self;
            let shard = metrics.shard(number);
            let lines = access_log.map(|log| LineBuffer::new(log, Arc::clone(&shard)).into());
            let (router, subscription) = WorkerRouter::new(router, Arc::clone(&shard), random.fork());
            let (keys, clock) = (Keys::new(keys), Clock::new(random));
            let worker = Rc::new(Worker { plan, keys, router, shard, clock, requests, lines });
            let following = Rc::clone(&worker);
            let following = async move { following.router.follow_snapshots(subscription).await };
            worker::run(worker, inputs, following).await;
        });
    }
}
