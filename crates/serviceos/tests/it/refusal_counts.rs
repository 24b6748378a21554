//! Every limit of a request: whoever reaches it is told so, and it is counted under its own name.

use serde_json::Value;
use testkit::{Connection, Mesh, Request, Running, Upstream, eventually, filler};

use crate::bodies::head;

const LIMITS: &str = "limits: {headerBytes: 2KiB, headers: 20, urlBytes: 100B, bodyBytes: 1KiB, headerTimeout: 300ms, \
    idleTimeout: 700ms, requestTimeout: 400ms}, rateLimits: {tiers: {once: {rate: 1/d, burst: 1}}}";

fn mesh(upstream: &Upstream) -> Running {
    Mesh::new().gateway(LIMITS).endpoints("site", &[upstream.address]).up()
}

/// The samples of a metric that have counted something.
fn counted(mesh: &Running, metric: &str) -> Vec<String> {
    let page = Request::new("GET", "/metrics").send(mesh.admin).text();
    page.lines().filter_map(|line| line.strip_prefix(metric)).map(str::to_owned).collect()
}

/// Waits until a reason of a metric was counted so often.
pub(crate) fn until_counted(mesh: &Running, metric: &str, reason: &str, least: u64) {
    let sample = format!("{{reason=\"{reason}\"}} ");
    eventually(&format!("{metric} of {reason}"), || {
        let samples = counted(mesh, metric);
        let value = samples.iter().find_map(|line| line.strip_prefix(&sample)?.parse::<u64>().ok());
        value.filter(|value| *value >= least)
    });
}

#[test]
fn every_limit_is_counted_under_its_own_name() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream);
    let refused = "serviceos_requests_refused_total";
    let get = head(&mesh, "GET /site/fixed/3 HTTP/1.1");
    let long = |bytes: usize| "a".repeat(bytes);
    for (reason, status, request) in [
        ("malformed", 400, format!("{get}x : y\r\n\r\n")),
        ("header_bytes", 431, format!("{get}x: {}\r\n\r\n", long(2048))),
        ("headers", 431, format!("{get}{}\r\n", "x: y\r\n".repeat(20))),
        ("url_bytes", 414, head(&mesh, &format!("GET /site/{} HTTP/1.1", long(100))) + "\r\n"),
        ("body_bytes", 413, head(&mesh, "POST /site/echo HTTP/1.1") + "content-length: 1025\r\n\r\n"),
        ("header_timeout", 408, "GET /site/fixed/3 HTTP/1.1\r\n".to_owned()),
        ("request_timeout", 408, head(&mesh, "POST /site/echo HTTP/1.1") + "content-length: 9\r\n\r\nhalf"),
    ] {
        assert!(
            !counted(&mesh, refused).iter().any(|line| line.contains(&format!("\"{reason}\""))),
            "{reason}"
        );
        let mut client = Connection::open(mesh.gateway);
        client.write(request).unwrap();
        assert_eq!(client.answer().unwrap().status, status, "{reason}");
        until_counted(&mesh, refused, reason, 1);
    }
    let mut idle = Connection::open(mesh.gateway);
    idle.write(format!("{get}\r\n")).unwrap();
    assert_eq!(idle.answer().unwrap().body, filler(3));
    assert_eq!(idle.rest().unwrap(), b"", "it is closed without a word");
    until_counted(&mesh, refused, "idle_timeout", 1);

    let created = mesh.run(&["keys", "create", "--name=a", "--scopes=site", "--tier=once", "--json"]).out;
    let created: Value = serde_json::from_str(&created).unwrap();
    let request = || Request::new("GET", "/site/fixed/3").key(created["key"].as_str().unwrap());
    let statuses = [request().send(mesh.gateway).status, request().send(mesh.gateway).status];
    assert_eq!(statuses, [200, 429]);
    until_counted(&mesh, refused, "rate_limited", 1);
    assert_eq!(counted(&mesh, refused).len(), 9, "{:?}", counted(&mesh, refused));
}

#[test]
fn a_replica_that_is_too_slow_is_no_refusal() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream);
    assert_eq!(mesh.get("/site/wait").problem(), (504, "UPSTREAM_TIMEOUT".into()));
    until_counted_of_upstream(&mesh);
    assert_eq!(counted(&mesh, "serviceos_requests_refused_total"), [""; 0]);
}

/// Waits until a replica of `site` was too slow once.
pub(crate) fn until_counted_of_upstream(mesh: &Running) {
    let sample = "{service=\"site\",reason=\"timeout\"} 1";
    eventually("the failure of the replica", || {
        counted(mesh, "serviceos_upstream_failures_total").iter().any(|line| line == sample).then_some(())
    });
}

#[test]
fn an_idle_client_of_http2_is_told_and_then_closed_even_if_it_does_not_answer() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream);
    let mut client = Connection::open(mesh.gateway);
    // The preface and empty settings; what the gateway says is never acknowledged.
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let said = client.rest().unwrap();
    let goaway = [7, 0, 0, 0, 0, 0];
    assert!(said.windows(goaway.len()).any(|bytes| bytes == goaway), "no GOAWAY in {said:?}");
    until_counted(&mesh, "serviceos_requests_refused_total", "idle_timeout", 1);
}
