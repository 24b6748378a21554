//! From the settings to what each part needs of them.

use std::collections::BTreeMap;

use configuration::{Builtin, Probe, RouteAccess, RouteSettings, ServiceSettings, Settings};
use edge_gateway::Route;
use http::Method;
use jiff::Timestamp;
use observability::{RouteIndex, RouteLabels, ServiceIndex};
use service_lifecycle::Policy;
use service_registry::{Replica, Service};
use service_router::{CheckPolicy, RouterPolicy};
use types::{ReplicaId, ServiceName};

/// What each part needs. Services and routes have the same order everywhere; their numbers are places in it.
pub(crate) struct Plan {
    pub(crate) services: Vec<Service>,
    pub(crate) router_policies: Vec<RouterPolicy>,
    pub(crate) check_policies: BTreeMap<ServiceName, CheckPolicy>,
    pub(crate) life_policies: BTreeMap<ServiceName, Policy>,
    pub(crate) routes: Vec<Route>,
    pub(crate) labels: Vec<RouteLabels>,
    pub(crate) example: Option<Example>,
}

/// A request to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) path: String,
    /// A JSON body, where it is a POST.
    pub(crate) body: Option<&'static str>,
}

impl Plan {
    pub(crate) fn of(settings: &Settings) -> Self {
        let mut routes = Vec::new();
        for (place, service) in settings.services.iter().enumerate() {
            // Number 0 among the metrics is the gateway itself, and route 0 what no route matched.
            let service_index = ServiceIndex(place + 1);
            for settings_of_route in &service.routes {
                let index = RouteIndex(routes.len() + 1);
                routes.push(route(settings, service, settings_of_route, index, service_index));
            }
        }
        let labels =
            routes.iter().map(|route| RouteLabels { service: route.service, route: route.template.clone() });
        Self {
            labels: labels.collect(),
            routes,
            services: settings.services.iter().map(registry_service).collect(),
            router_policies: settings.services.iter().map(router_policy).collect(),
            check_policies: settings.services.iter().filter_map(check_policy).collect(),
            life_policies: settings.services.iter().filter_map(life_policy).collect(),
            example: settings.services.iter().find_map(example),
        }
    }
}

fn registry_service(service: &ServiceSettings) -> Service {
    let now = Timestamp::now();
    let replica = |ordinal| Replica::stopped(ReplicaId::new(service.name.clone(), ordinal), now);
    let processes = service.process().map_or(0, |process| process.replicas);
    Service {
        name: service.name.clone(),
        version: service.version.clone(),
        required: service.required,
        replicas: (0..processes).map(replica).collect(),
    }
}

fn router_policy(service: &ServiceSettings) -> RouterPolicy {
    RouterPolicy { attempts: service.retry.attempts, per_try_timeout: service.retry.per_try_timeout }
}

fn check_policy(service: &ServiceSettings) -> Option<(ServiceName, CheckPolicy)> {
    let check = &service.health_check;
    let Probe::Http { path } = &check.probe else { return None };
    let policy = CheckPolicy {
        path: path.clone(),
        interval: check.interval,
        timeout: check.timeout,
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
    };
    Some((service.name.clone(), policy))
}

fn life_policy(service: &ServiceSettings) -> Option<(ServiceName, Policy)> {
    let process = service.process()?;
    let policy = Policy {
        version: service.version.clone(),
        start_timeout: process.start_timeout,
        drain_timeout: service.drain_timeout,
        grace: process.grace,
        restart_min: process.restart.min,
        restart_max: process.restart.max,
        restart_reset: process.restart.reset_after,
    };
    Some((service.name.clone(), policy))
}

fn route(
    settings: &Settings,
    service: &ServiceSettings,
    route: &RouteSettings,
    index: RouteIndex,
    service_index: ServiceIndex,
) -> Route {
    let limits = &settings.gateway.limits;
    let method = |method: &String| {
        Method::from_bytes(method.as_bytes()).expect("the configuration checked the method")
    };
    let mut built = Route::new(index, service_index, &route.path, service.name.as_str(), &service.version);
    built.methods = route.methods.iter().map(method).collect();
    built.scopes = match route.access {
        RouteAccess::Callers => Some(route.scopes.clone()),
        RouteAccess::Public => None,
    };
    built.body_limit = route.body_bytes.unwrap_or(limits.body_bytes).0;
    built.timeout = route.timeout.unwrap_or(limits.request_timeout);
    built.strip_prefix = route.strip_prefix.then(|| literal_prefix(&route.path));
    built
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

    #[test]
    fn services_routes_and_labels_have_one_order() {
        let plan = Plan::of(&settings("services: {vrf: {replicas: 2}, oracle: }"));
        let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["vrf", "oracle"]);
        for (place, (route, labels)) in plan.routes.iter().zip(&plan.labels).enumerate() {
            assert_eq!(route.index, RouteIndex(place + 1));
            assert_eq!((route.service, &route.template), (labels.service, &labels.route));
            assert!(route.template.contains(if names[route.service.0 - 1] == "vrf" {
                "random"
            } else {
                "oracle"
            }));
        }
    }

    #[test]
    fn the_example_goes_through_a_route_that_exists() {
        let example = |text| Plan::of(&settings(text)).example.map(|example| example.path);
        assert_eq!(example("services: {oracle: , vrf: }").as_deref(), Some("/v1/random"));
        assert_eq!(example("services: {dice: {builtin: vrf}}").as_deref(), Some("/dice/v1/random"));
        assert_eq!(example("services: {vrf: {replicas: 0}, datafeed: }").as_deref(), Some("/v1/feeds"));
        assert_eq!(example("services: {oracle: }"), None);
        assert_eq!(example("services: {vrf: {endpoints: [\"http://a\"], attestation: none}}"), None);
    }
}
