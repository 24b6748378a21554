//! What a replica is told about who calls: by the network, by a proxy in front, and never by the client alone.

use testkit::{Authority, Connection, Http2, Mesh, Running, Seen, Upstream, eventually};

use crate::refusal_counts::until_counted;

const ROUTES: &str = "routes: [{match: {path: '/echo'}, public: true}]";
/// What many servers believe about a client and its URL, beside what the gateway says itself.
const ABOUT_CLIENTS: [&str; 6] = [
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

fn mesh(upstream: &Upstream, gateway: &str) -> Running {
    Mesh::new().gateway(gateway).endpoints_with("site", &[upstream.address], ROUTES).up()
}

/// Sends a request with these fields behind a prefix; what the replica got.
fn ask(mesh: &Running, upstream: &Upstream, prefix: &[u8], fields: &str) -> Seen {
    let mut client = Connection::open(mesh.gateway);
    let request = format!("GET /echo HTTP/1.1\r\nhost: api.test:8080\r\n{fields}\r\n");
    client.write([prefix, request.as_bytes()].concat()).unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    upstream.seen().pop().unwrap()
}

fn about_clients() -> String {
    ABOUT_CLIENTS.map(|name| format!("{name}: claimed\r\n")).concat()
}

fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [&V2_SIGNATURE[..], &[command, family], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[test]
fn the_proxy_protocol_names_the_client_in_both_versions() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "proxyProtocol: [127.0.0.0/8]");
    let address = |prefix: &[u8]| ask(&mesh, &upstream, prefix, "").headers_of("x-forwarded-for").join("|");
    assert_eq!(address(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"), "192.0.2.7");
    assert_eq!(address(b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n"), "2001:db8::7");
    assert_eq!(address(b"PROXY UNKNOWN\r\n"), "127.0.0.1");
    let over_ipv4 = [192, 0, 2, 9, 10, 0, 0, 1, 0xdc, 4, 1, 187, 4, 0, 1, 0];
    assert_eq!(address(&version_2(0x21, 0x11, &over_ipv4)), "192.0.2.9");
    assert_eq!(address(&version_2(0x20, 0, &[])), "127.0.0.1", "the proxy asks for itself");
    let seen = ask(&mesh, &upstream, b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", "");
    assert_eq!(seen.header("forwarded"), Some("for=\"[2001:db8::7]\";proto=http"));
}

#[test]
fn a_connection_without_the_header_that_it_must_have_is_closed() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "proxyProtocol: [127.0.0.0/8]");
    for prefix in [&b""[..], b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n", &version_2(0x21, 0x11, &[1, 2])] {
        let mut client = Connection::open(mesh.gateway);
        client.write([prefix, b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).unwrap();
        // A reset, as not all that was sent is read, or an end; but not a word.
        assert_eq!(client.rest().unwrap_or_default(), b"");
    }
    assert_eq!(upstream.count(), 0);
    until_counted(&mesh, "serviceos_requests_refused_total", "proxy_header", 3);
}

#[test]
fn the_header_of_a_proxy_that_is_not_trusted_is_no_http() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "proxyProtocol: [192.0.2.0/24]");
    let mut client = Connection::open(mesh.gateway);
    client.write("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET /echo HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 400);
    assert_eq!(ask(&mesh, &upstream, b"", "").header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn what_a_client_says_about_itself_is_dropped() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "trustedProxies: [192.0.2.0/24]");
    let claims = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: bank.test\r\nforwarded: for=9.9.9.9\r\n\
                  x-request-id: chosen\r\nx-real-ip: 9.9.9.9\r\nx_forwarded_for: 9.9.9.9\r\nx-serviceos-tenant: acme\r\n\
                  traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\ntracestate: a=b\r\n";
    let seen = ask(&mesh, &upstream, b"", &(claims.to_owned() + &about_clients()));
    assert_eq!(seen.headers_of("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.headers_of("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.headers_of("x-forwarded-host"), ["api.test:8080"]);
    assert_eq!(seen.headers_of("forwarded"), ["for=127.0.0.1;proto=http"]);
    assert_eq!(seen.headers_of("x_forwarded_for"), [""; 0]);
    assert_eq!(seen.headers_of("x-serviceos-tenant"), ["default"]);
    let id = seen.headers_of("x-request-id");
    assert!(id.len() == 1 && id[0] != "chosen", "{id:?}");
    // A trace goes on: the same one, in a span of the gateway's.
    let trace = seen.headers_of("traceparent");
    assert!(trace.len() == 1 && trace[0].starts_with("00-0123456789abcdef0123456789abcdef-"), "{trace:?}");
    assert!(trace[0].ends_with("-01") && !trace[0].contains("-0123456789abcdef-"), "{trace:?}");
    assert_eq!(seen.headers_of("tracestate"), ["a=b"]);
    for name in ABOUT_CLIENTS {
        assert_eq!(seen.headers_of(name), [""; 0], "{name}");
    }
    assert_eq!(seen.headers_of("host"), ["api.test:8080"]);
}

#[test]
fn the_state_of_a_trace_goes_only_with_the_trace() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "trustedProxies: [192.0.2.0/24]");
    for parent in ["", "traceparent: 00-00000000000000000000000000000000-0123456789abcdef-01\r\n"] {
        let seen = ask(&mesh, &upstream, b"", &format!("{parent}tracestate: a=b\r\n"));
        assert_eq!(seen.headers_of("tracestate"), [""; 0], "{parent}");
        assert_eq!(seen.headers_of("traceparent").len(), 1, "{parent}");
    }
}

#[test]
fn via_names_the_version_that_the_client_spoke() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "trustedProxies: [192.0.2.0/24]");
    let via = || upstream.seen().pop().unwrap().headers_of("via").join("|");
    for (version, said) in [("1.1", "1.1 serviceos"), ("1.0", "1.0 serviceos")] {
        let mut client = Connection::open(mesh.gateway);
        client.write(format!("GET /echo HTTP/{version}\r\nhost: a\r\nvia: 1.1 other\r\n\r\n")).unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
        assert_eq!(via(), format!("1.1 other|{said}"));
    }
    let client = Http2::connect(mesh.gateway);
    assert_eq!(client.send(Http2::request("GET", "/echo", &[]), Vec::new()).status, 200);
    assert_eq!(via(), "2.0 serviceos");
}

