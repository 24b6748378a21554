//! What all workers read and nobody changes: the configuration as requests need it. Another one takes its place whole.

use std::rc::Rc;
use std::sync::Arc;

use configuration::GatewayLimits;
use http1::Limits;
use ipnet::IpNet;
use observability::{Metrics, RouteShard};
use rustls::ServerConfig;
use service_router::{ServicePlan, ServiceView, WorkerRouter};

use crate::RouteTable;
use crate::route::{Route, UNMATCHED_ROUTE, UNMATCHED_SERVICE};

/// One configuration of the gateway.
pub struct Plan {
    /// The routes and own pages.
    pub routes: RouteTable,
    /// The limits.
    pub limits: GatewayLimits,
    /// The services in the order that routes number them in.
    pub services: Vec<ServicePlan>,
    /// What clients are served TLS with; in the clear without.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may say for whom it connects.
    pub proxy_protocol: Vec<IpNet>,
    /// Whose word about clients counts.
    pub trusted_proxies: Vec<IpNet>,
}

/// The same for one worker, with what it counts and with its view of the services.
pub(crate) struct WorkerPlan {
    pub(crate) plan: Arc<Plan>,
    /// How much of a head is read.
    pub(crate) head_limits: Limits,
    views: Vec<Rc<ServiceView>>,
    routes: Vec<Arc<RouteShard>>,
    unmatched: Arc<RouteShard>,
}

impl WorkerPlan {
    pub(crate) fn new(plan: Arc<Plan>, router: &WorkerRouter, metrics: &Metrics, worker: usize) -> Rc<Self> {
        let views = router.use_services(&plan.services, |name| metrics.service(worker, name));
        let shard = |route: &Route| {
            let service =
                plan.services.get(route.service).map_or(UNMATCHED_SERVICE, |service| service.name.as_str());
            metrics.route(worker, service, &route.template)
        };
        let routes = plan.routes.routes().iter().map(shard).collect();
        let unmatched = metrics.route(worker, UNMATCHED_SERVICE, UNMATCHED_ROUTE);
        let limits = &plan.limits;
        let head_limits = Limits {
            head_bytes: limits.header_bytes.as_usize(),
            fields: limits.headers,
            target_bytes: limits.url_bytes.as_usize(),
        };
        Rc::new(Self { head_limits, views, routes, unmatched, plan })
    }

    /// The view of the service of a route.
    pub(crate) fn view(&self, route: &Route) -> &Rc<ServiceView> {
        &self.views[route.service]
    }

    /// Where requests of a route are counted; those of none have a place of their own.
    pub(crate) fn shard(&self, route: Option<usize>) -> &RouteShard {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.unmatched)
    }
}
