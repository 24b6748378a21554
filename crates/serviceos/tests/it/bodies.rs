//! Bodies and what stands behind them, over HTTP/1.1 in both directions, through the real gateway.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use testkit::{Connection, Mesh, Running, Upstream, checksum, filler};

const LARGE: usize = 8 << 20;

/// A mesh whose service `site` is the server, with room for large bodies.
pub(crate) fn site(upstream: &Upstream) -> Running {
    Mesh::new().gateway("limits: {bodyBytes: 16MiB}").endpoints("site", &[upstream.address]).up()
}

/// The head of a request with the development key, without its last line.
pub(crate) fn head(mesh: &Running, first: &str) -> String {
    format!("{first}\r\nhost: localhost\r\nx-api-key: {}\r\n", mesh.key)
}

/// Writes while something else reads: neither side may wait for the other.
fn write_beside(connection: &Connection<TcpStream>, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut socket = connection.socket().try_clone().unwrap();
    std::thread::spawn(move || socket.write_all(&bytes).unwrap())
}

/// Writes until nothing is taken for a while; how much was.
pub(crate) fn write_until_held_up(connection: &Connection<TcpStream>, bytes: &[u8]) -> usize {
    let mut socket = connection.socket();
    socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut written = 0;
    while let Ok(more) = socket.write(&bytes[written..]) {
        assert!(more > 0, "all {written} bytes were taken, and nothing held them up");
        written += more;
    }
    socket.set_write_timeout(None).unwrap();
    written
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let chunk =
        |piece: &[u8]| [format!("{:X};name=value\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let mut all: Vec<u8> = body.chunks(70_001).flat_map(chunk).collect();
    all.extend_from_slice(b"0\r\n\r\n");
    all
}

#[test]
fn eight_mebibytes_of_fixed_length_arrive_unchanged_in_both_directions() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let body = filler(LARGE);
    let mut client = Connection::open(mesh.gateway);
    client
        .write(head(&mesh, "POST /site/mirror HTTP/1.1") + &format!("content-length: {LARGE}\r\n\r\n"))
        .unwrap();
    let writing = write_beside(&client, body.clone());
    let answer = client.answer().unwrap();
    writing.join().unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some(LARGE.to_string().as_str())));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.body == body, "what came back is not what was sent");
    let seen = &upstream.seen()[0];
    assert_eq!((seen.body_bytes, seen.checksum), (LARGE as u64, checksum(&body)));
    assert_eq!(seen.header("content-length"), Some(LARGE.to_string().as_str()));
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/fixed/8388608 HTTP/1.1") + "\r\n").unwrap();
    assert!(client.answer().unwrap().body == filler(LARGE));
}

#[test]
fn eight_mebibytes_in_chunks_arrive_unchanged_in_both_directions() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let body = filler(LARGE);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /site/mirror HTTP/1.1") + "transfer-encoding: chunked\r\n\r\n").unwrap();
    let writing = write_beside(&client, chunks(&body));
    let answer = client.answer().unwrap();
    writing.join().unwrap();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")));
    assert!(answer.body == body, "what came back is not what was sent");
    let seen = &upstream.seen()[0];
    assert_eq!((seen.body_bytes, seen.header("transfer-encoding")), (LARGE as u64, Some("chunked")));
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/chunked/8388608 HTTP/1.1") + "\r\n").unwrap();
    assert!(client.answer().unwrap().body == filler(LARGE));
}

#[test]
fn an_answer_that_begins_while_the_upload_is_held_up_costs_no_byte_of_it() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let body = filler(2 * LARGE);
    let fixed = (format!("content-length: {}\r\n\r\n", body.len()), body.clone());
    for (fields, sent) in [fixed, ("transfer-encoding: chunked\r\n\r\n".into(), chunks(&body))] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, "POST /site/mirror/late HTTP/1.1") + &fields).unwrap();
        // The replica does not read, so after a while nobody takes anything any more.
        let written = write_until_held_up(&client, &sent);
        upstream.say("go on");
        let writing = write_beside(&client, sent[written..].to_vec());
        let answer = client.answer().unwrap();
        writing.join().unwrap();
        assert!(answer.body == body, "what came back is not what was sent");
    }
}

/// More than the sockets on the way hold of it.
const HUGE: usize = 64 << 20;

/// How many bytes the head of the request has, which is not read yet; 0 on a connection of which nothing comes.
fn head_of(stream: &mut TcpStream) -> usize {
    let mut piece = [0; 16 << 10];
    loop {
        let read = stream.peek(&mut piece).unwrap();
        match piece[..read].windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) => return end + 4,
            None if read == 0 => return 0,
            None => std::thread::yield_now(),
        }
    }
}

