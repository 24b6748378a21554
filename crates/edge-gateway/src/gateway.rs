//! The workers together: started with everything that they need, and drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use access::{KeyTable, KeysOfIssuers, Nonces, Users};
use observability::{AccessLogHandle, Metrics};
use service_router::RouterPlan;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Listeners;
use crate::plan::Plan;
use crate::rate_limit::{ClientBuckets, nanoseconds_now};
use crate::worker::{Inputs, RequestCount, WorkerSeed};

/// A configuration on its way to the workers.
#[derive(Clone)]
pub(crate) struct PublishedPlan {
    /// Grows with every publication.
    pub(crate) number: u64,
    pub(crate) plan: Arc<Plan>,
}

/// Whether the gateway accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not yet: who connects waits, and nobody is refused.
    Waiting,
    /// It does.
    Serving,
    /// It does not; open requests are finished until the deadline.
    Draining {
        /// When whoever has no answer yet is told so, and open connections are closed.
        deadline: Instant,
        /// How long a connection that idles is kept, so that a request which is on its way to it is answered.
        idle: Duration,
    },
}

/// How long a connection that idles is kept where another gateway has taken the place of this one: who sends nothing for so long
/// has nothing on its way, and sees the end before it sends the next.
const IDLE: Duration = Duration::from_secs(5);

/// Everything that a gateway is made of.
pub struct GatewayParts {
    /// The configuration to begin with.
    pub plan: Plan,
    /// What its workers have in common.
    pub shared: Shared,
    /// The source of request ids and of the two choices.
    pub random: fastrand::Rng,
}

/// What all workers of a gateway use together: each of it is there once in a process, however many workers read it.
#[derive(Clone)]
pub struct Shared {
    /// How a replica is found.
    pub router: RouterPlan,
    /// Who may call.
    pub keys: watch::Receiver<Arc<KeyTable>>,
    /// Whose tokens are taken.
    pub tokens: KeysOfIssuers,
    /// What those whom tokens and certificates were made for may ask for.
    pub users: Arc<Users>,
    /// Which signed requests have come.
    pub nonces: Arc<Nonces>,
    /// How often addresses have called.
    pub client_buckets: Arc<ClientBuckets>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where access log lines go; none where there is no access log.
    pub access_log: Option<AccessLogHandle>,
}

/// A running gateway.
pub struct Gateway {
    phase: watch::Sender<Phase>,
    plans: Plans,
    /// One task for each worker's thread, which ends when the thread does.
    workers: JoinSet<std::thread::Result<()>>,
    addresses: Vec<SocketAddr>,
    requests: RequestCount,
}

/// Lets a gateway begin to accept connections.
#[derive(Clone)]
pub struct Opener(watch::Sender<Phase>);

impl Opener {
    /// From now on it does, unless it is draining already.
    pub fn open(&self) {
        self.0.send_if_modified(|phase| {
            let waits = matches!(phase, Phase::Waiting);
            if waits {
                *phase = Phase::Serving;
            }
            waits
        });
    }
}

/// Hands the workers of a gateway their configurations.
#[derive(Clone)]
pub struct Plans {
    published: watch::Sender<PublishedPlan>,
    /// Which of them each worker uses.
    used: Vec<watch::Receiver<u64>>,
    client_buckets: Arc<ClientBuckets>,
}

impl Plans {
    /// The configuration that the workers have, or are about to.
    pub fn in_force(&self) -> Arc<Plan> {
        Arc::clone(&self.published.borrow().plan)
    }

    /// Hands all workers another configuration; whether every one of them uses it within `limit`. No connection is touched.
    pub async fn apply(&self, plan: Plan, limit: Duration) -> bool {
        self.client_buckets.set_limits(&plan.rate_limits, nanoseconds_now());
        let number = self.published.borrow().number + 1;
        self.published.send_replace(PublishedPlan { number, plan: Arc::new(plan) });
        let mut used_plans = self.used.clone();
        let all = async {
            for used in &mut used_plans {
                let _used_or_ended = used.wait_for(|used| *used >= number).await.is_ok();
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

impl Gateway {
    /// Starts a worker for each set of sockets.
    ///
    /// # Errors
    /// The machine's, when it has no room for a thread; workers started before end by themselves.
    pub fn start(listeners: Listeners, parts: GatewayParts) -> std::io::Result<Self> {
        Self::start_in(Phase::Serving, listeners, parts)
    }

    /// The same, but nothing is accepted before [`Opener::open`].
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub fn start_waiting(listeners: Listeners, parts: GatewayParts) -> std::io::Result<Self> {
        Self::start_in(Phase::Waiting, listeners, parts)
    }

    fn start_in(phase: Phase, listeners: Listeners, parts: GatewayParts) -> std::io::Result<Self> {
        let addresses = listeners.addresses().to_vec();
        let (phase, phases) = watch::channel(phase);
        let GatewayParts { plan, shared, mut random } = parts;
        let (publisher, published) = watch::channel(PublishedPlan { number: 1, plan: Arc::new(plan) });
        let (requests, connections) = (RequestCount::default(), Arc::new(AtomicUsize::new(0)));
        let client_buckets = Arc::clone(&shared.client_buckets);
        let mut plans = Plans { published: publisher, used: Vec::new(), client_buckets };
        let mut workers = JoinSet::new();
        for (number, sockets) in listeners.into_workers().into_iter().enumerate() {
            let (used_plan, used) = watch::channel(0);
            plans.used.push(used);
            let inputs = Inputs {
                listeners: sockets,
                phase: phases.clone(),
                plans: published.clone(),
                used_plan,
                connections: Arc::clone(&connections),
            };
            let seed = WorkerSeed {
                plan: Arc::clone(&published.borrow().plan),
                shared: shared.clone(),
                requests: requests.clone(),
                random: random.fork(),
                number,
            };
            let thread = std::thread::Builder::new().name(format!("gateway-{number}"));
            let thread = thread.spawn(move || seed.run(inputs))?;
            workers.spawn_blocking(move || thread.join());
        }
        Ok(Self { phase, plans, workers, addresses, requests })
    }

    /// How its workers get another configuration.
    pub fn plans(&self) -> Plans {
        self.plans.clone()
    }

    /// What lets it accept connections, where it waits for that.
    pub fn opener(&self) -> Opener {
        Opener(self.phase.clone())
    }

    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many requests are in flight, from the head of a request to the end of its answer, whatever they wait for. It may be asked
    /// at any time.
    pub fn requests_in_flight(&self) -> impl Fn() -> usize + use<> {
        let requests = self.requests.clone();
        move || requests.count()
    }

    /// Stops accepting and lets open requests finish for at most `limit`; those without an answer are told so then, for which there is
    /// a second at the most. Said again before, the new limit counts.
    pub fn drain(&self, limit: Duration) {
        self.drain_keeping(Duration::ZERO, limit);
    }

    /// The same where another gateway goes on in the place of this one: nobody is to lose anything, so each connection is told with
    /// its next answer that it ends, and one that idles is kept for a while.
    pub fn leave(&self, limit: Duration) {
        self.drain_keeping(IDLE.min(limit), limit);
    }

    fn drain_keeping(&self, idle: Duration, limit: Duration) {
        self.phase.send_replace(Phase::Draining { deadline: Instant::now() + limit, idle });
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
