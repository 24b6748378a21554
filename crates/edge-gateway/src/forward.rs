//! The headers on both sides: what the client sent becomes what the replica gets, and the replica's become the client's.

use std::net::IpAddr;

use access::Caller;
use bytes::Bytes;
use http::header::{self, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use types::headers::{DEFAULT_TENANT, REQUEST_ID, RESERVED_PREFIX, SCOPES, SUBJECT, TENANT};

const X_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);
const X_TENANT: HeaderName = HeaderName::from_static(TENANT);
const X_SUBJECT: HeaderName = HeaderName::from_static(SUBJECT);
const X_SCOPES: HeaderName = HeaderName::from_static(SCOPES);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Turns a client's headers into those that the replica gets. Framing stays with whoever writes the message.
pub(crate) fn request_headers(
    headers: &mut HeaderMap,
    forwarded_for: &HeaderValue,
    request_id: &HeaderValue,
    caller: Option<&Caller>,
) {
    strip(headers, |name| is_hop_by_hop(name) || is_client_claim(name));
    // Room for all of them at once: a map that grows hashes what it holds anew.
    headers.reserve(8);
    headers.insert(FORWARDED_FOR, forwarded_for.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.append(header::VIA, HeaderValue::from_static("1.1 serviceos"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    match caller {
        None => {
            headers.insert(X_TENANT, HeaderValue::from_static(DEFAULT_TENANT));
        }
        Some(caller) => {
            headers.insert(X_TENANT, value(caller.tenant()));
            headers.insert(X_SUBJECT, value(caller.subject()));
            headers.insert(X_SCOPES, value(caller.scope_list()));
        }
    }
}

/// Turns a replica's headers into those that the client gets.
pub(crate) fn response_headers(headers: &mut HeaderMap, request_id: &HeaderValue) {
    strip(headers, |name| is_hop_by_hop(name) || name == "transfer-encoding");
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Headers of one connection, not of the message (RFC 9110 section 7.6.1); `Expect` among them, since this side has answered it.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "upgrade"
            | "http2-settings"
            | "expect"
    )
}

/// What a client may say about itself only through a trusted proxy, its credential, which is for the gateway alone, and
/// the gateway's own headers. An underscore can be read as a hyphen, and so stand in for one of those.
fn is_client_claim(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "x-api-key"
            | "apikey"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
    ) || name.starts_with(RESERVED_PREFIX)
        || name.contains('_')
}

/// Takes off everything that `Connection` names and everything that `unwanted` says, in one pass over the names: most
/// messages have nothing to take off, and a look-up by hash for each unwanted name would cost more than all of the pass.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let mut found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    if found.contains(&CONNECTION) {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let named = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
        // Naming these would change where the message ends or whom it is for.
        found.extend(named.filter(|name| ![header::CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name)));
    }
    for name in found {
        headers.remove(name);
    }
}

/// The address of a client as `X-Forwarded-For` has it; made once for each connection.
pub(crate) fn address_value(address: IpAddr) -> HeaderValue {
    let text = address.to_canonical().to_string();
    HeaderValue::try_from(text).expect("an address is visible ASCII")
}

/// Ids, tenants and scopes are visible ASCII, as `access` makes them.
fn value(text: &Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.clone()).unwrap_or(HeaderValue::from_static(""))
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
            ("expect", "100-continue"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let caller = Caller::new("key_1", "acme", vec!["randomness".into(), "oracle".into()]);
        let id = HeaderValue::from_static("0192-id");
        request_headers(&mut headers, &address_value("10.0.0.9".parse().unwrap()), &id, Some(&caller));
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
        let client = address_value("::ffff:10.0.0.9".parse().unwrap());
        request_headers(&mut headers, &client, &HeaderValue::from_static("id"), None);
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
