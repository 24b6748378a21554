//! One gateway worker's view of all services.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use observability::{ServiceIndex, WorkerShard};
use service_registry::{Registry, Service, Snapshot, WorkerSubscription};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::WorkerShardOfService;
use crate::endpoint::Endpoint;
use crate::execute::FAILURE_PENALTY;
use crate::peak_ewma::FIRST_ESTIMATE;
use crate::select::two_choices;
use crate::{Suspicion, SuspicionKind};

/// How often [`WorkerRouter::prune`] is called: a connection idles for at least one and at most two of these.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(30);

/// How calls to one service are tried.
#[derive(Debug, Clone)]
pub struct RouterPolicy {
    /// Additional tries.
    pub attempts: u32,
    /// How long a try may take while another is still allowed.
    pub per_try_timeout: Duration,
}

/// What every worker's router is made of.
#[derive(Clone)]
pub struct RouterPlan {
    /// Who may serve.
    pub registry: Registry,
    /// How calls are tried, for each service in the registry's order.
    pub policies: Vec<RouterPolicy>,
    /// Where suspicions go.
    pub suspicions: mpsc::Sender<Suspicion>,
}

/// The services as one worker sees them. Lives on that worker's thread.
pub struct WorkerRouter {
    services: Vec<ServiceView>,
    random: RefCell<fastrand::Rng>,
    suspicions: mpsc::Sender<Suspicion>,
    shard: Arc<WorkerShard>,
}

pub(crate) struct ServiceView {
    pub(crate) policy: RouterPolicy,
    pub(crate) counted: Rc<WorkerShardOfService>,
    /// Those that may serve, as the last snapshot says.
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    service: RefCell<Arc<Service>>,
}

/// Endpoints that a call leaves out.
#[derive(Default)]
pub(crate) struct Excluded {
    /// Failed for this call: never again.
    pub(crate) tried: Vec<u64>,
    /// A reused connection to them failed: rather another, else again over a fresh connection.
    pub(crate) rather_not: Vec<u64>,
}

impl WorkerRouter {
    /// A worker's router, on the thread where it will be used. From now on a drain waits for this worker's word, which
    /// [`Self::follow_snapshots`] gives.
    pub fn new(
        plan: RouterPlan,
        shard: Arc<WorkerShard>,
        random: fastrand::Rng,
    ) -> (Self, WorkerSubscription) {
        let RouterPlan { registry, policies, suspicions } = plan;
        let subscription = registry.subscribe_worker();
        let snapshot = registry.snapshot();
        let view = |(index, (service, policy)): (usize, (&Arc<Service>, RouterPolicy))| ServiceView {
            policy,
            // Number 0 among the metrics is the gateway itself.
            counted: Rc::new(WorkerShardOfService {
                shard: Arc::clone(&shard),
                service: ServiceIndex(index + 1),
            }),
            endpoints: RefCell::default(),
            service: RefCell::new(Arc::clone(service)),
        };
        let services = snapshot.services.iter().zip(policies).enumerate().map(view).collect();
        let router = Self { services, random: RefCell::new(random), suspicions, shard };
        router.use_snapshot(&snapshot);
        (router, subscription)
    }

    /// Follows the published snapshots and confirms each one that is used. Runs as long as the worker does.
    pub async fn follow_snapshots(&self, mut subscription: WorkerSubscription) {
        loop {
            let snapshot = Arc::clone(&subscription.snapshots.borrow_and_update());
            self.use_snapshot(&snapshot);
            subscription.confirm(snapshot.epoch);
            if subscription.snapshots.changed().await.is_err() {
                return;
            }
        }
    }

    /// From the next selection on, only what this snapshot says may serve. Endpoints that stay keep their connections and
    /// estimates.
    fn use_snapshot(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (view, service) in self.services.iter().zip(&snapshot.services) {
            if !Arc::ptr_eq(&view.service.borrow(), service) || view.endpoints.borrow().is_empty() {
                view.replace(service, now);
            }
        }
    }

    /// Closes connections that nobody used since the call before the last. Called every [`PRUNE_INTERVAL`].
    pub fn prune(&self) {
        for view in &self.services {
            view.endpoints.borrow().iter().for_each(|endpoint| endpoint.prune());
        }
    }

