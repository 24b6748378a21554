//! What replicas are told of the time that is left, when another one has used some of it up.

use testkit::{Connection, Http2, Mesh, Running, Seen, Upstream};

use crate::bodies::head;

/// How long the first of two replicas is waited for.
const TRY_MS: u64 = 500;
/// What the client gives for all of it.
const CALL_MS: u64 = 30_000;

fn mesh(upstreams: &[Upstream; 2], keys: &str) -> Running {
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let keys = format!("retry: {{attempts: 1, perTryTimeout: {TRY_MS}ms}}, {keys}");
    Mesh::new().gateway("limits: {requestTimeout: 1h}").endpoints_with("site", &addresses, &keys).up()
}

/// What both replicas got, the one that was asked first before the other.
fn seen(upstreams: &[Upstream; 2], told: impl Fn(&Seen) -> u64) -> [u64; 2] {
    let seen =
        upstreams.each_ref().map(|upstream| upstream.until_seen("the call", |seen| seen.target == "/wait"));
    assert!(upstreams.iter().all(|upstream| upstream.count() == 1), "each is asked once");
    let mut told = seen.each_ref().map(told);
    told.sort_unstable_by(|one, other| other.cmp(one));
    told
}

fn milliseconds(seen: &Seen, name: &str, unit: &str) -> u64 {
    let text = seen.header(name).and_then(|text| text.strip_suffix(unit));
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in {seen:?}"))
}

fn check_left([first, second]: [u64; 2]) {
    assert!(first <= CALL_MS, "{first}");
    assert!(
        second <= first - TRY_MS,
        "{second} after {first}: it is told of the time that is left, not of all"
    );
    assert!(second > 0, "there was time left");
}

#[test]
fn another_replica_is_told_how_much_of_the_request_timeout_is_left() {
    for (upstreams, keys) in [
        ([Upstream::new(), Upstream::new()], "protocol: http1"),
        ([Upstream::http2(), Upstream::http2()], "protocol: http2, healthCheck: {protocol: http}"),
    ] {
        let mesh = mesh(&upstreams, keys);
        let mut client = Connection::open(mesh.gateway);
        let timeout = format!("x-request-timeout: {CALL_MS}ms\r\n\r\n");
        client.write(head(&mesh, "GET /site/wait HTTP/1.1") + &timeout).unwrap();
        check_left(seen(&upstreams, |seen| milliseconds(seen, "x-request-timeout", "ms")));
    }
}

#[test]
fn another_replica_is_told_how_much_of_the_timeout_of_grpc_is_left() {
    let upstreams = [Upstream::http2(), Upstream::http2()];
    let mesh = mesh(&upstreams, "protocol: grpc, healthCheck: {protocol: http}");
    let fields = [
        ("x-api-key", mesh.key.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("idempotency-key", "one"),
        ("grpc-timeout", &format!("{CALL_MS}m")),
    ];
    let client = Http2::connect(mesh.gateway);
    let _open = client.begin(Http2::request("POST", "/site/wait", &fields));
    check_left(seen(&upstreams, |seen| {
        let left = milliseconds(seen, "grpc-timeout", "m");
        assert_eq!(milliseconds(seen, "x-request-timeout", "ms"), left, "both say the same");
        left
    }));
}
