//! The headers on both sides: what the client sent becomes what the replica gets, and the replica's become the client's.

use std::net::IpAddr;

use access::Caller;
use http::header::{
    self, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use types::headers::{DEFAULT_TENANT, REQUEST_ID, RESERVED_PREFIX, SCOPES, SUBJECT, TENANT};

use crate::authenticate::{API_KEY, SUPABASE_API_KEY};

const X_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);
const X_TENANT: HeaderName = HeaderName::from_static(TENANT);
const X_SUBJECT: HeaderName = HeaderName::from_static(SUBJECT);
const X_SCOPES: HeaderName = HeaderName::from_static(SCOPES);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers of one connection, not of the message (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE,
    HTTP2_SETTINGS,
];

/// What a client may say about itself only through a trusted proxy, and its credential, which is for the gateway alone.
const CLIENT_CLAIMS: [HeaderName; 6] =
    [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED, API_KEY, SUPABASE_API_KEY];

/// Turns a client's headers into those that the replica gets. Framing stays with whoever writes the message.
pub(crate) fn request_headers(
    headers: &mut HeaderMap,
    client: IpAddr,
    request_id: &HeaderValue,
    caller: Option<&Caller>,
) {
    strip_hop_by_hop(headers);
    headers.remove(AUTHORIZATION);
    for name in &CLIENT_CLAIMS {
        headers.remove(name);
    }
    let reserved = |name: &&HeaderName| name.as_str().starts_with(RESERVED_PREFIX) || name.as_str().contains('_');
    // An underscore can be read as a hyphen, and so stand in for a header of the gateway's.
    let stripped: Vec<HeaderName> = headers.keys().filter(reserved).cloned().collect();
    for name in stripped {
        headers.remove(name);
    }
    headers.insert(FORWARDED_FOR, address_value(client));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(header::VIA, HeaderValue::from_static("1.1 serviceos"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    let tenant = caller.map_or(DEFAULT_TENANT, |caller| &caller.tenant);
    headers.insert(X_TENANT, value(tenant));
    if let Some(caller) = caller {
        headers.insert(X_SUBJECT, value(&caller.subject));
        headers.insert(X_SCOPES, value(&caller.scope_list));
    }
}

/// Turns a replica's headers into those that the client gets.
pub(crate) fn response_headers(headers: &mut HeaderMap, request_id: &HeaderValue) {
    strip_hop_by_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Everything that `Connection` names, then the fixed list.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Naming these would change where the message ends or whom it is for.
            .filter(|name| ![header::CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn address_value(address: IpAddr) -> HeaderValue {
    value(&address.to_canonical().to_string())
}

/// Ids, tenants and scopes are visible ASCII, as `access` makes them.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        lines.sort();
        lines.concat()
    }

    #[test]
    fn a_client_can_set_neither_the_gateways_headers_nor_hop_by_hop_ones() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "api.example.org"),
            ("accept", "*/*"),
            ("authorization", "Bearer sk_test_secret"),
            ("x-api-key", "sk_test_secret"),
            ("apikey", "sk_test_secret"),
            ("x-serviceos-tenant", "victim"),
            ("x-serviceos-anything", "1"),
            ("x_serviceos_tenant", "victim"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-request-id", "mine"),
            ("connection", "x-drop, content-length"),
            ("x-drop", "1"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("keep-alive", "1"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let caller = Caller::new("key_1", "acme", vec!["randomness".into(), "oracle".into()]);
        let id = HeaderValue::from_static("0192-id");
        request_headers(&mut headers, "10.0.0.9".parse().unwrap(), &id, Some(&caller));
        expect![[r#"
            accept: */*
            content-length: 5
            host: api.example.org
            via: 1.1 serviceos
            x-forwarded-for: 10.0.0.9
            x-forwarded-host: api.example.org
            x-forwarded-proto: http
            x-request-id: 0192-id
            x-serviceos-scopes: randomness oracle
            x-serviceos-subject: key_1
            x-serviceos-tenant: acme
        "#]]
        .assert_eq(&shown(&headers));
    }

    #[test]
    fn without_a_caller_the_tenant_is_default_and_there_is_no_subject() {
        let mut headers = HeaderMap::new();
        headers.insert("x-serviceos-subject", HeaderValue::from_static("forged"));
        request_headers(&mut headers, "::ffff:10.0.0.9".parse().unwrap(), &HeaderValue::from_static("id"), None);
        expect![[r#"
            via: 1.1 serviceos
            x-forwarded-for: 10.0.0.9
            x-forwarded-proto: http
            x-request-id: id
            x-serviceos-tenant: default
        "#]]
        .assert_eq(&shown(&headers));
    }
}
