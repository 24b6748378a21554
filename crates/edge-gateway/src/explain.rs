//! What becomes of a request, and why: asked of the plan that is in force and of the look-up that requests take. Nothing is counted,
//! and nobody is called.

use std::time::Duration;

use access::Limit;
use http::Method;
use http1::{Framing, Limits, RequestFault, RequestHead, parse_request};
use service_router::ServicePlan;

use crate::FlowError;
use crate::authenticate::refused_as_it_is;
use crate::destination;
use crate::plan::Plan;
use crate::route::{Misfit, OwnPage, Route, Target};
use crate::validate::{validate_head, validate_length, validate_type};

/// A request to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, and perhaps a query.
    pub target: &'a str,
    /// Its host.
    pub host: &'a str,
    /// Its other header fields.
    pub fields: &'a [(String, String)],
}

/// What the gateway answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The code.
    pub code: &'static str,
    /// Why, as the caller is told.
    pub detail: String,
}

/// Where a request goes.
pub enum Leads<'a> {
    /// To a service.
    Service {
        /// The route.
        route: &'a Route,
        /// How the service is called.
        service: &'a ServicePlan,
        /// What becomes of the request as it was asked about, where no replica is called. What a credential is worth is not judged.
        refusal: Option<Refusal>,
        /// How long it may take.
        timeout: Duration,
        /// The version that the request asks for.
        version: Option<String>,
    },
    /// To a page of the gateway's own.
    Own {
        /// It.
        page: &'a OwnPage,
        /// The answer to the request as it was asked about, where the page is not shown. What a credential is worth is not judged.
        refusal: Option<Refusal>,
    },
}

/// What becomes of a request.
pub struct Explained<'a> {
    /// Where it goes, or how it is refused before that is known.
    pub leads: Result<Leads<'a>, Refusal>,
    /// The other routes, and why it takes none of them; those of an own page and of what is malformed are not asked.
    pub others: Vec<(&'a Route, Misfit<'a>)>,
}

impl Refusal {
    /// Where no replica can be selected.
    pub fn no_replica() -> Self {
        Self::of(&FlowError::NoReplica(String::new()))
    }

    fn of(error: &FlowError) -> Self {
        let (status, code, _) = error.kind();
        Self { status: status.as_u16(), code, detail: error.to_string() }
    }
}

impl Plan {
    /// What becomes of a request.
    pub fn explain(&self, asked: &Asked<'_>) -> Explained<'_> {
        let refused = |error: &FlowError| Explained { leads: Err(Refusal::of(error)), others: Vec::new() };
        let head = match self.head(asked) {
            Ok(head) => head,
            Err(fault) => return refused(&FlowError::of_head(fault, &self.limits)),
        };
        if let Err(error) = validate_head(&head) {
            return refused(&error);
        }
        match self.routes.find(&head) {
            Ok(Target::Own(page)) => {
                let refusal = self.refused(page.scopes.as_deref(), &head).as_ref().map(Refusal::of);
                Explained { leads: Ok(Leads::Own { page, refusal }), others: Vec::new() }
            }
            Ok(Target::Route { route, .. }) => {
                let leads = Ok(self.leads(route, &head));
                Explained { leads, others: self.routes.misfits(&head, Some(route)) }
            }
            Err(error) => {
                Explained { leads: Err(Refusal::of(&error)), others: self.routes.misfits(&head, None) }
            }
        }
    }

    /// The head that a worker would have read.
    fn head(&self, asked: &Asked<'_>) -> Result<RequestHead, RequestFault> {
        let Asked { method, target, host, fields } = asked;
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
        let limits = Limits {
            head_bytes: self.limits.header_bytes.as_usize(),
            fields: self.limits.headers,
            target_bytes: self.limits.url_bytes.as_usize(),
        };
        let mut head = RequestHead::default();
        parse_request(text.as_bytes(), &limits, &mut head).map(|()| head)
    }

    fn leads<'a>(&'a self, route: &'a Route, head: &RequestHead) -> Leads<'a> {
        let header = route.version_header.as_deref();
        let version = header.and_then(|header| head.values_of(header).next());
        // The gateway asks who calls before it looks at what is sent.
        let refused = self.refused(route.scopes.as_deref(), head).or_else(|| refused_content(head, route));
        Leads::Service {
            route,
            service: &self.services[route.service],
            refusal: refused.as_ref().map(Refusal::of),
            timeout: destination::timeout(head, route),
            version: version.map(|version| String::from_utf8_lossy(version).into_owned()),
        }
    }

    /// How a request is refused for what it shows of whoever calls.
    fn refused(&self, scopes: Option<&[String]>, head: &RequestHead) -> Option<FlowError> {
        scopes.and_then(|_needed| refused_as_it_is(head, &self.authentication))
    }

    /// How often an address may call, if that is limited.
    pub fn limit_of_addresses(&self) -> Option<Limit> {
        self.rate_limits.of_addresses()
    }
}

/// How a request is refused for what its head says of its body. One that says nothing of it was asked about without it.
fn refused_content(head: &RequestHead, route: &Route) -> Option<FlowError> {
    let rule = route.rule.as_deref().filter(|_| head.framing() != Framing::Length(0));
    let refused = rule.and_then(|rule| validate_type(head, rule).err());
    refused.or_else(|| validate_length(head, route).err())
}

impl Route {
    /// How often everybody together may call it, if that is limited.
    pub fn own_limit(&self) -> Option<Limit> {
        self.limit.as_deref().map(crate::RouteLimit::limit)
    }

    /// In words, as a configuration names it.
    pub fn name(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        let methods = if methods.is_empty() { "any method".to_owned() } else { methods.join(", ") };
        let host = self.host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
        format!("{methods} {}{host}", self.template)
    }
}
