//! From the settings to what each part needs of them.

mod catalogue;
mod endpoints;
mod policies;
mod resolve;
mod route_limits;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use configuration::{
    BalancingPolicy, Builtin, HashOn, Program, RouteAccess, RouteSettings, Runs, ServiceSettings, Settings,
};
use edge_gateway::{CallerVersions, OwnPage, RateLimits, Route, RouteTable, ServerTls};
use http::Method;
use jiff::Timestamp;
use observability::Metrics;
use service_lifecycle::Terms;
use service_registry::{Presence, Registry, Replica, Service, Version};
use service_router::{CheckPolicies, Checks, Circuit, ServicePlan, ServicePlans};
use shared_limits::SharedLimits;
use types::{NodeName, ReplicaId, ServiceName};

use super::elsewhere::is_started_elsewhere;
use super::node::among_others;
use super::provisioning::limit;
use super::request_rules::RequestRules;
use super::tokens::authentication;
use super::upstream_tls::UpstreamTls;
use super::versions::Versions;
pub(crate) use catalogue::{descriptions, labels};
pub(crate) use resolve::{Resolving, Unresolved};
pub(crate) use route_limits::RouteLimits;

/// What each part needs. Services have the same order everywhere.
pub(crate) struct Plan {
    pub(crate) router: Arc<ServicePlans>,
    pub(crate) checks: CheckPolicies,
    pub(crate) terms: BTreeMap<ServiceName, Terms>,
    pub(crate) routes: Vec<Route>,
    pub(crate) limits: RouteLimits,
    pub(crate) example: Option<Example>,
}

/// The versions of each service that are not wanted any more, and what was said of them: their replicas are checked by that until they
/// are gone, as they were made for it.
pub(crate) type Former = BTreeMap<ServiceName, Vec<(Version, ServiceSettings)>>;

/// The configuration before, of which everything that stays the same is kept.
pub(crate) struct Previous<'a> {
    pub(crate) checks: &'a CheckPolicies,
    pub(crate) router: &'a ServicePlans,
    pub(crate) limits: &'a RouteLimits,
}

/// A request to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) path: String,
    /// A JSON body, where it is a POST.
    pub(crate) body: Option<&'static str>,
}

impl Plan {
    /// The plan of these settings, and of the TLS and the rules that were made for them.
    pub(crate) fn of(
        settings: &Settings,
        metrics: &Metrics,
        tls: &UpstreamTls,
        rules: &RequestRules,
        former: &Former,
        previous: Option<&Previous<'_>>,
    ) -> Self {
        let mut router = Vec::new();
        let mut checks = BTreeMap::new();
        for service in &settings.services {
            let policy = policies::router_policy(service, tls);
            let check = |service: &ServiceSettings| {
                policies::check_policy(service, policy.protocol, policy.tls.clone())
            };
            let of_former =
                |(version, said): &(Version, ServiceSettings)| (version.clone(), check(said).into());
            let former = former.get(&service.name).into_iter().flatten().map(of_former).collect();
            let check = Checks { latest: check(service).into(), former };
            let known = previous.and_then(|previous| previous.router.named(&service.name));
            let circuit = policies::circuit_limits(&service.circuit);
            let checked = previous.and_then(|previous| previous.checks.get(&service.name));
            checks.insert(service.name.clone(), kept(checked, check));
            router.push(ServicePlan {
                name: service.name.clone(),
                policy: kept(known.map(|known| &known.policy), policy),
                circuit: match known.filter(|known| known.circuit.limits() == circuit) {
                    Some(known) => Arc::clone(&known.circuit),
                    None => Circuit::new(circuit),
                },
                series: metrics.service(service.name.as_str()),
            });
        }
        let limits = RouteLimits::of(&settings.services, previous.map(|previous| previous.limits));
        let routes = settings.services.iter().enumerate().flat_map(|(place, service)| {
            let of_service = service.routes.iter();
            of_service.map(move |of_route| (place, service, of_route))
        });
        let routes = routes.map(|(place, service, of_route)| {
            let mut built = route(settings, service, of_route, place, metrics, tls);
            built.limit = limits.get(service, of_route);
            built.rule = rules.rule(of_route);
            built
        });
        let routes = routes.collect();
        Self {
            router: Arc::new(ServicePlans::new(router)),
            checks: Arc::new(checks),
            terms: settings.services.iter().filter_map(policies::terms).collect(),
            routes,
            limits,
            example: settings.services.iter().find_map(example),
        }
    }

