//! Replicas that speak HTTP/2 and die, take leave, or reset what they were asked.

use testkit::{Connection, Mesh, Request, Running, Upstream, filler};

use crate::bodies::head;
use crate::load::under_load;

/// Codes of RFC 9113 section 7.
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn mesh(upstreams: &[Upstream], keys: &str) -> Running {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let check = "healthCheck: {protocol: http, interval: 200ms, timeout: 200ms}";
    let keys = format!("protocol: http2, {check}, loadBalancing: {{policy: round-robin}}, {keys}");
    Mesh::new().gateway("limits: {requestTimeout: 1h}").endpoints_with("site", &addresses, &keys).up()
}

/// A call that goes on for as long as the test wants: whatever is written comes back.
struct Stream(Connection<std::net::TcpStream>);

impl Stream {
    fn begin(mesh: &Running) -> Self {
        let mut client = Connection::open(mesh.gateway);
        let fields = "transfer-encoding: chunked\r\n\r\n";
        client.write(head(mesh, "POST /site/mirror HTTP/1.1") + fields).unwrap();
        assert_eq!(client.answer_head().unwrap().status, 200);
        let mut call = Self(client);
        call.goes_on();
        call
    }

    fn goes_on(&mut self) {
        self.0.write("5\r\nagain\r\n").unwrap();
        assert_eq!(self.0.chunk().unwrap().as_deref(), Some(&b"again"[..]));
    }

    fn ends(mut self) {
        self.0.write("0\r\n\r\n").unwrap();
        assert_eq!(self.0.chunk().unwrap(), None);
        assert_eq!(self.0.fields().unwrap(), []);
    }
}

#[test]
fn killing_each_of_three_replicas_under_load_loses_no_idempotent_request() {
    let mut upstreams: Vec<_> = (0..3).map(|_| Upstream::http2()).collect();
    let mesh = mesh(&upstreams, "retry: {perTryTimeout: 1h}");
    under_load(&mesh, "/site/fixed/1000", |load| {
        for place in 0..3 {
            load.until_more(300);
            let address = upstreams[place].address;
            drop(upstreams.remove(place));
            load.until_more(300);
            upstreams.insert(place, Upstream::http2_at(address));
            mesh.until_selectable();
        }
        load.until_more(300);
    });
    assert!(upstreams.iter().all(|upstream| upstream.count() > 0), "each serves again");
}

#[test]
fn a_request_in_flight_is_answered_by_another_replica_when_its_own_dies() {
    let mut upstreams = vec![Upstream::http2(), Upstream::http2()];
    let mesh = mesh(&upstreams, "retry: {perTryTimeout: 1h}");
    let request = || Request::new("GET", "/site/together/2").key(&mesh.key);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| request().send(mesh.gateway).status);
        let place = testkit::eventually("the first", || upstreams.iter().position(|one| one.count() == 1));
        drop(upstreams.remove(place));
        upstreams[0].until_seen("the same request", |seen| seen.target == "/together/2");
        let second = request().send(mesh.gateway).status;
        assert_eq!((first.join().unwrap(), second), (200, 200));
    });
    assert_eq!(upstreams[0].count(), 2);
}

#[test]
fn replicas_that_take_leave_again_and_again_under_load_lose_no_request() {
    let upstreams = [Upstream::http2(), Upstream::http2()];
    let mesh = mesh(&upstreams, "retry: {}");
    under_load(&mesh, "/site/fixed/1000", |load| {
        for round in 0..20 {
            upstreams[round % 2].take_leave();
            load.until_more(30);
        }
    });
}

#[test]
fn a_stream_that_a_replica_breaks_off_is_sent_again_only_where_that_is_safe() {
    for code in [INTERNAL_ERROR, CANCEL] {
        let upstreams = [Upstream::http2(), Upstream::http2()];
        let mesh = mesh(&upstreams, "outlier: {consecutiveFailures: 0}");
        upstreams[0].set_failing(true);
        let request = |method: &str| {
            Request::new(method, &format!("/site/reset/{code}")).key(&mesh.key).header("content-length", "0")
        };
        for _ in 0..10 {
            assert_eq!(request("GET").send(mesh.gateway).status, 200, "{code}");
        }
        assert!(upstreams[0].count() > 0, "{code}: it was asked");
        let before: usize = upstreams.iter().map(Upstream::count).sum();
        let mut failed = 0;
        for _ in 0..20 {
            let answer = request("POST").send(mesh.gateway);
            if answer.status != 200 {
                assert_eq!(answer.problem(), (502, "UPSTREAM_FAILED".into()), "{code}");
                failed += 1;
            }
        }
        let after: usize = upstreams.iter().map(Upstream::count).sum();
        assert!(failed > 0 && after - before == 20, "{code}: {failed} failed, {} executed", after - before);
    }
}

