//! Routes: their patterns, who may call them, and that no two of the whole file want the same request.

use std::collections::BTreeMap;
use std::path::Path;

use matchit::InsertError;
use types::ServiceName;

use super::Checker;
use super::pattern::check_pattern;
use super::service::WholeFile;
use crate::builtin::default_routes;
use crate::raw::{RawMatch, RawRoute};
use crate::report::Origin;
use crate::scalar::{Spanned, Text, quoted};
use crate::settings::{HostPattern, Protocol, RouteAccess, RouteSettings};

/// The longest scope, in bytes.
const MAX_SCOPE_BYTES: usize = 64;
/// What the gateway answers itself.
const RESERVED: [&str; 4] = ["/health", "/health/detailed", "/v1/quota", "/.well-known/serviceos"];
/// Everything beneath is the gateway's own.
const RESERVED_PREFIX: &str = "/.well-known/serviceos/";

/// The routes of the file so far, those of each host for themselves: the host of a request is matched first.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    hosts: BTreeMap<Option<HostPattern>, HostTable>,
}

#[derive(Debug, Default)]
struct HostTable {
    patterns: matchit::Router<()>,
    owners: BTreeMap<String, Vec<Owner>>,
}

#[derive(Debug)]
struct Owner {
    /// The key of the service, such as `services.vrf`.
    service: String,
    origin: Origin,
    methods: Vec<String>,
    headers: Vec<(String, String)>,
}

impl HostTable {
    /// Adds a route whose pattern is valid. The error is what it collides with: a pattern and who has it.
    fn add(&mut self, path: &str, owner: Owner) -> Result<(), Collision> {
        if let Some(owners) = self.owners.get_mut(path) {
            let tie = owners.iter().find(|other| other.ties_with(&owner));
            if let Some(other) = tie {
                return Err(other.collision(path));
            }
            owners.push(owner);
            return Ok(());
        }
        match self.patterns.insert(path, ()) {
            Ok(()) => {
                self.owners.insert(path.to_owned(), vec![owner]);
                Ok(())
            }
            Err(InsertError::Conflict { with }) => {
                match self.owners.get(&with).and_then(|owners| owners.first()) {
                    Some(other) => Err(other.collision(&with)),
                    None => Err(Collision::Invalid(format!("it conflicts with {}", quoted(&with)))),
                }
            }
            Err(error) => Err(Collision::Invalid(error.to_string())),
        }
    }
}

impl Owner {
    fn collision(&self, pattern: &str) -> Collision {
        Collision::With { pattern: pattern.to_owned(), service: self.service.clone(), origin: self.origin }
    }

    /// Whether some request of the same path belongs to neither more than to the other. A request that fits two different
    /// sets of headers is not such a tie. No method at all stands for every method.
    fn ties_with(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        methods && self.headers == other.headers
    }
}

enum Collision {
    With { pattern: String, service: String, origin: Origin },
    Invalid(String),
}

impl Checker {
    /// The routes of a service. A list that is written and empty leaves it without any; one that is left out gives it
    /// its default ones.
    pub(super) fn routes(
        &mut self,
        key: &str,
        service_origin: Origin,
        name: Option<&ServiceName>,
        written: Option<Vec<Spanned<RawRoute>>>,
        file: &mut WholeFile<'_>,
        protocol: Option<Protocol>,
    ) -> Vec<RouteSettings> {
        let routes: Vec<(Origin, RouteSettings)> = match written {
            Some(routes) => {
                let numbered = routes.into_iter().enumerate();
                numbered
                    .filter_map(|(index, route)| {
                        self.route(&format!("{key}.routes[{index}]"), route, file.base_dir, protocol)
                    })
                    .collect()
            }
            None => name.into_iter().flat_map(default_routes).map(|route| (service_origin, route)).collect(),
        };
        for (origin, route) in &routes {
            self.place_route(key, *origin, route, &mut file.routes);
        }
        routes.into_iter().map(|(_, route)| route).collect()
    }

