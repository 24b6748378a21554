//! What of a message's head goes on: everything but what is of one connection alone (RFC 9110 section 7.6.1), and what only a
//! gateway may say.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, request, response};
use http_body::Body;
use sdk::Protocol;
use types::headers::RESERVED_PREFIX;

/// Those that are of one connection alone although nothing in the message says so.
const OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The only protocol that a connection may change to, as at the gateway: another one, such as HTTP/2 in the clear, would carry
/// requests past everything that is done to one here.
const WEBSOCKET: &str = "websocket";

/// Whether what only a gateway may say is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    /// A gateway said it.
    Passed,
    /// Anybody could have.
    Stripped,
}

/// What is known of the body of a request beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// How long it is, or that there is none.
    Known,
    /// It ends where it ends.
    Open,
}

impl Length {
    pub(super) fn of(body: &impl Body) -> Self {
        let is_known = body.is_end_stream() || body.size_hint().exact().is_some();
        if is_known { Self::Known } else { Self::Open }
    }
}

/// The protocol that a request wants its connection to change to, where it may.
pub(super) fn upgrade(request: &request::Parts) -> Option<HeaderValue> {
    let names_it = tokens(&request.headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let wanted = request.headers.get(UPGRADE)?;
    let may = wanted.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    (names_it && may && request.version == Version::HTTP_11).then(|| wanted.clone())
}

/// Makes the head of a request what whoever answers it is sent. `upgrade` is asked for again.
pub(super) fn request(
    parts: &mut request::Parts,
    reserved: Reserved,
    protocol: Protocol,
    upgrade: Option<HeaderValue>,
    length: Length,
) {
    let takes_trailers = parts.headers.get_all(TE).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    });
    strip_connection(&mut parts.headers);
    parts.headers.remove(TE);
    if takes_trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if reserved == Reserved::Stripped {
        strip_reserved(&mut parts.headers);
    }
    if let Some(protocol) = upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol);
    }
    let host = host(&parts.uri, &parts.headers);
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    match protocol {
        Protocol::Http1 => {
            parts.version = Version::HTTP_11;
            parts.uri = Uri::from(path);
            if length == Length::Open {
                // Unless it is said, a GET or a HEAD is taken to have no body.
                parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            if let Some(value) = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
                parts.headers.insert(HOST, value);
            } else if !parts.headers.contains_key(HOST) {
                parts.headers.insert(HOST, HeaderValue::from_static("localhost"));
            }
        }
        Protocol::Http2 => {
            parts.version = Version::HTTP_2;
            parts.headers.remove(HOST);
            let mut target = http::uri::Parts::default();
            target.scheme = Some(Scheme::HTTP);
            target.authority = Some(host.unwrap_or(Authority::from_static("localhost")));
            target.path_and_query = Some(path);
            // It was one before.
            parts.uri = Uri::from_parts(target).unwrap_or_default();
        }
    }
}

/// Makes the head of an answer what the caller is sent.
pub(super) fn response(parts: &mut response::Parts) {
    strip_connection(&mut parts.headers);
    // Its version is that of the connection it came over.
    parts.version = Version::HTTP_11;
}

/// Makes the trailers of a message what goes on of them: as of its head, and nothing that says where a message ends or whom it
/// is for (RFC 9110 section 6.5.1).
pub(super) fn trailers(trailers: &mut HeaderMap, reserved: Reserved) {
    strip_connection(trailers);
    for name in [CONTENT_LENGTH, HOST, TE, TRAILER] {
        trailers.remove(name);
    }
    if reserved == Reserved::Stripped {
        strip_reserved(trailers);
    }
}

/// Whom the request is for, where it can be told: the target's own word goes before the header (RFC 9112 section 3.2.2).
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| Authority::try_from(headers.get(HOST)?.as_bytes()).ok())
}

fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<_> = tokens(headers).filter_map(|name| name.parse::<HeaderName>().ok()).collect();
    for name in named.iter().chain(&OF_A_CONNECTION).filter(|name| **name != TE) {
        headers.remove(name);
    }
}