#[test]
fn a_stream_that_is_reset_does_not_touch_the_others_of_its_connection() {
    for code in [INTERNAL_ERROR, CANCEL] {
        let upstreams = [Upstream::http2()];
        let mesh = mesh(&upstreams, "outlier: {consecutiveFailures: 0}, retry: {attempts: 0}");
        let mut calls: Vec<_> = (0..4).map(|_| Stream::begin(&mesh)).collect();
        upstreams[0].set_failing(true);
        let answer = mesh.get(&format!("/site/reset/{code}"));
        assert_eq!(answer.problem(), (502, "UPSTREAM_FAILED".into()), "{code}");
        calls.iter_mut().for_each(Stream::goes_on);
        calls.into_iter().for_each(Stream::ends);
    }
}

#[test]
fn a_replica_that_takes_leave_ends_what_it_has_begun_and_gets_the_rest_over_another_connection() {
    let upstreams = [Upstream::http2()];
    let mesh = mesh(&upstreams, "retry: {}");
    let mut calls: Vec<_> = (0..4).map(|_| Stream::begin(&mesh)).collect();
    let before = upstreams[0].seen().iter().map(|seen| seen.connection).max();
    upstreams[0].take_leave();
    // Every call of a client that a connection which ends could have hit, whatever its method.
    for method in ["GET", "POST"].repeat(20) {
        let request = Request::new(method, "/site/status/200").key(&mesh.key).header("content-length", "0");
        assert_eq!(request.send(mesh.gateway).status, 200, "{method}");
        calls.iter_mut().for_each(Stream::goes_on);
    }
    assert!(upstreams[0].seen().last().map(|seen| seen.connection) > before, "over a new connection");
    calls.into_iter().for_each(Stream::ends);
    assert_eq!(upstreams[0].count(), 4 + 40, "none was sent twice");
}

#[test]
fn answers_without_a_body_get_no_chunks_and_are_followed_by_the_next_on_the_same_connection() {
    let upstreams = [Upstream::http2()];
    let mesh = mesh(&upstreams, "retry: {}");
    let mut client = Connection::open(mesh.gateway);
    let mut ask = |method: &str, path: &str| {
        client.write(head(&mesh, &format!("{method} /site{path} HTTP/1.1")) + "\r\n").unwrap();
        if method == "HEAD" { client.answer_head() } else { client.answer() }.unwrap()
    };
    // The stream ends with the head, or with an empty frame of its own.
    for path in ["/status", "/end-apart"] {
        for (method, status) in [("GET", 204), ("GET", 304), ("HEAD", 200)] {
            let answer = ask(method, &format!("{path}/{status}"));
            assert_eq!(answer.status, status, "{method} {path}");
            if method == "GET" {
                let framing = (answer.header("content-length"), answer.header("transfer-encoding"));
                assert_eq!(framing, (None, None), "{status} {path}");
            }
            assert_eq!(ask("GET", "/fixed/3").body, filler(3), "behind {method} {path}/{status}");
        }
    }
}

#[test]
fn a_stream_that_a_replica_refuses_is_sent_to_another_whatever_its_method() {
    let upstreams = [Upstream::http2(), Upstream::http2()];
    let mesh = mesh(&upstreams, "outlier: {consecutiveFailures: 0}");
    upstreams[0].set_failing(true);
    for method in ["GET", "POST"].repeat(10) {
        let path = format!("/site/reset/{REFUSED_STREAM}");
        let request = Request::new(method, &path).key(&mesh.key).header("content-length", "0");
        assert_eq!(request.send(mesh.gateway).status, 200, "{method}");
    }
    assert!(upstreams[0].count() > 0, "it was asked");
}

#[test]
fn a_replica_that_refuses_every_stream_is_not_asked_for_ever() {
    let upstreams = [Upstream::http2()];
    let mesh = mesh(&upstreams, "outlier: {consecutiveFailures: 0}");
    let call = Stream::begin(&mesh);
    upstreams[0].set_failing(true);
    let status = mesh.get(&format!("/site/reset/{REFUSED_STREAM}")).status;
    assert!(matches!(status, 502 | 503), "{status}");
    assert!(upstreams[0].count() < 10, "{} times", upstreams[0].count());
    call.ends();
}
