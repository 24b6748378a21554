//! Limits of time and number, each reached from outside.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use testkit::{Connection, Http2, LIMIT, Mesh, Running, Upstream, eventually, filler};

use crate::bodies::{head, write_until_held_up};

fn mesh(upstream: &Upstream, limits: &str, keys: &str) -> Running {
    Mesh::new()
        .gateway(&format!("limits: {{{limits}}}"))
        .endpoints_with("site", &[upstream.address], keys)
        .up()
}

/// Waits so long and no longer; nothing may come meanwhile.
fn stays_silent(client: &mut Connection<TcpStream>, time: Duration) {
    client.socket().set_read_timeout(Some(time)).unwrap();
    assert_eq!(client.some(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.socket().set_read_timeout(Some(LIMIT)).unwrap();
}

#[test]
fn a_head_that_does_not_come_whole_is_not_waited_for() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "headerTimeout: 300ms", "retry: {}");
    let mut client = Connection::open(mesh.gateway);
    client.write("GET /site/echo HTTP/1.1\r\nhost: a\r\nx-slow: ").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(answer.problem(), (408, "REQUEST_TIMEOUT".into()));
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_connection_that_idles_is_closed_without_a_word() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "idleTimeout: 300ms", "retry: {}");
    let mut client = Connection::open(mesh.gateway);
    assert_eq!(client.rest().unwrap(), b"", "before its first request");
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    assert_eq!(client.rest().unwrap(), b"", "between two");
}

#[test]
fn an_upload_may_take_its_time_but_not_stand_still() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "requestTimeout: 500ms", "retry: {attempts: 0}");
    let begin = || {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, "POST /site/echo HTTP/1.1") + "content-length: 8\r\n\r\n").unwrap();
        client
    };
    let mut client = begin();
    for piece in ["12", "34", "56", "78"] {
        stays_silent(&mut client, Duration::from_millis(200));
        client.write(piece).unwrap();
    }
    assert_eq!(client.answer().unwrap().json()["bodyBytes"], 8, "longer than the limit, but it moved");
    let mut client = begin();
    client.write("1234").unwrap();
    assert_eq!(client.answer().unwrap().problem(), (408, "REQUEST_TIMEOUT".into()));
}

#[test]
fn an_upload_that_the_replica_does_not_take_ends_in_time() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "requestTimeout: 500ms, bodyBytes: 32MiB", "retry: {attempts: 0}");
    let body = filler(32 << 20);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /site/sink HTTP/1.1") + "content-length: 33554432\r\n\r\n").unwrap();
    write_until_held_up(&client, &body);
    assert_eq!(client.answer().unwrap().problem(), (504, "UPSTREAM_TIMEOUT".into()));
}

#[test]
fn an_answer_that_has_begun_waits_for_as_long_as_the_upload_moves() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "idleTimeout: 500ms", "retry: {attempts: 0}");
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /site/sink/early HTTP/1.1") + "content-length: 8\r\n\r\n").unwrap();
    upstream.say("read on");
    assert_eq!(client.answer_head().unwrap().status, 200);
    for piece in ["12", "34", "56", "78"] {
        stays_silent(&mut client, Duration::from_millis(300));
        client.write(piece).unwrap();
    }
    assert_eq!(client.chunk().unwrap().as_deref(), Some(&b"8 bytes"[..]));
}

#[test]
fn an_answer_that_does_not_begin_in_time_is_504_and_one_that_stands_still_is_broken_off() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "requestTimeout: 300ms, idleTimeout: 1s", "retry: {attempts: 0}");
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/wait HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().problem(), (504, "UPSTREAM_TIMEOUT".into()));
    upstream.until_seen("the end of the call", |seen| seen.gone);
    client.write(head(&mesh, "GET /site/command HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    for word in ["one", "two", "three"] {
        stays_silent(&mut client, Duration::from_millis(400));
        upstream.say(word);
        assert_eq!(client.chunk().unwrap().as_deref(), Some(word.as_bytes()));
    }
    // The end of the chunks never comes, and what does come is the end of the connection.
    let broken = client.chunk().unwrap_err().kind();
    assert!(matches!(broken, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{broken}");

    let client = Http2::connect(mesh.gateway);
    let events = Http2::request("GET", "/site/command", &[("x-api-key", &mesh.key)]);
    let answer = client.together(vec![(events, Vec::new(), http::HeaderMap::new())]).remove(0);
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn a_tunnel_and_a_download_that_stand_still_are_ended_too() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "idleTimeout: 500ms", "retry: {}");
    let mut client = Connection::open(mesh.gateway);
    client
        .write(head(&mesh, "GET /site/upgrade HTTP/1.1") + "connection: upgrade\r\nupgrade: echo\r\n\r\n")
        .unwrap();
    assert_eq!(client.answer_head().unwrap().status, 101);
    for _ in 0..3 {
        stays_silent(&mut client, Duration::from_millis(200));
        client.write("x").unwrap();
        assert_eq!(client.exactly(1).unwrap(), b"x");
    }
    assert_eq!(client.rest().unwrap(), b"");

    // A client that stops reading holds up the gateway, which gives up the replica's connection as well.
    for version in ["1.1", "1.0"] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, &format!("GET /site/fixed/50000000 HTTP/{version}")) + "\r\n").unwrap();
        assert_eq!(client.answer_head().unwrap().status, 200);
        eventually("the call to be given up", || (mesh.replicas("site")[0]["inFlight"] == 0).then_some(()));
        assert!(client.exactly(50_000_000).is_err(), "it sees that something is missing");
    }
}

#[test]
fn a_client_may_ask_for_less_time_than_the_route_gives() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "requestTimeout: 1h", "retry: {attempts: 0}");
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/wait HTTP/1.1") + "x-request-timeout: 200ms\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().problem(), (504, "UPSTREAM_TIMEOUT".into()));
    let seen = upstream.seen().pop().unwrap();
    let told = seen.header("x-request-timeout").and_then(|told| told.strip_suffix("ms")?.parse::<u64>().ok());
    assert!(told.is_some_and(|told| told <= 200), "{seen:?}");
}

#[test]
fn more_connections_than_allowed_are_closed_and_room_is_made_again() {
    let upstream = Upstream::new();
    let mesh = mesh(&upstream, "connections: 2", "retry: {}");
    let mut open: Vec<_> = (0..2).map(|_| Connection::open(mesh.gateway)).collect();
    for client in &mut open {
        client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n").unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    }
    assert_eq!(Connection::open(mesh.gateway).rest().unwrap_or_default(), b"");
    drop(open.pop());
    eventually("room for another", || {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n").ok()?;
        client.answer().ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn more_requests_than_allowed_are_shed_at_once_by_gateway_and_service() {
    for (limits, keys) in [("requests: 2", "retry: {}"), ("requests: 100", "circuit: {requests: 2}")] {
        let upstream = Upstream::new();
        let mesh = mesh(&upstream, limits, keys);
        let client = Http2::connect(mesh.gateway);
        let request = || Http2::request("GET", "/site/wait", &[("x-api-key", &mesh.key)]);
        let open = [client.begin(request()), client.begin(request())];
        eventually("both to be open", || (upstream.count() == 2).then_some(()));
        let shed = client.send(Http2::request("GET", "/site/echo", &[("x-api-key", &mesh.key)]), Vec::new());
        assert_eq!(shed.problem(), (503, "OVERLOADED".into()), "{limits} {keys}");
        assert_eq!(shed.header("retry-after"), Some("1"));
        drop((open, client));
        eventually("room for another", || (mesh.get("/site/echo").status == 200).then_some(()));
    }
}