    fn place_route(&mut self, key: &str, origin: Origin, route: &RouteSettings, table: &mut RouteTable) {
        let path = &route.path;
        if RESERVED.contains(&path.as_str()) || path.starts_with(RESERVED_PREFIX) {
            let message = format!("{key}: the route {path} is reserved: the gateway answers it itself");
            self.wrong(origin, message, Some("choose another path".to_owned()));
            return;
        }
        let owner = Owner {
            service: key.to_owned(),
            origin,
            methods: route.methods.clone(),
            headers: route.headers.clone(),
        };
        let host = route.host.as_ref().map(ToString::to_string).unwrap_or_default();
        match table.hosts.entry(route.host.clone()).or_default().add(path, owner) {
            Ok(()) => {}
            Err(Collision::Invalid(reason)) => {
                self.wrong(origin, format!("{key}: the route {} is not valid: {reason}", quoted(path)), None);
            }
            Err(Collision::With { pattern, service, origin: other }) => {
                let message = format!(
                    "{key}: the route {host}{path} takes the same requests as {host}{pattern} of {service} ({other})"
                );
                let help = "give one of them another host or path, or each its own methods or headers under the very same path";
                self.wrong(origin, message, Some(help.to_owned()));
            }
        }
    }

    fn route(
        &mut self,
        key: &str,
        route: Spanned<RawRoute>,
        base_dir: &Path,
        protocol: Option<Protocol>,
    ) -> Option<(Origin, RouteSettings)> {
        let route_origin = Origin::from(route.referenced);
        let raw = route.value;
        let RawMatch { host, path, methods, headers } = raw.r#match;
        let path = match path {
            Some(path) => self.pattern(key, path),
            None => {
                let help = Some("write `match: {path: /v1/example}`".to_owned());
                self.wrong(route_origin, format!("{key}.match.path: a route needs a path"), help);
                None
            }
        };
        let before = self.findings.len();
        let host = host.and_then(|host| self.host(key, &host));
        let methods = methods.into_iter().map(|method| self.method(key, method)).collect();
        let headers = self.headers(key, headers);
        // Without what is wrong in it, a route would take requests that it was not meant for.
        let path = path.filter(|_| self.findings.len() == before);
        let scopes: Vec<String> = raw.scopes.into_iter().map(|scope| self.scope(key, scope)).collect();
        let public_origin = raw.public.origin;
        let access = match self.flag(&format!("{key}.public"), raw.public) {
            true => RouteAccess::Public,
            false => RouteAccess::Callers,
        };
        if access == RouteAccess::Public && !scopes.is_empty() {
            let help = Some("leave `scopes` out, or write `public: false`".to_owned());
            self.wrong(public_origin, format!("{key}: a public route asks for no scopes"), help);
        }
        let (body_bytes, request) = self.request(key, raw.request, route_origin, base_dir, protocol);
        let settings = RouteSettings {
            host,
            path: String::new(),
            methods,
            headers,
            scopes,
            request,
            body_bytes,
            rate_limit: raw.rate_limit.and_then(|limit| self.rate_limit(&format!("{key}.rateLimit"), limit)),
            timeout: raw.timeout.map(|field| self.duration(&format!("{key}.timeout"), field)),
            access,
            strip_prefix: self.flag(&format!("{key}.stripPrefix"), raw.strip_prefix),
        };
        path.map(|path| (path.origin, RouteSettings { path: path.value, ..settings }))
    }

    fn pattern(&mut self, key: &str, path: Text) -> Option<Text> {
        let Err(reason) = check_pattern(&path.value) else { return Some(path) };
        let message = format!("{key}.match.path: {reason}, found {}", quoted(&path.value));
        let help = "write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}";
        self.wrong(path.origin, message, Some(help.to_owned()));
        None
    }

    fn scope(&mut self, key: &str, scope: Text) -> String {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":._-".contains(&byte);
        if !scope.value.bytes().all(allowed) || !(1..=MAX_SCOPE_BYTES).contains(&scope.value.len()) {
            let message =
                format!("{key}.scopes: expected a scope such as randomness, found {}", quoted(&scope.value));
            let help = "a scope is lower-case letters, digits and the characters : . _ -";
            self.wrong(scope.origin, message, Some(help.to_owned()));
        }
        scope.value
    }
}
