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
use service_registry::{Presence, Registry, Replica, Service};
use service_router::{CheckPolicies, Circuit, ServicePlan, ServicePlans};
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
        previous: Option<&Previous<'_>>,
    ) -> Self {
        let mut router = Vec::new();
        let mut checks = BTreeMap::new();
        for service in &settings.services {
            let policy = policies::router_policy(service, tls);
            let check = policies::check_policy(service, policy.protocol, policy.tls.clone());
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

    fn tls(settings: &Settings) -> UpstreamTls {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(UpstreamTls::default().of(settings)).unwrap()
    }

    /// A plan, with the services beside it.
    struct Planned {
        plan: Plan,
        services: Vec<Arc<Service>>,
    }

    impl std::ops::Deref for Planned {
        type Target = Plan;

        fn deref(&self) -> &Plan {
            &self.plan
        }
    }

    fn plan(text: &str) -> Planned {
        let settings = settings(text);
        let (rules, versions) = (RequestRules::default(), Versions::default());
        let plan = Plan::of(&settings, &Metrics::new(1), &tls(&settings), &rules, None);
        Planned { plan, services: services(&settings, &Registry::default(), &versions, None).0 }
    }

    #[test]
    fn services_have_one_order_and_routes_know_their_place_in_it() {
        let plan = plan(
            "services: {vrf: {replicas: 2}, oracle: , a: {endpoints: [\"http://127.0.0.1:1\"], attestation: none}}",
        );
        let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
        let called: Vec<_> = (0..plan.router.count()).map(|place| plan.router[place].name.as_str()).collect();
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
        let fleets: Vec<_> = plan.terms.keys().map(ServiceName::as_str).collect();
        assert_eq!(fleets, ["oracle", "vrf"], "nothing is launched for endpoints");
    }

    /// A plan, and the one of the settings that come after it.
    fn replaced(before: &str, after: &str, between: impl FnOnce(&Registry)) -> (Planned, Planned) {
        let (registry, metrics) = (Registry::default(), Metrics::new(1));
        let (rules, versions) = (RequestRules::default(), Versions::default());
        let (before, after) = (settings(before), settings(after));
        let first = Plan::of(&before, &metrics, &tls(&before), &rules, None);
        let (begun, _) = services(&before, &registry, &versions, None);
        registry.replace_services(|_none| begun);
        let first = Planned { plan: first, services: registry.snapshot().services.clone() };
        between(&registry);
        let previous = Previous { checks: &first.checks, router: &first.router, limits: &first.limits };
        let second = Plan::of(&after, &metrics, &tls(&after), &rules, Some(&previous));
        let services = services(&after, &registry, &versions, Some(&before)).0;
        (first, Planned { plan: second, services })
    }

    #[test]
    fn of_the_configuration_before_everything_is_kept_that_stays_the_same() {
        let (first, second) = replaced(
            "services: {vrf: , oracle: , datafeed: }",
            "services: {vrf: {retry: {attempts: 3}}, oracle: {circuit: {requests: 5}}, datafeed: {healthCheck: {interval: 9s}}}",
            |_| {},
        );
        let kept = |place: usize| {
            let (before, after) = (&first.router[place], &second.router[place]);
            let service = Arc::ptr_eq(&first.services[place], &second.services[place]);
            let policy = Arc::ptr_eq(&before.policy, &after.policy);
            let circuit = Arc::ptr_eq(&before.circuit, &after.circuit);
            let check = Arc::ptr_eq(&first.checks[&before.name], &second.checks[&before.name]);
            (service, policy, circuit, check)
        };
        assert_eq!(
            [kept(0), kept(1), kept(2)],
            [(true, false, true, true), (true, true, false, true), (true, true, true, false)]
        );
    }

    #[test]
    fn an_endpoint_that_speaks_tls_from_now_on_is_checked_under_tls() {
        let of = |scheme| {
            format!("services: {{a: {{endpoints: [\"{scheme}://127.0.0.1:1\"], attestation: none}}}}")
        };
        let (_, second) = replaced(&of("http"), &of("https"), |_| {});
        let check = &second.checks[&second.router[0].name];
        assert!(check.channel.tls.is_some() && second.router[0].policy.tls.is_some());
    }

    /// What is known of the endpoints of `a` after a reload, all of which were healthy before it.
    fn endpoints(before: &str, after: &str) -> Vec<String> {
        let text = |list: &str| format!("services: {{a: {{endpointSet: [{list}], attestation: none}}}}");
        let healthy = |registry: &Registry| {
            for replica in &registry.snapshot().services[0].replicas {
                registry.update(&replica.id, |replica| {
                    replica.health.verdict = service_registry::Verdict::Healthy;
                    service_registry::Change::Made
                });
            }
        };
        let (_, second) = replaced(&text(before), &text(after), healthy);
        let shown = |replica: &Replica| {
            let instance = replica.instance.as_ref().unwrap();
            let health = replica.health.verdict.as_str();
            format!(
                "{} {} run {} weight {} {health}",
                replica.id, instance.identity, instance.incarnation, replica.weight
            )
        };
        second.services[0].replicas.iter().map(shown).collect()
    }

    #[test]
    fn an_endpoint_stays_what_it_is_wherever_it_stands_in_the_file() {
        let two = r#"{url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
        let one = "a/0 10.0.0.1:1 run 1 weight 1 healthy";
        let other = "a/1 10.0.0.2:1 run 2 weight 1 healthy";
        assert_eq!(endpoints(two, r#"{url: "http://10.0.0.2:1"}"#), [other]);
        let turned = r#"{url: "http://10.0.0.2:1"}, {url: "http://10.0.0.1:1"}"#;
        assert_eq!(endpoints(two, turned), [other, one]);
        let inserted =
            r#"{url: "http://10.0.0.3:1"}, {url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
        assert_eq!(endpoints(two, inserted), ["a/2 10.0.0.3:1 run 3 weight 1 unknown", one, other]);
        let instead = r#"{url: "http://10.0.0.3:1"}, {url: "http://10.0.0.2:1"}"#;
        assert_eq!(endpoints(two, instead), ["a/0 10.0.0.3:1 run 3 weight 1 unknown", other]);
    }

    #[test]
    fn another_weight_or_version_takes_no_endpoint_out() {
        let before = r#"{url: "http://10.0.0.1:1"}, {url: "http://10.0.0.2:1"}"#;
        let after = r#"{url: "http://10.0.0.1:1", weight: 9}, {url: "http://10.0.0.2:1", version: "2"}"#;
        assert_eq!(
            endpoints(before, after),
            ["a/0 10.0.0.1:1 run 1 weight 9 healthy", "a/1 10.0.0.2:1 run 3 weight 1 healthy"]
        );
    }

    #[test]
    fn an_endpoint_that_is_exchanged_before_it_has_an_address_says_nothing_of_the_one_before() {
        let text =
            |host: &str| format!("services: {{a: {{endpoints: [\"http://{host}\"], attestation: none}}}}");
        let fails = |registry: &Registry| {
            registry.update(&"a/0".parse().unwrap(), |replica| {
                replica.reason = Some("foo.test cannot be looked up".into());
                service_registry::Change::Made
            });
        };
        let reason = |after: &str| {
            let (_, second) = replaced(&text("foo.test"), &text(after), fails);
            second.services[0].replicas[0].reason.clone().unwrap()
        };
        assert_eq!(reason("bar.test"), "bar.test is being looked up");
        assert_eq!(reason("foo.test"), "foo.test cannot be looked up");
    }

    #[test]
    fn whole_segments_are_taken_off_a_path() {
        for (pattern, prefix) in [
            ("/name/{*rest}", "/name"),
            ("/name", "/name"),
            ("/name/", "/name"),
            ("/a/b/{c}/d", "/a/b"),
            ("/a/p{id}/secret", "/a"),
            ("/p{id}/secret", ""),
            ("/{*rest}", ""),
            ("/", ""),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn the_example_goes_through_a_route_that_exists() {
        let example = |text| plan(text).plan.example.map(|example| example.path);
        assert_eq!(example("services: {oracle: , vrf: }").as_deref(), Some("/v1/random"));
        assert_eq!(example("services: {dice: {builtin: vrf}}").as_deref(), Some("/dice/v1/random"));
        assert_eq!(example("services: {vrf: {replicas: 0}, datafeed: }").as_deref(), Some("/v1/feeds"));
        assert_eq!(example("services: {oracle: }"), None);
        assert_eq!(example("services: {vrf: {endpoints: [\"http://a\"], attestation: none}}"), None);
    }
}