/// What `Connection` names.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// An underscore is read as a hyphen by many.
fn strip_reserved(headers: &mut HeaderMap) {
    let is_reserved = |name: &&HeaderName| name.as_str().replace('_', "-").starts_with(RESERVED_PREFIX);
    let reserved: Vec<_> = headers.keys().filter(is_reserved).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use http::Request;

    use super::*;

    fn parts(target: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn shown(parts: &request::Parts) -> String {
        let mut lines: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
            .collect();
        lines.sort();
        format!("{:?} {}\n{}", parts.version, parts.uri, lines.concat())
    }

    fn sent(target: &str, headers: &[(&str, &str)], reserved: Reserved, protocol: Protocol) -> String {
        let mut parts = parts(target, Version::HTTP_11, headers);
        let wanted = upgrade(&parts);
        request(&mut parts, reserved, protocol, wanted, Length::Known);
        shown(&parts)
    }

    const FORGED: [(&str, &str); 7] = [
        ("host", "api.example"),
        ("x-serviceos-tenant", "acme"),
        ("X-ServiceOS-Caller", "jws"),
        ("x_serviceos-subject", "me"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "r-1"),
    ];

    #[test]
    fn what_only_a_gateway_may_say_reaches_the_command_from_a_gateway_alone() {
        expect![[r#"
            HTTP/1.1 /v1?a=b
            host: api.example
            x-forwarded-for: 192.0.2.1
            x-forwarded-proto: https
            x-request-id: r-1
        "#]]
        .assert_eq(&sent("/v1?a=b", &FORGED, Reserved::Stripped, Protocol::Http1));
        expect![[r#"
            HTTP/1.1 /v1?a=b
            host: api.example
            x-forwarded-for: 192.0.2.1
            x-forwarded-proto: https
            x-request-id: r-1
            x-serviceos-caller: jws
            x-serviceos-tenant: acme
            x_serviceos-subject: me
        "#]]
        .assert_eq(&sent("/v1?a=b", &FORGED, Reserved::Passed, Protocol::Http1));
    }

    #[test]
    fn what_is_of_one_connection_alone_does_not_go_on() {
        let headers = [
            ("host", "a"),
            ("connection", "keep-alive, X-Private ,te"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("x-private", "1"),
            ("te", "gzip, Trailers"),
            ("trailer", "digest"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ];
        expect![[r#"
            HTTP/1.1 /
            accept: */*
            host: a
            te: trailers
            trailer: digest
        "#]]
        .assert_eq(&sent("/", &headers, Reserved::Passed, Protocol::Http1));
    }

    #[test]
    fn a_change_of_the_protocol_is_asked_for_again() {
        let headers = [
            ("host", "a"),
            ("connection", "Keep-Alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
        ];
        expect![[r#"
            HTTP/1.1 /
            connection: upgrade
            host: a
            sec-websocket-key: k
            upgrade: websocket
        "#]]
        .assert_eq(&sent("/", &headers, Reserved::Passed, Protocol::Http1));
        let old = parts("/", Version::HTTP_10, &headers);
        assert_eq!(upgrade(&old), None);
    }

    #[test]
    fn of_no_other_protocol_than_websocket_is_anything_asked() {
        for wanted in ["h2c", "TLS/1.0", "websocket, h2c", "websocket2", ""] {
            let headers = [
                ("host", "a"),
                ("connection", "upgrade, http2-settings"),
                ("upgrade", wanted),
                ("http2-settings", "AAMAAABk"),
            ];
            assert_eq!(
                sent("/", &headers, Reserved::Passed, Protocol::Http1),
                "HTTP/1.1 /\nhost: a\n",
                "{wanted}"
            );
        }
    }

    #[test]
    fn of_trailers_nothing_goes_on_that_a_head_would_lose_or_that_frames_a_message() {
        let written = [
            ("x-sum", "1"),
            ("x-serviceos-tenant", "acme"),
            ("x_serviceos-subject", "me"),
            ("connection", "x-own"),
            ("x-own", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("host", "a"),
            ("trailer", "x"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
        ];
        let left = |reserved| {
            let mut fields = parts("/", Version::HTTP_11, &written).headers;
            trailers(&mut fields, reserved);
            let mut names: Vec<_> = fields.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(left(Reserved::Stripped), ["x-sum"]);
        assert_eq!(left(Reserved::Passed), ["x-serviceos-tenant", "x-sum", "x_serviceos-subject"]);
    }

    #[test]
    fn whom_a_request_is_for_is_said_as_the_protocol_says_it() {
        let http2 = |target, headers: &[_]| sent(target, headers, Reserved::Passed, Protocol::Http2);
        assert_eq!(http2("/v1", &[("host", "a:1")]), "HTTP/2.0 http://a:1/v1\n");
        assert_eq!(http2("http://b/v1", &[("host", "a")]), "HTTP/2.0 http://b/v1\n");
        assert_eq!(http2("/v1", &[]), "HTTP/2.0 http://localhost/v1\n");
        let http1 = |target, headers: &[_]| sent(target, headers, Reserved::Passed, Protocol::Http1);
        assert_eq!(http1("http://b/v1", &[("host", "a")]), "HTTP/1.1 /v1\nhost: b\n");
        assert_eq!(http1("http://b", &[]), "HTTP/1.1 /\nhost: b\n");
        assert_eq!(http1("*", &[]), "HTTP/1.1 *\nhost: localhost\n");
    }
}
