//! From the settings to what each part needs of them.

mod endpoints;
mod policies;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use configuration::{
    BalancingPolicy, Builtin, EndpointSettings, HashOn, RouteAccess, RouteSettings, Runs, ServiceSettings,
    Settings,
};
use edge_gateway::{OwnPage, Route, RouteTable};
use http::Method;
use jiff::Timestamp;
use service_lifecycle::Policy;
use service_registry::{Registry, Replica, Service};
use service_router::{CheckPolicies, CheckPolicy, Circuit, ServicePlan};
use types::{ReplicaId, ServiceName};

pub(crate) use endpoints::{Unresolved, resolve};
pub(crate) use policies::TlsClients;

/// What each part needs. Services have the same order everywhere.
pub(crate) struct Plan {
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) router: Vec<ServicePlan>,
    pub(crate) checks: CheckPolicies,
    pub(crate) lives: BTreeMap<ServiceName, Policy>,
    pub(crate) routes: Vec<Route>,
    /// Endpoints whose addresses have to be looked up.
    pub(crate) unresolved: Vec<Unresolved>,
    pub(crate) example: Option<Example>,
}

/// The configuration before, of which everything that stays the same is kept.
pub(crate) struct Previous<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) checks: &'a CheckPolicies,
    pub(crate) circuits: &'a BTreeMap<ServiceName, Arc<Circuit>>,
}

/// A request to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) path: String,
    /// A JSON body, where it is a POST.
    pub(crate) body: Option<&'static str>,
}

impl Plan {
    /// The plan of these settings.
    ///
    /// # Errors
    /// The roots for TLS to endpoints cannot be read.
    pub(crate) fn of(
        settings: &Settings,
        registry: &Registry,
        tls: &TlsClients,
        previous: Option<&Previous<'_>>,
    ) -> anyhow::Result<Self> {
        let mut unresolved = Vec::new();
        let known = registry.snapshot();
        let services = settings.services.iter().map(|service| match &service.runs {
            Runs::Builtin(process) => match known.service(&service.name).filter(|_| previous.is_some()) {
                Some(stays) if stays.required == service.required => Arc::clone(stays),
                Some(stays) => Arc::new(Service { required: service.required, ..Service::clone(stays) }),
                None => Arc::new(of_processes(service, process.replicas)),
            },
            Runs::Endpoints(endpoints) => {
                let stays = known.service(&service.name);
                let before = previous.and_then(|previous| endpoints_of(previous.settings, &service.name));
                let before = before.unwrap_or_default();
                let built = endpoints::service(service, endpoints, before, stays, registry, &mut unresolved);
                Arc::new(built)
            }
        });
        let services = services.collect();
        let mut router = Vec::new();
        let mut checks = BTreeMap::new();
        for service in &settings.services {
            let policy = policies::router_policy(service, tls)?;
            let circuit = previous.and_then(|previous| previous.circuits.get(&service.name));
            let limits = policies::circuit_limits(&service.circuit);
            let circuit = circuit.filter(|circuit| circuit.limits() == limits).cloned();
            let circuit = circuit.unwrap_or_else(|| Circuit::new(limits));
            let check = policies::check_policy(service, policy.protocol, policy.tls.clone());
            checks.insert(service.name.clone(), kept_check(service, check, previous));
            router.push(ServicePlan { name: service.name.clone(), policy, circuit });
        }
        let routes = settings.services.iter().enumerate();
        let routes = routes.flat_map(|(place, service)| {
            service
                .routes
                .iter()
                .map(move |settings_of_route| route(settings, service, settings_of_route, place))
        });
        Ok(Self {
            services,
            router,
            checks: Arc::new(checks),
            lives: settings.services.iter().filter_map(policies::life_policy).collect(),
            routes: routes.collect(),
            unresolved,
            example: settings.services.iter().find_map(example),
        })
    }

    /// The gateway's part.
    ///
    /// # Errors
    /// A route that cannot be added, or a certificate that cannot be used.
    pub(crate) fn gateway(
        routes: Vec<Route>,
        router: Vec<ServicePlan>,
        settings: &Settings,
        own: Vec<OwnPage>,
    ) -> anyhow::Result<edge_gateway::Plan> {
        let gateway = &settings.gateway;
        let tls = gateway.tls.as_ref().map(edge_gateway::server_config).transpose();
        Ok(edge_gateway::Plan {
            routes: RouteTable::new(routes, own).map_err(|reason| anyhow::anyhow!(reason))?,
            limits: gateway.limits.clone(),
            services: router,
            tls: tls.context("failed to set up TLS for clients")?,
            proxy_protocol: gateway.proxy_protocol.clone(),
            trusted_proxies: gateway.trusted_proxies.clone(),
        })
    }
}

fn endpoints_of<'a>(settings: &'a Settings, name: &ServiceName) -> Option<&'a [EndpointSettings]> {
    match &settings.services.iter().find(|service| service.name == *name)?.runs {
        Runs::Endpoints(endpoints) => Some(endpoints),
        Runs::Builtin(_) => None,
    }
}

fn of_processes(service: &ServiceSettings, replicas: u32) -> Service {
    let now = Timestamp::now();
    let replica = |ordinal| Replica::stopped(ReplicaId::new(service.name.clone(), ordinal), now);
    Service {
        name: service.name.clone(),
        version: service.version.clone(),
        required: service.required,
        replicas: (0..replicas).map(replica).collect(),
    }
}

/// The check that runs already, where nothing about it has changed.
fn kept_check(
    service: &ServiceSettings,
    check: CheckPolicy,
    previous: Option<&Previous<'_>>,
) -> Arc<CheckPolicy> {
    let same = |before: &&ServiceSettings| {
        before.name == service.name
            && before.health_check == service.health_check
            && before.outlier == service.outlier
            && before.protocol == service.protocol
    };
    let kept = previous.and_then(|previous| {
        previous.settings.services.iter().find(same)?;
        previous.checks.get(&service.name).cloned()
    });
    kept.unwrap_or_else(|| Arc::new(check))
}

