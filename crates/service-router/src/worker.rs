//! One gateway worker's view of all services.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http1::BufferPool;
use observability::ServiceShard;
use service_registry::{Registry, Snapshot, WorkerSubscription};
use tokio::sync::mpsc;
use tokio::time::Instant;
use types::ServiceName;

use crate::circuit::Circuit;
use crate::endpoint::Endpoint;
use crate::policy::RouterPolicy;
use crate::suspicion::Suspicions;
use crate::view::ServiceView;
use crate::{Suspicion, SuspicionKind};

/// How often [`WorkerRouter::prune`] is called: a connection idles for at least one and at most two of these.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(30);

/// What every worker's router is made of.
#[derive(Clone)]
pub struct RouterPlan {
    /// Who may serve.
    pub registry: Registry,
    /// Where suspicions go.
    pub suspicions: mpsc::Sender<Suspicion>,
}

/// A service as the configuration has it.
#[derive(Clone)]
pub struct ServicePlan {
    /// Its name.
    pub name: ServiceName,
    /// How calls are made.
    pub policy: RouterPolicy,
    /// How much may be asked at once, over all workers.
    pub circuit: Arc<Circuit>,
}

/// The services as one worker sees them. Lives on that worker's thread.
pub struct WorkerRouter {
    views: RefCell<HashMap<ServiceName, Rc<ServiceView>>>,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) suspicions: Suspicions,
    registry: Registry,
    pub(crate) buffers: Rc<BufferPool>,
}

impl WorkerRouter {
    /// A worker's router, on the thread where it will be used. From now on a drain waits for this worker's word, which
    /// [`Self::follow_snapshots`] gives.
    pub fn new(
        plan: RouterPlan,
        random: fastrand::Rng,
        buffers: Rc<BufferPool>,
    ) -> (Self, WorkerSubscription) {
        let RouterPlan { registry, suspicions } = plan;
        let subscription = registry.subscribe_worker();
        let (random, suspicions) = (RefCell::new(random), Suspicions(suspicions));
        (Self { views: RefCell::default(), random, suspicions, registry, buffers }, subscription)
    }

    /// Takes the services of another configuration, in their order. A service that stays keeps its connections and
    /// estimates.
    pub fn use_services(
        &self,
        services: &[ServicePlan],
        shard: impl Fn(&str) -> Arc<ServiceShard>,
    ) -> Vec<Rc<ServiceView>> {
        let mut views = HashMap::new();
        let mut known = self.views.borrow_mut();
        let ordered: Vec<_> = services
            .iter()
            .map(|service| {
                let ServicePlan { name, policy, circuit } = service.clone();
                let view = match known.remove(&name) {
                    Some(view) => {
                        view.set_policy(policy, circuit);
                        view
                    }
                    None => Rc::new(ServiceView::new(name.clone(), policy, circuit, shard(name.as_str()))),
                };
                views.insert(name, Rc::clone(&view));
                view
            })
            .collect();
        *known = views;
        drop(known);
        self.use_snapshot(&self.registry.snapshot());
        ordered
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

    fn use_snapshot(&self, snapshot: &Snapshot) {
        let (now, views) = (Instant::now(), self.views.borrow());
        for service in &snapshot.services {
            if let Some(view) = views.get(&service.name) {
                view.follow(service, now);
            }
        }
    }

    /// Closes connections that nobody used since the call before the last. Called every [`PRUNE_INTERVAL`].
    pub fn prune(&self) {
        self.views.borrow().values().for_each(|view| view.prune());
    }

    /// Tells the health owner that something may be wrong; whether it will look.
    pub(crate) fn report(&self, endpoint: &Endpoint, kind: SuspicionKind) -> bool {
        self.suspicions.report(endpoint, kind)
    }

    /// Leaves an endpoint alone until the health owner has looked at it. When that has more to look at than it can, nobody
    /// would ever answer, so then the endpoint stays.
    pub(crate) fn suspect(&self, endpoint: &Endpoint, kind: SuspicionKind) {
        if self.report(endpoint, kind) {
            endpoint.suspect();
        }
    }
}
