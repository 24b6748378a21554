//! The buckets of routes, which outlive every configuration that has the same route.

use std::collections::HashMap;
use std::sync::Arc;

use configuration::{RouteSettings, ServiceSettings};
use edge_gateway::RouteLimit;

use crate::up::provisioning::limit;

/// By what a request must be to take the route.
#[derive(Default)]
pub(crate) struct RouteLimits(HashMap<String, Arc<RouteLimit>>);

impl RouteLimits {
    /// Those of these services: the ones before where they are the same, and what was used of them stays used.
    pub(crate) fn of(services: &[ServiceSettings], previous: Option<&Self>) -> Self {
        let now_ns = edge_gateway::nanoseconds_now();
        let mut limits = HashMap::new();
        for service in services {
            for route in &service.routes {
                let Some(settings) = &route.rate_limit else { continue };
                let (key, limit) = (key(service, route), limit(settings));
                let known = previous.and_then(|previous| previous.0.get(&key));
                let limit =
                    known.map_or_else(|| RouteLimit::new(&key, limit), |known| known.under(limit, now_ns));
                limits.insert(key, limit);
            }
        }
        Self(limits)
    }

    pub(super) fn get(&self, service: &ServiceSettings, route: &RouteSettings) -> Option<Arc<RouteLimit>> {
        route.rate_limit.as_ref().and_then(|_| self.0.get(&key(service, route)).cloned())
    }
}

fn key(service: &ServiceSettings, route: &RouteSettings) -> String {
    let RouteSettings { host, path, methods, headers, .. } = route;
    format!("{} {host:?} {path} {methods:?} {headers:?}", service.name)
}