    pub(crate) fn view(&self, service: ServiceIndex) -> &ServiceView {
        &self.services[service.0 - 1]
    }

    pub(crate) fn shard(&self) -> &WorkerShard {
        &self.shard
    }

    /// An endpoint for a call, the peak-EWMA choice among those that may serve.
    pub(crate) fn select(
        &self,
        service: ServiceIndex,
        excluded: &Excluded,
        now: Instant,
    ) -> Option<Rc<Endpoint>> {
        let endpoints = self.view(service).endpoints.borrow();
        let mut random = self.random.borrow_mut();
        let mut choose = |eligible: &dyn Fn(&Endpoint) -> bool| {
            let chosen = two_choices(
                endpoints.len(),
                &mut random,
                |index| eligible(&endpoints[index]),
                |index| endpoints[index].load(now),
            );
            chosen.map(|index| Rc::clone(&endpoints[index]))
        };
        let fits = |endpoint: &Endpoint| {
            endpoint.trusted() && !excluded.tried.contains(&endpoint.instance.incarnation)
        };
        let preferred = |endpoint: &Endpoint| {
            fits(endpoint) && !excluded.rather_not.contains(&endpoint.instance.incarnation)
        };
        choose(&preferred).or_else(|| if excluded.rather_not.is_empty() { None } else { choose(&fits) })
    }

    /// Tells the health owner that something may be wrong; whether it will look.
    pub(crate) fn report(&self, endpoint: &Endpoint, kind: SuspicionKind) -> bool {
        let suspicion = Suspicion {
            replica: endpoint.instance.replica.clone(),
            incarnation: endpoint.instance.incarnation,
            kind,
        };
        self.suspicions.try_send(suspicion).is_ok()
    }

    /// Leaves an endpoint alone until the health owner has looked at it. When that has more to look at than it can, nobody
    /// would ever answer, so then the endpoint stays.
    pub(crate) fn suspect(&self, endpoint: &Endpoint, kind: SuspicionKind) {
        endpoint.latency.observe(FAILURE_PENALTY, Instant::now());
        if self.report(endpoint, kind) {
            endpoint.suspect();
        }
    }
}

impl ServiceView {
    fn replace(&self, service: &Arc<Service>, now: Instant) {
        let mut endpoints = self.endpoints.borrow_mut();
        let estimate = median_estimate(&endpoints, now);
        let next = service.replicas.iter().filter_map(|replica| {
            let instance = replica.selectable().ok()?;
            let known =
                endpoints.iter().find(|endpoint| endpoint.instance.incarnation == instance.incarnation);
            let answered = replica.health.answered;
            Some(match known {
                Some(endpoint) => {
                    endpoint.answered.set(answered);
                    Rc::clone(endpoint)
                }
                None => Rc::new(Endpoint::new(Arc::clone(instance), estimate, answered, now)),
            })
        });
        *endpoints = next.collect();
        drop(endpoints);
        *self.service.borrow_mut() = Arc::clone(service);
    }

    /// Why nothing can be selected, in the words of the facts.
    pub(crate) fn why_none(&self) -> String {
        let service = self.service.borrow();
        if service.replicas.is_empty() {
            return format!("{} has no replicas: it is scaled to 0", service.name);
        }
        let facts: Vec<String> = service
            .replicas
            .iter()
            .map(|replica| match replica.selectable() {
                Ok(_) => format!("{} is being checked after a failed call", replica.id),
                Err(fact) => format!("{} is {fact}", replica.id),
            })
            .collect();
        facts.join(", ")
    }
}

/// A new endpoint begins where the others are, so that it is neither flooded nor starved.
fn median_estimate(endpoints: &[Rc<Endpoint>], now: Instant) -> Duration {
    let mut estimates: Vec<f64> = endpoints.iter().map(|endpoint| endpoint.latency.estimate(now)).collect();
    estimates.sort_unstable_by(f64::total_cmp);
    estimates.get(estimates.len() / 2).map_or(FIRST_ESTIMATE, |seconds| Duration::from_secs_f64(*seconds))
}