/// Answers one request in chunks without an end, and reads its body beside that; ends when all of it has come.
fn answer_while_reading(listener: &TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = vec![0; 64 << 10];
        let mut left = HUGE + head_of(&mut stream);
        let mut answering = None;
        while left > 0 {
            let read = stream.read(&mut piece).unwrap();
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
            answering.get_or_insert_with(|| {
                let mut answer = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    let chunk = [b"4000\r\n", &filler(0x4000)[..], b"\r\n"].concat();
                    answer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
                    while answer.write_all(&chunk).is_ok() {}
                })
            });
        }
        // A connection of which nothing was read was only looked at.
        let Some(answering) = answering else { continue };
        stream.shutdown(Shutdown::Both).unwrap();
        return answering.join().unwrap();
    }
}

#[test]
fn a_body_goes_on_to_a_replica_whose_answer_the_client_does_not_take_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let replica = std::thread::spawn(move || answer_while_reading(&listener));
    let route = "      - {match: {path: /both}, public: true, request: {bodyBytes: 64MiB}}\n";
    let mesh = Mesh::new().endpoint("site", address, route).up();
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /both HTTP/1.1") + &format!("content-length: {HUGE}\r\n\r\n")).unwrap();
    client.socket().set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write(filler(HUGE)).unwrap();
    replica.join().unwrap();
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "HEAD /site/fixed/1234 HTTP/1.1") + "\r\n").unwrap();
    let answer = client.answer_head().unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
    client.write(head(&mesh, "GET /site/fixed/5 HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().body, filler(5), "the next answer follows at once");
    client.write(head(&mesh, "HEAD /nowhere HTTP/1.1") + "\r\n").unwrap();
    let own = client.answer_head().unwrap();
    assert_eq!(own.status, 404);
    assert!(own.header("content-length").is_some_and(|length| length != "0"));
    client.write(head(&mesh, "GET /site/status/200 HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
}

#[test]
fn answers_that_have_no_body_are_followed_by_the_next_on_the_same_connection() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    let mut get = |path: &str| {
        client.write(head(&mesh, &format!("GET /site{path} HTTP/1.1")) + "\r\n").unwrap();
        client.answer().unwrap()
    };
    let none = get("/status/204");
    let lengths = (none.header("content-length"), none.header("transfer-encoding"));
    assert_eq!((none.status, lengths), (204, (None, None)));
    let unchanged = get("/status/304");
    assert_eq!((unchanged.status, unchanged.header("content-length")), (304, None));
    let unchanged = get("/unchanged");
    assert_eq!((unchanged.status, unchanged.header("content-length")), (304, Some("1234")));
    assert_eq!(unchanged.header("etag"), Some("\"1\""));
    assert_eq!(get("/status/200").header("content-length"), Some("0"));
    assert_eq!(get("/fixed/3").body, filler(3));
    let connections: Vec<u64> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [connections[0]; 5], "the replica's connection is used again, too");
}

#[test]
fn declared_trailers_and_those_of_grpc_pass_and_no_others() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/trailers HTTP/1.1") + "te: trailers\r\n\r\n").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.trailers, [("x-sum".into(), "7".into()), ("grpc-status".into(), "0".into())]);
    let upload = "transfer-encoding: chunked\r\ntrailer: x-sum, authorization\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\
                  x-other: 1\r\nauthorization: Bearer x\r\ngrpc-extra: 2\r\nx-serviceos-tenant: t\r\n\r\n";
    client.write(head(&mesh, "POST /site/echo HTTP/1.1") + upload).unwrap();
    let seen = client.answer().unwrap().json();
    assert_eq!(seen["trailers"], json!([["x-sum", "7"], ["grpc-extra", "2"]]), "{seen}");
}

#[test]
fn events_arrive_one_by_one_as_they_are_sent() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/command HTTP/1.1") + "\r\n").unwrap();
    // The head comes while there is no event yet.
    let answer = client.answer_head().unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    for event in ["data: 1\n\n", "data: 2\n\n", ": nothing\n\n"] {
        upstream.say(event);
        assert_eq!(client.chunk().unwrap().as_deref(), Some(event.as_bytes()));
    }
    upstream.end();
    assert_eq!(client.chunk().unwrap(), None);
    assert_eq!(client.fields().unwrap(), []);
    client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().body, filler(3));
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_but_the_end_of_the_connection() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/chunked/20000 HTTP/1.0") + "connection: keep-alive\r\n\r\n").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.body == filler(20_000));
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/bare HTTP/1.1") + "\r\n").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(
        (answer.header("transfer-encoding"), answer.text().as_str()),
        (Some("chunked"), "until the end")
    );
    client.write(head(&mesh, "GET /site/bare HTTP/1.0") + "\r\n").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.header("transfer-encoding"), answer.text().as_str()), (None, "until the end"));
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    for version in ["1.1", "1.0"] {
        for how in ["fixed", "chunked"] {
            let mut client = Connection::open(mesh.gateway);
            client.write(head(&mesh, &format!("GET /site/break/{how} HTTP/{version}")) + "\r\n").unwrap();
            let answer = client.answer();
            assert!(answer.is_err(), "{how} to HTTP/{version}: {answer:?}");
        }
    }
}