    /// The gateway's part.
    ///
    /// # Errors
    /// A route that cannot be added.
    pub(crate) fn gateway(
        routes: Vec<Route>,
        router: Arc<ServicePlans>,
        settings: &Settings,
        metrics: &Metrics,
        tls: Option<Arc<ServerTls>>,
        own: Vec<OwnPage>,
        shared: Option<Arc<SharedLimits>>,
    ) -> anyhow::Result<edge_gateway::Plan> {
        let gateway = &settings.gateway;
        Ok(edge_gateway::Plan {
            routes: RouteTable::new(routes, own).map_err(|reason| anyhow::anyhow!(reason))?,
            limits: gateway.limits.clone(),
            authentication: authentication(settings),
            rate_limits: RateLimits::new(
                gateway.rate_limits.per_address.as_ref().map(limit),
                limit(&gateway.rate_limits.failed_authentication),
            )
            .shared(shared),
            services: router,
            unmatched: metrics.unmatched(),
            tls,
            proxy_protocol: gateway.proxy_protocol.clone(),
            trusted_proxies: gateway.trusted_proxies.clone(),
        })
    }
}

/// The services as the registry is to have them, in the order of the file, and the endpoints whose addresses have to be looked
/// up. Whatever becomes of a replica between this and the moment in which the registry has them is forgotten, so nothing may be
/// waited for in between.
pub(crate) fn services(
    settings: &Settings,
    registry: &Registry,
    versions: &Versions,
    before: Option<&Settings>,
) -> (Vec<Arc<Service>>, Vec<Unresolved>) {
    let mut unresolved = Vec::new();
    let (snapshot, node) = (registry.snapshot(), among_others(settings));
    let known: HashMap<_, _> = snapshot.services.iter().map(|service| (&service.name, service)).collect();
    let before = before.iter().flat_map(|settings| &settings.services);
    let before: HashMap<_, _> = before.map(|service| (&service.name, service)).collect();
    let service = |service: &ServiceSettings| {
        let stays = before.get(&service.name).zip(known.get(&service.name));
        match (&service.runs, stays) {
            (Runs::Process(_), Some((_, stays))) => {
                let (required, version) = (service.required, versions.get(service));
                if (stays.required, &stays.version) == (required, &version) {
                    Arc::clone(stays)
                } else {
                    Arc::new(Service { required, version, ..Service::clone(stays) })
                }
            }
            (Runs::Process(process), None) => {
                Arc::new(of_processes(service, process.replicas, versions, node.as_ref()))
            }
            (Runs::Endpoints(endpoints), stays) => {
                let before = stays.and_then(|(before, service)| endpoints::Before::new(before, service));
                let built =
                    endpoints::service(service, endpoints, before.as_ref(), registry, &mut unresolved);
                match stays {
                    Some((_, stays)) if is_the_same(stays, &built) => Arc::clone(stays),
                    _ => Arc::new(built),
                }
            }
        }
    };
    let services = settings.services.iter().map(service).collect();
    (services, unresolved)
}

/// Whether a service that was built from what is known of it differs in nothing.
fn is_the_same(known: &Service, built: &Service) -> bool {
    let same = |(known, built): (&Replica, &Replica)| {
        let instance = |replica: &Replica| replica.instance.as_ref().map(Arc::as_ptr);
        let settings = |replica: &Replica| (replica.weight, replica.priority, replica.labels.clone());
        // Of two that have no instance yet, the reason says whose address is awaited.
        (&known.id, settings(known), instance(known), known.state, &known.reason)
            == (&built.id, settings(built), instance(built), built.state, &built.reason)
    };
    (&known.version, known.required, known.replicas.len())
        == (&built.version, built.required, built.replicas.len())
        && known.replicas.iter().zip(&built.replicas).all(same)
}

