//! Routes: their patterns, who may call them, and that no two of the whole file want the same request.

use std::collections::BTreeMap;

use matchit::InsertError;
use serde_saphyr::Spanned;
use types::ServiceName;

use super::Checker;
use crate::builtin::default_routes;
use crate::raw::RawRoute;
use crate::report::Origin;
use crate::scalar::{Text, quoted};
use crate::settings::{RouteAccess, RouteSettings};

/// The longest pattern, in bytes.
const MAX_PATH_BYTES: usize = 512;
/// The most parameters of one pattern; matchit ends the process at 26.
const MAX_PARAMETERS: usize = 16;
/// The longest method or scope, in bytes.
const MAX_WORD_BYTES: usize = 64;
/// What the gateway answers itself.
const RESERVED: [&str; 4] = ["/health", "/health/detailed", "/v1/quota", "/.well-known/serviceos"];
/// Everything beneath is the gateway's own.
const RESERVED_PREFIX: &str = "/.well-known/serviceos/";

/// The routes of the file so far.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    patterns: matchit::Router<()>,
    owners: BTreeMap<String, Vec<Owner>>,
}

#[derive(Debug, Clone)]
struct Owner {
    /// The key of the service, such as `services.vrf`.
    service: String,
    origin: Origin,
    methods: Vec<String>,
}

impl RouteTable {
    /// Adds a route whose pattern is valid. The error is what it collides with: a pattern and who has it.
    fn add(&mut self, path: &str, owner: Owner) -> Result<(), Collision> {
        if let Some(owners) = self.owners.get_mut(path) {
            let tie = owners.iter().find(|other| overlap(&other.methods, &owner.methods));
            if let Some(other) = tie {
                return Err(Collision::With(path.to_owned(), other.clone()));
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
                    Some(other) => Err(Collision::With(with, other.clone())),
                    None => Err(Collision::Invalid(format!("it conflicts with {}", quoted(&with)))),
                }
            }
            Err(error) => Err(Collision::Invalid(error.to_string())),
        }
    }
}

enum Collision {
    With(String, Owner),
    Invalid(String),
}

/// No method at all stands for every method.
fn overlap(one: &[String], other: &[String]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|method| other.contains(method))
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
        table: &mut RouteTable,
    ) -> Vec<RouteSettings> {
        let routes: Vec<(Origin, RouteSettings)> = match written {
            Some(routes) => {
                let numbered = routes.into_iter().enumerate();
                numbered
                    .filter_map(|(index, route)| self.route(&format!("{key}.routes[{index}]"), route))
                    .collect()
            }
            None => name.into_iter().flat_map(default_routes).map(|route| (service_origin, route)).collect(),
        };
        for (origin, route) in &routes {
            self.place_route(key, *origin, route, table);
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
        let owner = Owner { service: key.to_owned(), origin, methods: route.methods.clone() };
        match table.add(path, owner) {
            Ok(()) => {}
            Err(Collision::Invalid(reason)) => {
                self.wrong(origin, format!("{key}: the route {} is not valid: {reason}", quoted(path)), None);
            }
            Err(Collision::With(pattern, other)) => {
                let message = format!(
                    "{key}: the route {path} takes the same requests as {pattern} of {} ({})",
                    other.service, other.origin
                );
                let help = "give one of them another path, or each its own methods under the very same path";
                self.wrong(origin, message, Some(help.to_owned()));
            }
        }
    }

    fn route(&mut self, key: &str, route: Spanned<RawRoute>) -> Option<(Origin, RouteSettings)> {
        let route_origin = Origin::from(route.referenced);
        let raw = route.value;
        let path = match raw.r#match.path {
            Some(path) => self.pattern(key, path),
            None => {
                let help = Some("write `match: {path: /v1/example}`".to_owned());
                self.wrong(route_origin, format!("{key}.match.path: a route needs a path"), help);
                None
            }
        };
        let methods = raw.r#match.methods.into_iter().map(|method| self.method(key, method)).collect();
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
        let settings = RouteSettings {
            path: String::new(),
            methods,
            scopes,
            body_bytes: raw
                .request
                .body_bytes
                .map(|field| self.size(&format!("{key}.request.bodyBytes"), field)),
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

    fn method(&mut self, key: &str, method: Text) -> String {
        let token = method.value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !token || !(1..=MAX_WORD_BYTES).contains(&method.value.len()) {
            let upper = method.value.to_ascii_uppercase();
            let ascii = !upper.is_empty() && upper.bytes().all(|byte| byte.is_ascii_uppercase());
            let message = format!(
                "{key}.match.methods: expected an upper-case method such as POST, found {}",
                quoted(&method.value)
            );
            self.wrong(method.origin, message, ascii.then(|| format!("write {}", quoted(&upper))));
        }
        method.value
    }

    fn scope(&mut self, key: &str, scope: Text) -> String {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":._-".contains(&byte);
        if !scope.value.bytes().all(allowed) || !(1..=MAX_WORD_BYTES).contains(&scope.value.len()) {
            let message =
                format!("{key}.scopes: expected a scope such as randomness, found {}", quoted(&scope.value));
            let help = "a scope is lower-case letters, digits and the characters : . _ -";
            self.wrong(scope.origin, message, Some(help.to_owned()));
        }
        scope.value
    }
}

/// What a pattern must be, before matchit sees it: a path that a request can have, with parameters of one kind of
/// spelling. matchit's escapes (`{{`) are left out, since no request path holds a bare brace (RFC 3986, section 3.3).
fn check_pattern(path: &str) -> Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Err("a route's path begins with /") };
    if path.len() > MAX_PATH_BYTES {
        return Err("a route's path has at most 512 bytes");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`|".contains(&byte)) {
        return Err("a route's path has only the characters of a URL path, without a query");
    }
    if path.matches('{').count() > MAX_PARAMETERS {
        return Err("a route's path has at most 16 parameters");
    }
    let segments: Vec<&str> = rest.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        check_segment(segment, last)?;
    }
    Ok(())
}

fn check_segment(segment: &str, last: bool) -> Result<(), &'static str> {
    if segment.is_empty() && !last {
        return Err("a route's path has no empty part");
    }
    if segment == "." || segment == ".." {
        return Err("a route's path has no part `.` or `..`");
    }
    if let Some(name) = segment.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) {
        if !last {
            return Err("`{*…}` stands only at the end of a path");
        }
        return check_parameter(name);
    }
    let Some((before, after)) = segment.split_once('{') else {
        return if segment.contains('}') { Err("a `}` closes a parameter") } else { Ok(()) };
    };
    let Some((name, after)) = after.split_once('}') else {
        return Err("a `{` opens a parameter that `}` closes");
    };
    if before.contains('}') || after.contains(['{', '}']) {
        return Err("a part of a path has at most one parameter");
    }
    check_parameter(name)
}

fn check_parameter(name: &str) -> Result<(), &'static str> {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if word && !name.is_empty() {
        Ok(())
    } else {
        Err("a parameter is letters, digits and underscores in braces")
    }
}