fn route(settings: &Settings, service: &ServiceSettings, route: &RouteSettings, place: usize) -> Route {
    let limits = &settings.gateway.limits;
    let method = |method: &String| {
        Method::from_bytes(method.as_bytes()).expect("the configuration checked the method")
    };
    let mut built = Route::new(place, &route.path, service.name.as_str(), &service.version);
    built.host = route.host.clone();
    built.methods = route.methods.iter().map(method).collect();
    built.headers = route.headers.clone();
    built.scopes = match route.access {
        RouteAccess::Callers => Some(route.scopes.clone()),
        RouteAccess::Public => None,
    };
    built.body_limit = route.body_bytes.unwrap_or(limits.body_bytes).0;
    built.timeout = route.timeout.unwrap_or(limits.request_timeout);
    built.strip_prefix = route.strip_prefix.then(|| literal_prefix(&route.path));
    built.hash_on = hash_on(service);
    if let Some(traffic) = &service.traffic {
        (built.sticky, built.version_header) = (traffic.sticky.clone(), Some(traffic.header.clone()));
    }
    built
}

fn hash_on(service: &ServiceSettings) -> Option<HashOn> {
    match &service.load_balancing.policy {
        BalancingPolicy::Maglev(hash_on) => Some(hash_on.clone()),
        _ => None,
    }
}

/// The literal beginning of a pattern: `/name` of `/name/{*rest}`.
fn literal_prefix(pattern: &str) -> String {
    let literal = pattern.split('{').next().unwrap_or_default();
    literal.trim_end_matches('/').to_owned()
}

/// A request that works when pasted: the first service that has one wins.
fn example(service: &ServiceSettings) -> Option<Example> {
    let process = service.process()?;
    let (wanted, body) = match process.builtin {
        Builtin::Vrf => ("/v1/random", Some(r#"{"min":1,"max":100}"#)),
        Builtin::Datafeed => ("/v1/feeds", None),
        Builtin::Oracle => return None,
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
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let cores = std::num::NonZeroUsize::new(2).unwrap();
        configuration::parse(
            text,
            "serviceos.yaml",
            std::path::Path::new("/srv"),
            cores,
            configuration::any_config,
        )
        .unwrap()
    }

    fn plan(text: &str) -> Plan {
        Plan::of(&settings(text), &Registry::default(), &TlsClients::default(), None).unwrap()
    }

    #[test]
    fn services_have_one_order_and_routes_know_their_place_in_it() {
        let plan = plan(
            "services: {vrf: {replicas: 2}, oracle: , a: {endpoints: [\"http://127.0.0.1:1\"], attestation: none}}",
        );
        let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
        let called: Vec<_> = plan.router.iter().map(|service| service.name.as_str()).collect();
        assert_eq!((&names[..], &called), (&["vrf", "oracle", "a"][..], &names));
        let replicas: Vec<_> = plan.services.iter().map(|service| service.replicas.len()).collect();
        assert_eq!(replicas, [2, 1, 1]);
        for route in &plan.routes {
            let expected = match names[route.service] {
                "vrf" => "/v1/random",
                "oracle" => "/v1/oracle",
                _ => "/a",
            };
            assert!(route.template.starts_with(expected), "{} of {expected}", route.template);
        }
        let lives: Vec<_> = plan.lives.keys().map(ServiceName::as_str).collect();
        assert_eq!(lives, ["oracle", "vrf"], "nothing is launched for endpoints");
    }

    #[test]
    fn of_the_configuration_before_everything_is_kept_that_stays_the_same() {
        let (registry, tls) = (Registry::default(), TlsClients::default());
        let before = settings("services: {vrf: , oracle: , datafeed: }");
        let first = Plan::of(&before, &registry, &tls, None).unwrap();
        registry.replace_services(|_none| first.services.clone());
        let circuits =
            first.router.iter().map(|service| (service.name.clone(), Arc::clone(&service.circuit)));
        let circuits = circuits.collect();
        let previous = Previous { settings: &before, checks: &first.checks, circuits: &circuits };
        let after =
            "services: {vrf: , oracle: {circuit: {requests: 5}}, datafeed: {healthCheck: {interval: 9s}}}";
        let second = Plan::of(&settings(after), &registry, &tls, Some(&previous)).unwrap();
        let kept = |place: usize| {
            let name = &first.router[place].name;
            let service = Arc::ptr_eq(&first.services[place], &second.services[place]);
            let circuit = Arc::ptr_eq(&first.router[place].circuit, &second.router[place].circuit);
            let check = Arc::ptr_eq(&first.checks[name], &second.checks[name]);
            (service, circuit, check)
        };
        assert_eq!(
            [kept(0), kept(1), kept(2)],
            [(true, true, true), (true, false, true), (true, true, false)]
        );
    }

    #[test]
    fn the_example_goes_through_a_route_that_exists() {
        let example = |text| plan(text).example.map(|example| example.path);
        assert_eq!(example("services: {oracle: , vrf: }").as_deref(), Some("/v1/random"));
        assert_eq!(example("services: {dice: {builtin: vrf}}").as_deref(), Some("/dice/v1/random"));
        assert_eq!(example("services: {vrf: {replicas: 0}, datafeed: }").as_deref(), Some("/v1/feeds"));
        assert_eq!(example("services: {oracle: }"), None);
        assert_eq!(example("services: {vrf: {endpoints: [\"http://a\"], attestation: none}}"), None);
    }
}
