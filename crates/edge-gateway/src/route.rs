//! Which route a request takes: a pure look-up that names what the next steps enforce.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use observability::{RouteIndex, ServiceIndex};

use crate::FlowError;
use crate::access_line::route_part;

/// A route with everything that the request flow needs of it.
#[derive(Debug)]
pub struct Route {
    /// Its number among the metrics.
    pub index: RouteIndex,
    /// Its service.
    pub service: ServiceIndex,
    /// What every access log line of it has in common.
    pub(crate) log_part: Vec<u8>,
    /// The matchit pattern.
    pub template: String,
    /// The methods that it takes; empty for all.
    pub methods: Vec<Method>,
    /// The scopes that a caller needs; `None` when anybody may call.
    pub scopes: Option<Vec<String>>,
    /// The largest request body, in bytes.
    pub body_limit: u64,
    /// Until the head of the answer.
    pub timeout: Duration,
    /// What is taken off the beginning of the path before the replica sees it.
    pub strip_prefix: Option<String>,
}

impl Route {
    /// A public route without limits of its own; the fields say the rest.
    pub fn new(
        index: RouteIndex,
        service: ServiceIndex,
        template: &str,
        service_name: &str,
        version: &str,
    ) -> Self {
        Self {
            index,
            service,
            log_part: route_part(template, service_name, version),
            template: template.to_owned(),
            methods: Vec::new(),
            scopes: None,
            body_limit: 0,
            timeout: Duration::ZERO,
            strip_prefix: None,
        }
    }
}

/// An answer that the gateway gives itself.
pub struct OwnPage {
    /// The exact path.
    pub path: &'static str,
    /// Gives the answer; must not block.
    pub answer: Arc<dyn Fn() -> PageAnswer + Send + Sync>,
}

/// The content of an own page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAnswer {
    /// The status.
    pub status: StatusCode,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// The methods of a route that names none: all that are for a resource and its content.
const ANY: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];

/// All routes.
pub struct RouteTable {
    /// The numbers of the routes under each pattern.
    patterns: matchit::Router<Vec<usize>>,
    routes: Vec<Route>,
    own: Vec<OwnPage>,
}

/// What a path leads to.
pub(crate) enum Target<'a> {
    Route(&'a Route),
    Own(&'a OwnPage),
}

impl RouteTable {
    /// A table of these routes, numbered among the metrics from 1 in this order. The configuration has checked that their
    /// patterns are valid and do not collide.
    ///
    /// # Errors
    /// The pattern that could not be added.
    pub fn new(routes: Vec<Route>, own: Vec<OwnPage>) -> Result<Self, String> {
        let mut by_pattern: Vec<(&str, Vec<usize>)> = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            match by_pattern.iter_mut().find(|(pattern, _)| *pattern == route.template) {
                Some((_, numbers)) => numbers.push(number),
                None => by_pattern.push((&route.template, vec![number])),
            }
        }
        let mut patterns = matchit::Router::new();
        for (pattern, numbers) in by_pattern {
            patterns.insert(pattern, numbers).map_err(|error| format!("{pattern}: {error}"))?;
        }
        Ok(Self { patterns, routes, own })
    }

    /// The route of a number among the metrics, where 0 is what no route matched.
    pub(crate) fn by_index(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(index.0.checked_sub(1)?)
    }

    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Target<'_>, FlowError> {
        if let Some(page) = self.own.iter().find(|page| page.path == path) {
            return match *method {
                Method::GET | Method::HEAD => Ok(Target::Own(page)),
                _ => Err(FlowError::MethodNotAllowed("GET, HEAD".into())),
            };
        }
        let numbers = self.patterns.at(path).map_err(|_| FlowError::RouteNotFound)?.value;
        let candidates = || numbers.iter().map(|number| &self.routes[*number]);
        // A tunnel, and a request that is echoed with its credential, are for no route.
        let forwardable = !matches!(*method, Method::CONNECT | Method::TRACE);
        let takes =
            |route: &&Route| forwardable && (route.methods.is_empty() || route.methods.contains(method));
        candidates().find(takes).map(Target::Route).ok_or_else(|| {
            let named =
                |route: &Route| if route.methods.is_empty() { ANY.to_vec() } else { route.methods.clone() };
            let methods: Vec<Method> = candidates().flat_map(named).collect();
            let mut allowed: Vec<_> = methods.iter().map(Method::as_str).collect();
            allowed.sort_unstable();
            allowed.dedup();
            FlowError::MethodNotAllowed(allowed.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn route(number: usize, template: &str, methods: &[Method]) -> Route {
        let route = Route::new(RouteIndex(number), ServiceIndex(1), template, "vrf", "1.0.0");
        Route { methods: methods.to_vec(), ..route }
    }

    #[test]
    fn the_most_specific_pattern_wins_then_the_method() {
        let own = OwnPage {
            path: "/health",
            answer: Arc::new(|| PageAnswer {
                status: StatusCode::OK,
                content_type: "text/plain",
                body: vec![],
            }),
        };
        let routes = vec![
            route(0, "/v1/random", &[Method::POST]),
            route(1, "/v1/random", &[Method::GET]),
            route(2, "/v1/random/{*rest}", &[]),
            route(3, "/v1/random/keys", &[Method::GET]),
            route(4, "/{*rest}", &[]),
        ];
        let table = RouteTable::new(routes, vec![own]).unwrap();
        let mut shown = String::new();
        for (method, path) in [
            (Method::POST, "/v1/random"),
            (Method::GET, "/v1/random"),
            (Method::PUT, "/v1/random"),
            (Method::GET, "/v1/random/keys"),
            (Method::GET, "/v1/random/keys/x"),
            (Method::TRACE, "/v1/random/x"),
            (Method::GET, "/health"),
            (Method::POST, "/health"),
            (Method::GET, "/healthy"),
        ] {
            shown += &match table.find(&method, path) {
                Ok(Target::Route(route)) => format!("{method} {path}: {}\n", route.index.0),
                Ok(Target::Own(page)) => format!("{method} {path}: own {}\n", page.path),
                Err(error) => format!("{method} {path}: {error}\n"),
            };
        }
        expect![[r#"
            POST /v1/random: 0
            GET /v1/random: 1
            PUT /v1/random: this path takes GET, POST
            GET /v1/random/keys: 3
            GET /v1/random/keys/x: 2
            TRACE /v1/random/x: this path takes DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT
            GET /health: own /health
            POST /health: this path takes GET, HEAD
            GET /healthy: 4
        "#]]
        .assert_eq(&shown);
    }
}
