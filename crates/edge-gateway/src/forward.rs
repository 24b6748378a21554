//! The headers on both sides: what the client sent becomes what the replica gets, and the replica's become the client's.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use access::Caller;
use http::Method;
use http1::{Field, Framing, Known, Version, write_field};
use service_router::CallHead;
use trust::Call;
use types::headers::{CALLER, DEFAULT_TENANT, REQUEST_ID, RESERVED_PREFIX, SCOPES, SUBJECT, TENANT};

use crate::client::{CallerLines, Scheme};
use crate::exchange::{Exchange, Signed};
use crate::path::strip_prefix;
use crate::route::Route;
use crate::validate::upgrade;

/// A request as its replica gets it.
pub(crate) struct Forward<'a> {
    exchange: &'a Exchange,
    route: &'a Route,
}

impl<'a> Forward<'a> {
    pub(crate) fn new(exchange: &'a Exchange, route: &'a Route) -> Self {
        Self { exchange, route }
    }

    /// The signed word for who calls. A signature costs as much as the rest of a request, so only services whose replicas need
    /// it get one.
    fn put_token(&self, put: &mut impl FnMut(&[u8], &[u8])) {
        let (Some((signer, service)), Some(caller)) = (&self.route.caller_signer, &self.exchange.caller)
        else {
            return;
        };
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        let call = Call {
            subject: std::str::from_utf8(caller.subject()).unwrap_or_default(),
            tenant: std::str::from_utf8(caller.tenant()).unwrap_or_default(),
            scopes: std::str::from_utf8(caller.scope_list()).unwrap_or_default(),
            service,
            request_id: text(self.exchange.request_id.as_bytes()),
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        if let Some(token) = signer.token(call) {
            put(CALLER.as_bytes(), token.as_bytes());
        }
    }
}

impl CallHead for Forward<'_> {
    fn method(&self) -> &Method {
        self.exchange.head.method()
    }

    fn target(&self) -> (&[u8], &[u8]) {
        let origin = self.exchange.head.origin();
        let prefix = self.route.strip_prefix.as_deref().map(str::as_bytes);
        match prefix.and_then(|prefix| strip_prefix(origin, prefix)) {
            None => (origin, b""),
            Some(rest) if rest.starts_with(b"/") => (rest, b""),
            // Nothing is left of the path, or only a query.
            Some(rest) => (b"/", rest),
        }
    }

    fn host(&self) -> &[u8] {
        self.exchange.head.host()
    }

    fn upgrade(&self) -> Option<&str> {
        upgrade(&self.exchange.head)
    }

    fn has_grpc_timeout(&self) -> bool {
        self.exchange.head.has(Known::GrpcTimeout)
    }

    fn each_field(&self, put: &mut impl FnMut(&[u8], &[u8])) {
        let Exchange { client, caller, .. } = self.exchange;
        put_message(self.exchange, put);
        if self.exchange.is_from_proxy() {
            put_proxied(self.exchange, put);
        } else {
            put_connection(&client.address_text, client.scheme, put);
            put(b"x-forwarded-host", self.exchange.head.host());
        }
        put_request(self.exchange, put);
        put_caller(caller.as_deref(), put);
        self.put_token(put);
    }

    /// What stays the same over many requests is written once.
    fn write_fields(&self, out: &mut Vec<u8>) {
        let Exchange { client, caller, .. } = self.exchange;
        put_message(self.exchange, &mut |name, value| write_field(out, name, value));
        if self.exchange.is_from_proxy() {
            put_proxied(self.exchange, &mut |name, value| write_field(out, name, value));
        } else {
            out.extend_from_slice(&client.lines);
            write_field(out, b"x-forwarded-host", self.exchange.head.host());
        }
        put_request(self.exchange, &mut |name, value| write_field(out, name, value));
        match caller {
            None => put_caller(None, &mut |name, value| write_field(out, name, value)),
            Some(caller) => {
                let mut known = client.caller_lines.borrow_mut();
                let same = known.take().filter(|known| Arc::ptr_eq(&known.caller, caller));
                let lines = same.unwrap_or_else(|| {
                    let mut lines = Vec::new();
                    put_caller(Some(caller), &mut |name, value| write_field(&mut lines, name, value));
                    CallerLines { caller: Arc::clone(caller), lines: lines.into() }
                });
                out.extend_from_slice(&lines.lines);
                *known = Some(lines);
            }
        }
        self.put_token(&mut |name, value| write_field(out, name, value));
    }
}

/// What every request of a connection has in common, as lines of HTTP/1.1.
pub(crate) fn connection_lines(address: &str, scheme: Scheme) -> Box<[u8]> {
    let mut lines = Vec::new();
    put_connection(address, scheme, &mut |name, value| write_field(&mut lines, name, value));
    lines.into()
}

/// The client's own fields.
fn put_message(exchange: &Exchange, put: &mut impl FnMut(&[u8], &[u8])) {
    for (field, name, value) in exchange.head.fields() {
        if passes(exchange, field, name) {
            put(name, value);
        }
    }
}

