//! Which route a request takes: a pure look-up that names what the next steps enforce.

mod hosts;
mod misfits;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Left};
use configuration::{HashOn, HostPattern, Sticky};
use http::{Method, StatusCode};
use http1::RequestHead;
use observability::RouteShard;
use service_router::stable_hash;
use trust::CallerSigner;
use validation::RequestRule;

use crate::FlowError;
use crate::access_line::route_part;
use crate::destination::CallerVersions;
use crate::path::plain;
use crate::rate_limit::RouteLimit;
use hosts::Hosts;
pub use misfits::Misfit;

/// A route with everything that the request flow needs of it.
#[derive(Debug)]
pub struct Route {
    /// Its number among all routes.
    pub(crate) number: usize,
    /// The number of its service in the plan.
    pub service: usize,
    /// What every access log line of it has in common.
    pub(crate) log_part: Vec<u8>,
    /// Where each worker counts its requests.
    pub(crate) counted: Arc<[RouteShard]>,
    /// The hosts that it is for; all of them without.
    pub host: Option<HostPattern>,
    /// The matchit pattern.
    pub template: String,
    /// The methods that it takes; empty for all.
    pub methods: Vec<Method>,
    /// Header fields that a request must have, with these values; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The scopes that a caller needs; `None` when anybody may call.
    pub scopes: Option<Arc<[String]>>,
    /// How often everybody together may call.
    pub limit: Option<Arc<RouteLimit>>,
    /// The largest request body, in bytes.
    pub body_limit: u64,
    /// What a request must be.
    pub rule: Option<Arc<RequestRule>>,
    /// Until the head of the answer.
    pub timeout: Duration,
    /// What is taken off the beginning of the path before the replica sees it.
    pub strip_prefix: Option<String>,
    /// What the service's balancing hashes.
    pub hash_on: Option<HashOn>,
    /// What keeps a caller with one version of the service.
    pub sticky: Option<Sticky>,
    /// The field by which a caller asks for a version; in lower case.
    pub version_header: Option<String>,
    /// Which version a caller gets that asks for none; none where that makes no difference.
    pub callers: Option<Arc<CallerVersions>>,
    /// Who signs who calls, and the service that is called; none where the replica takes the word of the connection.
    pub caller_signer: Option<(Arc<CallerSigner>, Arc<str>)>,
}

impl Route {
    /// A public route without limits of its own; the fields say the rest.
    pub fn new(service: usize, template: &str, service_name: &str, counted: Arc<[RouteShard]>) -> Self {
        Self {
            number: 0,
            service,
            log_part: route_part(template, service_name),
            counted,
            host: None,
            template: template.to_owned(),
            methods: Vec::new(),
            headers: Vec::new(),
            scopes: None,
            limit: None,
            body_limit: 0,
            rule: None,
            timeout: Duration::ZERO,
            strip_prefix: None,
            hash_on: None,
            sticky: None,
            version_header: None,
            callers: None,
            caller_signer: None,
        }
    }

    fn takes(&self, head: &RequestHead) -> bool {
        self.takes_method(head.method()) && self.lacked_by(head).is_none()
    }

    fn takes_method(&self, method: &Method) -> bool {
        // A tunnel, and a request that is echoed with its credential, are for no route.
        let forwardable = !matches!(*method, Method::CONNECT | Method::TRACE);
        forwardable && (self.methods.is_empty() || self.methods.contains(method))
    }

    /// The first field that it wants and a request has not.
    fn lacked_by(&self, head: &RequestHead) -> Option<&(String, String)> {
        let has = |(name, value): &(String, String)| head.values_of(name).any(|own| own == value.as_bytes());
        self.headers.iter().find(|field| !has(field))
    }

    fn allowed(&self) -> &[Method] {
        if self.methods.is_empty() { &ANY } else { &self.methods }
    }
}