#[test]
fn what_a_trusted_proxy_says_is_taken_over_and_added_to() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "trustedProxies: [127.0.0.1, 10.0.0.0/8]");
    let claims = "x-forwarded-for: 9.9.9.9, 192.0.2.1\r\nx-forwarded-for: 10.0.0.3\r\nx-forwarded-proto: https\r\n\
                  x-forwarded-host: api.example.org\r\nx-request-id: given-1\r\n";
    let seen = ask(&mesh, &upstream, b"", &(claims.to_owned() + &about_clients()));
    assert_eq!(seen.headers_of("x-forwarded-for"), ["9.9.9.9, 192.0.2.1", "10.0.0.3", "127.0.0.1"]);
    assert_eq!(seen.headers_of("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.headers_of("x-forwarded-host"), ["api.example.org"]);
    assert_eq!(seen.headers_of("x-request-id"), ["given-1"]);
    for name in ABOUT_CLIENTS {
        assert_eq!(seen.headers_of(name), ["claimed"], "{name}");
    }
    let line = eventually("the request in the access log", || {
        let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).ok()?;
        log.lines().find(|line| line.contains("given-1")).map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["client"], &line["forwardedFor"]),
        (&"127.0.0.1".into(), &"192.0.2.1".into()),
        "{line}"
    );
    for unusable in ["with space", "a\u{e9}", &"x".repeat(300)] {
        let seen = ask(&mesh, &upstream, b"", &format!("x-request-id: {unusable}\r\n"));
        assert_ne!(seen.header("x-request-id"), Some(unusable));
    }
}

#[test]
fn the_proxy_protocol_stands_before_tls() {
    let (upstream, authority, mesh) = (Upstream::new(), Authority::new("test authority"), Mesh::new());
    authority.certificate(&["a.test"]).write(mesh.folder(), "own");
    let keys = "proxyProtocol: [127.0.0.0/8], tls: {certificates: [{certificate: own.pem, key: own.key}]}";
    let mesh = mesh.gateway(keys).endpoints_with("site", &[upstream.address], ROUTES).up();
    let tls = authority.clients(&["http/1.1"]);
    let prefix = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    let mut client = tls.connect_behind(prefix, mesh.gateway, "a.test").unwrap();
    client.write("GET /echo HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(
        (seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")),
        (Some("192.0.2.7"), Some("https"))
    );
    assert!(tls.connect(mesh.gateway, "a.test").is_err());
}
