//! One gateway worker's view of all services.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http1::BufferPool;
use observability::ServiceSeries;
use service_registry::{Registry, Snapshot, WorkerSubscription};
use tokio::sync::mpsc;
use tokio::time::Instant;
use types::ServiceName;

use crate::circuit::Circuit;
use crate::endpoint::Endpoint;
use crate::http1_call::Messages;
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
pub struct ServicePlan {
    /// Its name.
    pub name: ServiceName,
    /// How calls are made. The same policy is the same allocation, by which a worker knows that nothing has changed.
    pub policy: Arc<RouterPolicy>,
    /// How much may be asked at once, over all workers.
    pub circuit: Arc<Circuit>,
    /// What is counted.
    pub series: Arc<ServiceSeries>,
}

/// The services of one configuration, made once and read by all workers.
#[derive(Default)]
pub struct ServicePlans {
    list: Vec<ServicePlan>,
    places: HashMap<ServiceName, usize>,
}

impl ServicePlans {
    /// These services, whose names differ; routes say the places in this order.
    pub fn new(list: Vec<ServicePlan>) -> Self {
        let places = list.iter().enumerate().map(|(place, service)| (service.name.clone(), place));
        Self { places: places.collect(), list }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// A service by name.
    pub fn named(&self, name: &ServiceName) -> Option<&ServicePlan> {
        self.places.get(name).map(|place| &self.list[*place])
    }
}

impl std::ops::Index<usize> for ServicePlans {
    type Output = ServicePlan;

    /// The service at a place, of which [`Self::count`] says how many there are.
    fn index(&self, place: usize) -> &ServicePlan {
        &self.list[place]
    }
}

/// The services as one worker sees them. Lives on that worker's thread.
pub struct WorkerRouter {
    /// The services of the configuration in force.
    plans: RefCell<Arc<ServicePlans>>,
    /// Those of them that this worker has been asked for.
    views: RefCell<HashMap<ServiceName, Rc<ServiceView>>>,
    /// The snapshot that all views follow.
    followed: RefCell<Arc<Snapshot>>,
    number: usize,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) suspicions: Suspicions,
    registry: Registry,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) messages: Rc<Messages>,
}

impl WorkerRouter {
    /// The router of the worker of this number, on the thread where it will be used. From now on a drain waits for this
    /// worker's word, which [`Self::follow_snapshots`] gives.
    pub fn new(
        plan: RouterPlan,
        number: usize,
        random: fastrand::Rng,
        buffers: Rc<BufferPool>,
    ) -> (Self, WorkerSubscription) {
        let RouterPlan { registry, suspicions } = plan;
        let subscription = registry.subscribe_worker();
        let router = Self {
            plans: RefCell::default(),
            views: RefCell::default(),
            followed: RefCell::default(),
            number,
            random: RefCell::new(random),
            suspicions: Suspicions(suspicions),
            registry,
            buffers,
            messages: Rc::default(),
        };
        (router, subscription)
    }

    /// Takes the services of another configuration. A service that stays keeps its connections and estimates; what this
    /// worker was never asked for costs nothing.
    pub fn use_services(&self, plans: &Arc<ServicePlans>) {
        self.views.borrow_mut().retain(|name, view| {
            let service = plans.named(name);
            service.inspect(|service| view.set_policy(&service.policy, &service.circuit)).is_some()
        });
        *self.plans.borrow_mut() = Arc::clone(plans);
    }

    /// This worker's view of a service of some configuration. Where a newer one is in force already, its word counts; a
    /// service that is none any more is seen as it was left.
    pub fn view(&self, service: &ServicePlan) -> Rc<ServiceView> {
        if let Some(view) = self.views.borrow().get(&service.name) {
            return Rc::clone(view);
        }
        let plans = self.plans.borrow();
        let newest = plans.named(&service.name);
        let view = Rc::new(ServiceView::new(newest.unwrap_or(service), self.number, self.suspicions.clone()));
        if let Some(facts) = self.registry.snapshot().service(&service.name) {
            view.follow(facts, Instant::now());
        }
        if newest.is_some() {
            self.views.borrow_mut().insert(service.name.clone(), Rc::clone(&view));
        }
        view
    }

    /// Follows the published snapshots and confirms each one that is used. Runs as long as the worker does.
    pub async fn follow_snapshots(&self, mut subscription: WorkerSubscription) {
        loop {
            let snapshot = Arc::clone(&subscription.snapshots.borrow_and_update());
            let epoch = snapshot.epoch;
            self.use_snapshot(snapshot);
            subscription.confirm(epoch);
            if subscription.snapshots.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks only at what is not as it was: with many services, most are.
    fn use_snapshot(&self, snapshot: Arc<Snapshot>) {
        let (now, views) = (Instant::now(), self.views.borrow());
        let before = self.followed.replace(Arc::clone(&snapshot));
        for (place, service) in snapshot.services.iter().enumerate() {
            let is_as_it_was = before.services.get(place).is_some_and(|known| Arc::ptr_eq(known, service));
            if !is_as_it_was && let Some(view) = views.get(&service.name) {
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
