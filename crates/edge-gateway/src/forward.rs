//! The headers on both sides: what the client sent becomes what the replica gets, and the replica's become the client's.

use std::net::IpAddr;

use http::Method;
use http1::{Field, Framing, Known};
use service_router::CallHead;
use types::headers::{DEFAULT_TENANT, REQUEST_ID, RESERVED_PREFIX, SCOPES, SUBJECT, TENANT};

use crate::exchange::Exchange;
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
}

impl CallHead for Forward<'_> {
    fn method(&self) -> &Method {
        self.exchange.head.method()
    }

    fn target(&self) -> (&str, &str) {
        let origin = self.exchange.head.origin();
        let stripped = self.route.strip_prefix.as_deref().and_then(|prefix| origin.strip_prefix(prefix));
        match stripped {
            None => (origin, ""),
            Some(rest) if rest.starts_with('/') => (rest, ""),
            // Nothing is left of the path, or only a query.
            Some(rest) => ("/", rest),
        }
    }

    fn host(&self) -> &str {
        self.exchange.head.host()
    }

    fn upgrade(&self) -> Option<&str> {
        upgrade(&self.exchange.head)
    }

    fn has_grpc_timeout(&self) -> bool {
        self.exchange.head.has(Known::GrpcTimeout)
    }

    fn each_field(&self, put: &mut impl FnMut(&[u8], &[u8])) {
        let exchange = self.exchange;
        let from_proxy = exchange.is_from_proxy();
        for (field, name, value) in exchange.head.fields() {
            if passes(field, name, exchange.head.framing()) {
                put(name, value);
            }
        }
        let client = &exchange.client;
        if from_proxy {
            // What the proxies in front have written is taken over, and the one that connects is added.
            for value in exchange.head.values(Known::XForwardedFor) {
                put(b"x-forwarded-for", value);
            }
        }
        put(b"x-forwarded-for", client.address_text.as_bytes());
        let given = |known| exchange.head.only_value(known).filter(|_| from_proxy);
        let proto = given(Known::XForwardedProto).unwrap_or(client.scheme.as_str().as_bytes());
        put(b"x-forwarded-proto", proto);
        let host = given(Known::XForwardedHost).unwrap_or(exchange.head.host().as_bytes());
        put(b"x-forwarded-host", host);
        put(b"via", b"1.1 serviceos");
        put(REQUEST_ID.as_bytes(), exchange.request_id.as_bytes());
        put(b"traceparent", &exchange.traceparent);
        match &exchange.caller {
            None => put(TENANT.as_bytes(), DEFAULT_TENANT.as_bytes()),
            Some(caller) => {
                put(TENANT.as_bytes(), caller.tenant());
                put(SUBJECT.as_bytes(), caller.subject());
                put(SCOPES.as_bytes(), caller.scope_list());
            }
        }
        put_forwarded(exchange, host, proto, put);
    }
}

/// `Forwarded` (RFC 7239) says the same as the three fields before it.
fn put_forwarded(exchange: &Exchange, host: &[u8], proto: &[u8], put: &mut impl FnMut(&[u8], &[u8])) {
    let mut text = [0; 512];
    let quoted = matches!(exchange.client.address, IpAddr::V6(_));
    let (open, close): (&[u8], &[u8]) = if quoted { (b"\"[", b"]\"") } else { (b"", b"") };
    let address = exchange.client.address_text.as_bytes();
    // A host may have a port, whose colon is not part of a token.
    let parts: [&[u8]; 8] = [b"for=", open, address, close, b";proto=", proto, b";host=\"", host];
    let mut length = 0;
    for part in parts.into_iter().chain([&b"\""[..]]) {
        let Some(room) = text.get_mut(length..length + part.len()) else { return };
        room.copy_from_slice(part);
        length += part.len();
    }
    put(b"forwarded", &text[..length]);
}

/// Whether a field of the client's reaches the replica: not what belongs to the connection or frames the message, not the
/// credential, and nothing that only the gateway may say.
fn passes(field: &Field, name: &[u8], framing: Framing) -> bool {
    if field.hop_by_hop {
        return false;
    }
    match field.known() {
        None => !is_reserved(name),
        Some(Known::Trailer) => framing == Framing::Chunked,
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

/// Whether a field of a replica's answer reaches the client as it is.
pub(crate) fn answer_passes(field: &Field) -> bool {
    !field.hop_by_hop && !matches!(field.known(), Some(Known::ContentLength | Known::XRequestId))
}