/// An answer that the gateway gives itself.
pub struct OwnPage {
    /// The exact path.
    pub path: &'static str,
    /// The scopes that a caller needs; `None` when anybody may ask.
    pub scopes: Option<Arc<[String]>>,
    /// What it has to be told.
    pub asks: Asks,
    /// Gives the answer; must not block.
    pub answer: Arc<dyn Fn(PageRequest<'_>) -> PageAnswer + Send + Sync>,
}

/// What an own page has to be told beside who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nothing.
    Nothing,
    /// What is left of the caller's limits.
    WhatIsLeft,
}

/// Who asks for an own page.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    /// The caller, where the page needs one.
    pub caller: Option<&'a Caller>,
    /// What is left of its limits, where the page asks for that. To ask uses nothing of them.
    pub left: Left,
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
    hosts: Hosts,
    routes: Vec<Route>,
    own: Vec<OwnPage>,
}

/// What a request leads to.
pub(crate) enum Target<'a> {
    Route {
        route: &'a Route,
        /// The hash of the path parameter that the route's service is balanced by.
        hash: Option<u64>,
    },
    Own(&'a OwnPage),
}

impl RouteTable {
    /// A table of these routes. The configuration has checked that their patterns are valid and do not collide.
    ///
    /// # Errors
    /// The pattern that could not be added.
    pub fn new(mut routes: Vec<Route>, own: Vec<OwnPage>) -> Result<Self, String> {
        // Many routes want the same scopes, which are read with every request.
        let mut known: HashSet<Arc<[String]>> = HashSet::new();
        for (number, route) in routes.iter_mut().enumerate() {
            route.number = number;
            if let Some(scopes) = &mut route.scopes {
                match known.get(scopes) {
                    Some(same) => *scopes = Arc::clone(same),
                    None => drop(known.insert(Arc::clone(scopes))),
                }
            }
        }
        let hosts = Hosts::new(&routes)?;
        Ok(Self { hosts, routes, own })
    }

    /// All routes in the order of their numbers.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether the path is that of an own page.
    pub(crate) fn is_own(&self, head: &RequestHead) -> bool {
        let path = plain(head.path());
        self.own.iter().any(|page| page.path.as_bytes() == &*path)
    }

    pub(crate) fn find(&self, head: &RequestHead) -> Result<Target<'_>, FlowError> {
        // Visible ASCII, as the path of a head is. A replica may take every spelling for the same, so routes do.
        let path = plain(head.path());
        let path = std::str::from_utf8(&path).unwrap_or_default();
        if let Some(page) = self.own.iter().find(|page| page.path == path) {
            return match *head.method() {
                Method::GET | Method::HEAD => Ok(Target::Own(page)),
                _ => Err(FlowError::MethodNotAllowed("GET, HEAD".into())),
            };
        }
        let mut others: Vec<&Route> = Vec::new();
        for patterns in self.hosts.of(head.host()) {
            let Ok(found) = patterns.at(path) else { continue };
            let mut candidates = found.value.as_slice().iter().map(|number| &self.routes[*number]);
            if let Some(route) = candidates.clone().find(|route| route.takes(head)) {
                let hash = match &route.hash_on {
                    Some(HashOn::PathParameter(name)) => found.params.get(name),
                    _ => None,
                };
                return Ok(Target::Route { route, hash: hash.map(|value| stable_hash(value.as_bytes())) });
            }
            others.extend(&mut candidates);
        }
        Err(refusal(head, &others))
    }
}

/// The path is known, but not to this request: its method is not taken, or it lacks a header that every route wants.
fn refusal(head: &RequestHead, others: &[&Route]) -> FlowError {
    let mut methods: Vec<&str> =
        others.iter().flat_map(|route| route.allowed()).map(Method::as_str).collect();
    if methods.is_empty() || methods.contains(&head.method().as_str()) {
        return FlowError::RouteNotFound;
    }
    methods.sort_unstable();
    methods.dedup();
    FlowError::MethodNotAllowed(methods.join(", "))
}

#[cfg(test)]
mod tests;
