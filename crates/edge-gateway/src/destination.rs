//! What of a request decides where it goes: the hash of a balancing policy, the version of a service, the time that is left.

use std::collections::HashMap;
use std::time::Duration;

use access::Caller;
use bytes::Bytes;
use configuration::{CallerName, HashOn, Sticky};
use http1::{Known, RequestHead};
use service_router::{ServiceView, Wanted, stable_hash};
use types::duration;

use crate::exchange::Exchange;
use crate::route::Route;

/// The hash of what the policy goes by; a path parameter is hashed where the path is matched.
pub(crate) fn hash(hash_on: Option<&HashOn>, exchange: &Exchange) -> Option<u64> {
    match hash_on? {
        HashOn::Header(name) => exchange.head.values_of(name).next().map(stable_hash),
        HashOn::Cookie(name) => cookie(&exchange.head, name).map(stable_hash),
        HashOn::Caller => caller(exchange),
        HashOn::PathParameter(_) => None,
    }
}

/// The hash of what keeps a caller with one version.
pub(crate) fn sticky_hash(sticky: Option<&Sticky>, exchange: &Exchange) -> Option<u64> {
    match sticky? {
        Sticky::Header(name) => exchange.head.values_of(name).next().map(stable_hash),
        Sticky::Cookie(name) => cookie(&exchange.head, name).map(stable_hash),
        Sticky::Caller => caller(exchange),
    }
}

/// The version that a request is for: the one that it asks for, else the one that its caller gets.
pub(crate) fn version(route: &Route, exchange: &Exchange, view: &ServiceView) -> Wanted {
    let header = route.version_header.as_deref();
    if let Some(asked) = header.and_then(|header| exchange.head.values_of(header).next()) {
        return Wanted::Only(view.version(asked));
    }
    let given = route.callers.as_deref().zip(exchange.caller.as_deref());
    let given = given.and_then(|(callers, caller)| callers.version(caller));
    given.map_or(Wanted::Any, |version| Wanted::Rather(view.version(version.as_bytes())))
}

/// Which version of a service a caller gets that names none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallerVersions {
    subjects: HashMap<Bytes, String>,
    tenants: HashMap<Bytes, String>,
}

impl CallerVersions {
    /// As the configuration says, whose names are compared with what a replica is told of a caller.
    pub fn new<'a>(callers: impl IntoIterator<Item = (&'a CallerName, &'a String)>) -> Self {
        let mut versions = Self::default();
        for (name, version) in callers {
            let (map, name) = match name {
                CallerName::Subject(name) => (&mut versions.subjects, name),
                CallerName::Tenant(name) => (&mut versions.tenants, name),
            };
            map.insert(Caller::new(name, "", Vec::new()).subject().clone(), version.clone());
        }
        versions
    }

    /// That of a caller, whose own name counts before that of whom it acts for.
    fn version(&self, caller: &Caller) -> Option<&str> {
        let by_subject = self.subjects.get(caller.subject());
        by_subject.or_else(|| self.tenants.get(caller.tenant())).map(String::as_str)
    }
}

/// How long the client waits at the most: the route's time, or less where the client says so.
pub(crate) fn timeout(head: &RequestHead, route: &Route) -> Duration {
    let text = |known| head.only_value(known).and_then(|value| std::str::from_utf8(value).ok());
    let asked = text(Known::GrpcTimeout).and_then(grpc_timeout);
    let asked = asked.or_else(|| text(Known::XRequestTimeout).and_then(duration::parse));
    asked.map_or(route.timeout, |asked| asked.min(route.timeout))
}

/// At most eight digits and a unit (gRPC over HTTP/2, `Timeout`).
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn caller(exchange: &Exchange) -> Option<u64> {
    Some(match (&exchange.caller, exchange.forwarded_for) {
        (Some(caller), _) => stable_hash(caller.subject()),
        // Behind a proxy all clients connect from one address.
        (None, Some(address)) => stable_hash(address.to_string().as_bytes()),
        (None, None) => stable_hash(exchange.client.address_text.as_bytes()),
    })
}

/// The value of a cookie.
fn cookie<'a>(head: &'a RequestHead, name: &'a str) -> Option<&'a [u8]> {
    let pairs = head.values(Known::Cookie).flat_map(|value| value.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_found_by_its_own_name_before_that_of_whom_it_acts_for() {
        let text = |text: &str| text.to_owned();
        let callers = [
            (CallerName::Subject(text("key_1")), text("1.1.0")),
            (CallerName::Subject(text("änn")), text("1.2.0")),
            (CallerName::Tenant(text("acme")), text("1.3.0")),
        ];
        let versions = CallerVersions::new(callers.iter().map(|(name, version)| (name, version)));
        let version = |subject: &str, tenant: &str| {
            versions.version(&Caller::new(subject, tenant, Vec::new())).map(str::to_owned)
        };
        assert_eq!(version("key_1", "acme").as_deref(), Some("1.1.0"));
        assert_eq!(version("key_2", "acme").as_deref(), Some("1.3.0"));
        assert_eq!(version("änn", "default").as_deref(), Some("1.2.0"));
        assert_eq!((version("acme", "key_1"), version("key_2", "default")), (None, None));
    }

    #[test]
    fn grpc_timeouts_are_digits_and_a_unit() {
        assert_eq!(grpc_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(grpc_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(grpc_timeout("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "S", "5", "5s", "123456789S", "-5S", "5é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