/// Who connects, and through whom.
fn put_connection(address: &str, scheme: Scheme, put: &mut impl FnMut(&[u8], &[u8])) {
    put(b"x-forwarded-for", address.as_bytes());
    put(b"x-forwarded-proto", scheme.as_str().as_bytes());
    put(b"forwarded", forwarded(address, scheme).as_bytes());
}

/// An element of `Forwarded` (RFC 7239); the host stands in a field of its own, whose value needs no quotes.
fn forwarded(address: &str, scheme: Scheme) -> String {
    let quoted = if address.contains(':') { format!("\"[{address}]\"") } else { address.to_owned() };
    format!("for={quoted};proto={}", scheme.as_str())
}

/// The same where a trusted proxy connects: what it has written is taken over, and it is added itself.
fn put_proxied(exchange: &Exchange, put: &mut impl FnMut(&[u8], &[u8])) {
    let (head, client) = (&exchange.head, &exchange.client);
    for value in head.values(Known::XForwardedFor) {
        put(b"x-forwarded-for", value);
    }
    put(b"x-forwarded-for", client.address_text.as_bytes());
    let own_scheme = client.scheme.as_str().as_bytes();
    put(b"x-forwarded-proto", head.only_value(Known::XForwardedProto).unwrap_or(own_scheme));
    put(b"x-forwarded-host", head.only_value(Known::XForwardedHost).unwrap_or(head.host()));
    for value in head.values(Known::Forwarded) {
        put(b"forwarded", value);
    }
    put(b"forwarded", forwarded(&client.address_text, client.scheme).as_bytes());
}

fn put_request(exchange: &Exchange, put: &mut impl FnMut(&[u8], &[u8])) {
    put(b"via", via(exchange.head.version()));
    put(REQUEST_ID.as_bytes(), exchange.request_id.as_bytes());
    put(b"traceparent", &exchange.traceparent);
}

/// How the gateway names itself to whoever comes next, behind the version in which it got the request (RFC 9110 section
/// 7.6.3).
fn via(received: Version) -> &'static [u8] {
    match received {
        Version::Http10 => b"1.0 serviceos",
        Version::Http11 => b"1.1 serviceos",
        Version::Http2 => b"2.0 serviceos",
    }
}

fn put_caller(caller: Option<&Caller>, put: &mut impl FnMut(&[u8], &[u8])) {
    match caller {
        None => put(TENANT.as_bytes(), DEFAULT_TENANT.as_bytes()),
        Some(caller) => {
            put(TENANT.as_bytes(), caller.tenant());
            put(SUBJECT.as_bytes(), caller.subject());
            put(SCOPES.as_bytes(), caller.scope_list());
        }
    }
}

/// Whether a field of the client's reaches the replica: not what belongs to the connection or frames the message, not the
/// credential, and nothing that only the gateway may say.
fn passes(exchange: &Exchange, field: &Field, name: &[u8]) -> bool {
    if field.hop_by_hop {
        return false;
    }
    match field.known() {
        None => !is_reserved(name),
        Some(Known::Trailer) => exchange.head.framing() == Framing::Chunked,
        // Nothing but what it belongs to gives it a meaning (W3C Trace Context, section 3.3).
        Some(Known::Tracestate) => exchange.continues_trace(),
        // A credential that was used here is nobody else's.
        Some(Known::Signature | Known::SignatureInput) => matches!(exchange.signed, Signed::No),
        // What many servers take for the client's address or for the URL, although anybody can write it.
        Some(
            Known::XForwardedPort
            | Known::XForwardedPrefix
            | Known::XForwardedServer
            | Known::XOriginalUrl
            | Known::XRealIp
            | Known::XRewriteUrl,
        ) => exchange.is_from_proxy(),
        Some(known) => !matches!(
            known,
            Known::ApiKey
                | Known::Authorization
                | Known::ContentLength
                | Known::Expect
                | Known::Forwarded
                | Known::GrpcTimeout
                | Known::Host
                | Known::Traceparent
                | Known::XApiKey
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedProto
                | Known::XRequestId
                | Known::XRequestTimeout
        ),
    }
}

/// The gateway's own names, and those that could be taken for one: an underscore is read as a hyphen by many.
fn is_reserved(name: &[u8]) -> bool {
    let prefix = RESERVED_PREFIX.as_bytes();
    if name.len() > prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix) {
        return true;
    }
    if !name.contains(&b'_') {
        return false;
    }
    let read_so: Vec<u8> =
        name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
    read_so.starts_with(prefix) || Known::of(&read_so).is_some()
}

/// Whether a field of a replica's answer reaches the client as it is. What the gateway says of its limits stands alone.
pub(crate) fn answer_passes(exchange: &Exchange, field: &Field) -> bool {
    if field.hop_by_hop {
        return false;
    }
    match field.known() {
        Some(Known::ContentLength | Known::XRequestId) => false,
        Some(
            Known::Ratelimit
            | Known::RatelimitPolicy
            | Known::XRatelimitLimit
            | Known::XRatelimitRemaining
            | Known::XRatelimitReset,
        ) => !exchange.standing.is_counted(),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
