//! The metrics of the process: which services and routes are counted, and the shards in which each worker counts them.
//!
//! Services and routes come and go while the process runs. Whoever makes a configuration asks for their series, which takes a
//! lock; the workers count in them without one. Labels are bounded: routes are templates, a method is one of
//! eight, a status one of five hundred, and what the configuration no longer names is forgotten.

mod families;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Exposition;
use crate::error_rate::ErrorRate;
use crate::shards::{GatewayShard, HealthShard, RouteShard, ServiceShard};
use families::Families;

/// The service that the gateway itself counts as, and the route of whatever no route matched.
const GATEWAY: &str = "gateway";
const UNMATCHED: &str = "unmatched";

/// The metrics of the whole process.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    gateway: Box<[Arc<GatewayShard>]>,
    /// Never held while counting or while a page is written.
    known: Mutex<Known>,
}

/// The services and routes that are counted at present.
#[derive(Debug, Default)]
struct Known {
    services: BTreeMap<String, Arc<ServiceSeries>>,
    /// By service, then by route.
    routes: BTreeMap<String, BTreeMap<String, Arc<RouteSeries>>>,
}

/// One service, and a shard of it for each worker.
#[derive(Debug)]
pub struct ServiceSeries {
    name: String,
    shards: Box<[Arc<ServiceShard>]>,
    health: Arc<HealthShard>,
    error_rate: Mutex<ErrorRate>,
}

/// One route, and a shard of it for each worker, which whoever counts reaches without coming by here.
#[derive(Debug)]
struct RouteSeries {
    service: String,
    route: String,
    shards: Arc<[RouteShard]>,
}

impl Metrics {
    /// Metrics of the gateway alone.
    pub fn new(workers: usize) -> Self {
        let gateway = (0..workers).map(|_| Arc::default()).collect();
        let mut known = Known::default();
        known.route(workers, GATEWAY, UNMATCHED);
        Self { workers, gateway, known: known.into() }
    }

    /// What each worker counts of a route, `service` and its template. Only that worker writes it. The same labels give the same
    /// counters until `retain` forgets them.
    pub fn route(&self, service: &str, route: &str) -> Arc<[RouteShard]> {
        Arc::clone(&self.known().route(self.workers, service, route).shards)
    }

    /// What each worker counts of requests that no route matched.
    pub fn unmatched(&self) -> Arc<[RouteShard]> {
        self.route(GATEWAY, UNMATCHED)
    }

    /// What is counted of a service, under the same terms.
    pub fn service(&self, service: &str) -> Arc<ServiceSeries> {
        Arc::clone(self.known().service(self.workers, service))
    }

    /// What a worker counts of the gateway itself. Only that worker writes it.
    pub fn gateway(&self, worker: usize) -> Arc<GatewayShard> {
        Arc::clone(&self.gateway[worker])
    }

    /// Forgets every service and route (pairs of service and template) that is not among these; the service of a route that
    /// stays, stays. Called by one writer after a reload.
    ///
    /// Whoever still counts what is forgotten counts unseen. If it is wanted again later, it begins at 0.
    pub fn retain(&self, services: &BTreeSet<String>, routes: &BTreeSet<(String, String)>) {
        let known = &mut *self.known();
        known.routes.retain(|service, of_service| {
            of_service.retain(|route, _| {
                (service == GATEWAY && route == UNMATCHED)
                    || routes.contains(&(service.clone(), route.clone()))
            });
            !of_service.is_empty()
        });
        let routes = &known.routes;
        known.services.retain(|name, _| services.contains(name) || routes.contains_key(name));
    }

    /// Takes a sample for `error_rate`; called once a second.
    pub fn sample_error_rates(&self) {
        for service in self.known().services.values() {
            service.sample_error_rate();
        }
    }

    /// Writes the metrics.
    pub fn expose(&self, out: &mut Exposition) {
        // The page is written from copies of the lists: a configuration that is made meanwhile does not wait for it.
        let (services, routes) = self.known().lists();
        Families { gateway: &self.gateway, services: &services, routes: &routes }.expose(out);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn service(&mut self, workers: usize, name: &str) -> &Arc<ServiceSeries> {
        if !self.services.contains_key(name) {
            self.services.insert(name.to_owned(), Arc::new(ServiceSeries::new(workers, name)));
        }
        &self.services[name]
    }

    fn route(&mut self, workers: usize, service: &str, route: &str) -> &Arc<RouteSeries> {
        let missing = self.routes.get(service).is_none_or(|routes| !routes.contains_key(route));
        if missing {
            let series = RouteSeries::new(self.service(workers, service), route);
            let routes = self.routes.entry(service.to_owned()).or_default();
            routes.insert(route.to_owned(), Arc::new(series));
        }
        &self.routes[service][route]
    }

    fn lists(&self) -> (Vec<Arc<ServiceSeries>>, Vec<Arc<RouteSeries>>) {
        let services = self.services.values().cloned().collect();
        let routes = self.routes.values().flat_map(BTreeMap::values).cloned().collect();
        (services, routes)
    }
}

impl ServiceSeries {
    /// What a worker counts. Only that worker writes it.
    pub fn shard(&self, worker: usize) -> &Arc<ServiceShard> {
        &self.shards[worker]
    }

    /// How many workers count.
    pub fn workers(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.shards.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// What the health owner counts. Only the health owner writes it.
    pub fn health(&self) -> &Arc<HealthShard> {
        &self.health
    }

    fn new(workers: usize, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shards: (0..workers).map(|_| Arc::default()).collect(),
            health: Arc::default(),
            error_rate: ErrorRate::new().into(),
        }
    }

    fn sample_error_rate(&self) {
        let errors = self.shards.iter().map(|shard| shard.errors.value()).sum();
        let requests = self.shards.iter().map(|shard| shard.requests.value()).sum();
        self.error_rate().sample((requests, errors));
    }

    fn error_rate(&self) -> MutexGuard<'_, ErrorRate> {
        self.error_rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouteSeries {
    fn new(service: &ServiceSeries, route: &str) -> Self {
        let shards = service.shards.iter().map(|shard| RouteShard::new(Arc::clone(shard))).collect();
        Self { service: service.name.clone(), route: route.to_owned(), shards }
    }
}

#[cfg(test)]
mod tests;
