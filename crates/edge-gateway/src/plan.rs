//! What all workers read and nobody changes: the configuration as requests need it. Another one takes its place whole.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use access::CertificateRules;
use configuration::GatewayLimits;
use http1::Limits;
use ipnet::IpNet;
use observability::RouteShard;
use service_router::{ServicePlans, ServiceView, WorkerRouter};
use shared_limits::Link;

use crate::RouteTable;
use crate::rate_limit::RateLimits;
use crate::route::Route;
use crate::tls::ServerTls;

/// One configuration of the gateway.
pub struct Plan {
    /// The routes and own pages.
    pub routes: RouteTable,
    /// The limits.
    pub limits: GatewayLimits,
    /// Which credentials are taken, beside the tokens of issuers.
    pub authentication: Authentication,
    /// How often an address may call.
    pub rate_limits: RateLimits,
    /// The services in the order that routes number them in.
    pub services: Arc<ServicePlans>,
    /// What each worker counts of requests that no route matches.
    pub unmatched: Arc<[RouteShard]>,
    /// What clients are served TLS with; in the clear without.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may say for whom it connects.
    pub proxy_protocol: Vec<IpNet>,
    /// Whose word about clients counts.
    pub trusted_proxies: Vec<IpNet>,
}

/// Which credentials are taken, beside the tokens of issuers, which come and go by themselves.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// Whether API keys are.
    pub api_keys: bool,
    /// Which certificates of clients are; none when it is left out.
    pub certificates: Option<Arc<CertificateRules>>,
    /// For how long the signature of a request may be good; none where no signatures are taken.
    pub signed_requests: Option<Duration>,
}

/// The same for one worker, with its view of the services.
pub(crate) struct WorkerPlan {
    pub(crate) plan: Arc<Plan>,
    /// How much of a head is read.
    pub(crate) head_limits: Limits,
    /// By the place of the service; made when the first request comes, since most workers are asked for few of many.
    views: Box<[OnceCell<Rc<ServiceView>>]>,
    /// Where limits are counted together with other gateways; none where each counts by itself.
    pub(crate) shared: Option<Rc<Link>>,
    worker: usize,
}

impl WorkerPlan {
    /// Of the plan before, the connection to what gateways share is kept, where it is no other.
    pub(crate) fn new(plan: Arc<Plan>, worker: usize, before: Option<&Self>) -> Rc<Self> {
        let limits = &plan.limits;
        let head_limits = Limits {
            head_bytes: limits.header_bytes.as_usize(),
            fields: limits.headers,
            target_bytes: limits.url_bytes.as_usize(),
        };
        let views = (0..plan.services.count()).map(|_| OnceCell::new()).collect();
        let shared = plan.rate_limits.shared.as_ref().map(|shared| {
            let known = before.and_then(|before| before.shared.as_ref());
            let known = known.filter(|known| Arc::ptr_eq(known.shared(), shared));
            known.map_or_else(|| Rc::new(Link::begin(Arc::clone(shared))), Rc::clone)
        });
        Rc::new(Self { head_limits, views, shared, worker, plan })
    }

    /// Returns when what gateways share was tried once, so that the first requests need not do without it.
    pub(crate) async fn begun(&self) {
        if let Some(link) = &self.shared {
            link.begun().await;
        }
    }

    /// The view of the service of a route.
    pub(crate) fn view(&self, route: &Route, router: &WorkerRouter) -> &Rc<ServiceView> {
        self.views[route.service].get_or_init(|| router.view(&self.plan.services[route.service]))
    }

    /// Where requests of a route are counted; those of none have a place of their own.
    pub(crate) fn shard(&self, route: Option<usize>) -> &RouteShard {
        let route = route.and_then(|route| self.plan.routes.routes().get(route));
        &route.map_or(&self.plan.unmatched, |route| &route.counted)[self.worker]
    }
}