fn of_processes(
    service: &ServiceSettings,
    replicas: u32,
    versions: &Versions,
    node: Option<&NodeName>,
) -> Service {
    let (now, labels) = (Timestamp::now(), labels(service));
    let replica = |ordinal| {
        let id = ReplicaId::new(service.name.clone(), ordinal).on(node.cloned());
        let stopped = Replica::stopped(id, now);
        let reason = is_started_elsewhere(service)
            .then(|| format!("waits for `serviceos exec --service {}`", service.name));
        let presence = if reason.is_some() { Presence::Vacant } else { Presence::Given };
        Replica { reason: reason.or(stopped.reason), labels: Some(Arc::clone(&labels)), presence, ..stopped }
    };
    Service {
        name: service.name.clone(),
        version: versions.get(service),
        split: None,
        required: service.required,
        desired: replicas as usize,
        replicas: (0..replicas).map(replica).collect(),
    }
}

/// What is there already, where it is no other: whoever uses it sees that nothing has changed.
fn kept<T: PartialEq>(known: Option<&Arc<T>>, wanted: T) -> Arc<T> {
    known.filter(|known| ***known == wanted).cloned().unwrap_or_else(|| Arc::new(wanted))
}

fn route(
    settings: &Settings,
    service: &ServiceSettings,
    route: &RouteSettings,
    place: usize,
    metrics: &Metrics,
    tls: &UpstreamTls,
) -> Route {
    let limits = &settings.gateway.limits;
    let method = |method: &String| {
        Method::from_bytes(method.as_bytes()).expect("the configuration checked the method")
    };
    let name = service.name.as_str();
    let counted = metrics.route(name, &route.path);
    let mut built = Route::new(place, &route.path, name, counted);
    built.host = route.host.clone();
    built.methods = route.methods.iter().map(method).collect();
    built.headers = route.headers.clone();
    built.scopes = match route.access {
        RouteAccess::Callers => Some(route.scopes.as_slice().into()),
        RouteAccess::Public => None,
    };
    built.body_limit = route.body_bytes.unwrap_or(limits.body_bytes).0;
    built.timeout = route.timeout.unwrap_or(limits.request_timeout);
    built.strip_prefix = route.strip_prefix.then(|| literal_prefix(&route.path));
    built.hash_on = hash_on(service);
    built.caller_signer = tls.caller_signer(service);
    if let Some(traffic) = &service.traffic {
        (built.sticky, built.version_header) = (traffic.sticky.clone(), Some(traffic.header.clone()));
        let has_callers = !traffic.callers.is_empty();
        built.callers = has_callers.then(|| Arc::new(CallerVersions::new(&traffic.callers)));
    }
    built
}

fn hash_on(service: &ServiceSettings) -> Option<HashOn> {
    match &service.load_balancing.policy {
        BalancingPolicy::Maglev(hash_on) => Some(hash_on.clone()),
        _ => None,
    }
}

/// The literal segments that a pattern begins with: `/name` of `/name/{*rest}`. What is left of a path after less than a segment
/// could be a dot segment, which the whole path was not.
fn literal_prefix(pattern: &str) -> String {
    let literal = match pattern.find('{') {
        Some(parameter) => &pattern[..parameter],
        None => return pattern.trim_end_matches('/').to_owned(),
    };
    literal.rsplit_once('/').map_or("", |(segments, _)| segments).to_owned()
}

/// A request that works when pasted: the first service that has one wins.
fn example(service: &ServiceSettings) -> Option<Example> {
    let process = service.process()?;
    let (wanted, body) = match process.program {
        Program::Builtin(Builtin::Vrf) => ("/v1/random", Some(r#"{"min":1,"max":100}"#)),
        Program::Builtin(Builtin::Datafeed) => ("/v1/feeds", None),
        Program::Builtin(Builtin::Oracle) | Program::Command(_) | Program::Elsewhere => return None,
    };
    if process.replicas == 0 {
        return None;
    }
    let whole = service.routes.iter().find(|route| route.path == wanted && !route.strip_prefix);
    if whole.is_some() {
        return Some(Example { path: wanted.to_owned(), body });
    }
    let stripped =
        service.routes.iter().find(|route| route.strip_prefix && route.path.ends_with("/{*rest}"))?;
    Some(Example { path: format!("{}{wanted}", literal_prefix(&stripped.path)), body })
}

#[cfg(test)]
mod tests;
