//! Counters of the running program that are neither refusals nor the seed's: each is counted by what it is about, and by
//! nothing else.

use std::collections::BTreeSet;

use testkit::{Authority, Client, Connection, Http2, Mesh, Request, Running, Upstream, eventually};

use crate::bodies::head;
use crate::fleet::{Fleet, PUBLIC, get};

/// The value of a sample, 0 when there is none.
fn value(mesh: &Running, sample: &str) -> u64 {
    let page = Request::new("GET", "/metrics").send(mesh.admin).text();
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Waits until something was counted exactly so often.
fn until_counted(mesh: &Running, sample: &str, times: u64) {
    eventually(&format!("{sample} {times}"), || {
        let value = value(mesh, sample);
        assert!(value <= times, "{sample} {value}, and not {times}");
        (value == times).then_some(())
    });
}

#[test]
fn connections_over_the_limit_are_counted() {
    let refused = "serviceos_connections_refused_total";
    let upstream = Upstream::new();
    let mesh = Mesh::new().gateway("limits: {connections: 2}").endpoints("site", &[upstream.address]).up();
    let mut open: Vec<_> = (0..2).map(|_| Connection::open(mesh.gateway)).collect();
    for client in &mut open {
        client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n").unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    }
    assert_eq!(value(&mesh, refused), 0);
    for times in 1..=3 {
        assert_eq!(Connection::open(mesh.gateway).rest().unwrap_or_default(), b"");
        until_counted(&mesh, refused, times);
    }
}

#[test]
fn requests_over_the_limit_of_the_gateway_are_counted_apart_from_those_over_a_services() {
    let shed = "serviceos_requests_shed_total";
    let of_service = "serviceos_circuit_open_total{service=\"site\",limit=\"requests\"}";
    for (limit, keys, counted) in
        [("requests: 2", "retry: {}", [3, 0]), ("requests: 100", "circuit: {requests: 2}", [0, 3])]
    {
        let upstream = Upstream::new();
        let mesh = Mesh::new().gateway(&format!("limits: {{{limit}, requestTimeout: 1h}}"));
        let mesh = mesh.endpoints_with("site", &[upstream.address], keys).up();
        let client = Http2::connect(mesh.gateway);
        let request = |path: &str| Http2::request("GET", path, &[("x-api-key", &mesh.key)]);
        let _open = [client.begin(request("/site/wait")), client.begin(request("/site/wait"))];
        eventually("both to be open", || (upstream.count() == 2).then_some(()));
        for _ in 0..3 {
            assert_eq!(client.send(request("/site/echo"), Vec::new()).status, 503);
        }
        until_counted(&mesh, shed, counted[0]);
        until_counted(&mesh, of_service, counted[1]);
    }
}

#[test]
fn handshakes_are_counted_by_how_they_ended() {
    let result = |result: &str| format!("serviceos_tls_handshakes_total{{result=\"{result}\"}}");
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = Mesh::new();
    authority.certificate(&["a.test"]).write(mesh.folder(), "own");
    let mesh = mesh.gateway("tls: {certificates: [{certificate: own.pem, key: own.key}]}");
    let mesh = mesh.endpoints_with("site", &[upstream.address], PUBLIC).up();
    let tls = authority.clients(&["http/1.1"]);
    let ask = || {
        let mut client = tls.connect(mesh.gateway, "a.test").unwrap();
        client.write("GET /site/fixed/3 HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    };
    ask();
    until_counted(&mesh, &result("full"), 1);
    // The first connection has brought what the next ones go on with.
    (0..2).for_each(|_| ask());
    until_counted(&mesh, &result("resumed"), 2);
    assert!(Authority::new("another").clients(&["http/1.1"]).connect(mesh.gateway, "a.test").is_err());
    until_counted(&mesh, &result("failed"), 1);
    let mut plain = Connection::open(mesh.gateway);
    plain.write("GET /site/fixed/3 HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert!(plain.answer().is_err());
    until_counted(&mesh, &result("failed"), 2);
    assert_eq!((value(&mesh, &result("full")), value(&mesh, &result("resumed"))), (1, 2));
}

#[test]
fn additional_tries_are_counted() {
    let retries = "serviceos_retries_total{service=\"site\"}";
    let keys =
        "retry: {on: ['500']}, outlier: {consecutiveFailures: 0}, loadBalancing: {policy: round-robin}";
    let fleet = Fleet::up(&["", ""], &format!("{PUBLIC}, {keys}"));
    let mut client = fleet.client();
    for _ in 0..4 {
        assert_eq!(client.send(&get()).unwrap().status, 200);
    }
    until_counted(&fleet.mesh, retries, 0);
    fleet.servers[0].set_failing(true);
    let before = fleet.servers[0].count();
    for _ in 0..6 {
        assert_eq!(client.send(&get()).unwrap().status, 200);
    }
    let failed = fleet.servers[0].count() - before;
    assert!(failed > 0);
    until_counted(&fleet.mesh, retries, failed as u64);
    let failures = "serviceos_upstream_failures_total{service=\"site\",reason=\"status\"}";
    until_counted(&fleet.mesh, failures, failed as u64);
}

#[test]
fn connections_to_replicas_are_counted_when_they_are_made_and_not_when_they_are_used_again() {
    let connects = "serviceos_upstream_connects_total{service=\"site\"}";
    for (upstream, protocol) in [(Upstream::new(), "http1"), (Upstream::http2(), "http2")] {
        let keys = format!("protocol: {protocol}, healthCheck: {{protocol: tcp}}, {PUBLIC}");
        let mesh = Mesh::new().gateway("workers: 1").endpoints_with("site", &[upstream.address], &keys).up();
        let mut client = Client::connect(mesh.gateway).unwrap();
        assert_eq!(value(&mesh, connects), 0, "checks are none");
        for _ in 0..10 {
            assert_eq!(client.send(&get()).unwrap().status, 200);
        }
        until_counted(&mesh, connects, 1);
        // Two at the same time need two connections over HTTP/1.1.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| Request::new("GET", "/site/together/2").send(mesh.gateway).status);
            }
        });
        let used: BTreeSet<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(used.len(), if protocol == "http1" { 2 } else { 1 });
        until_counted(&mesh, connects, used.len() as u64);
    }
}
