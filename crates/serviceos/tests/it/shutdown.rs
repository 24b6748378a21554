//! Stopping: requests in flight finish, nothing is left, and a second order does not wait.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use http::HeaderMap;
use rustix::process::Signal;
use serde_json::json;
use testkit::{Answer, Connection, Http2, Mesh, Request, Running, Upstream, eventually, processes_of};

/// A server that the oracle asks and that answers only when the test lets it.
pub(crate) struct Slow {
    listener: TcpListener,
}

impl Slow {
    pub(crate) fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().unwrap())
    }

    pub(crate) fn mesh(&self) -> Running {
        let (url, address) = (self.url(), self.listener.local_addr().unwrap());
        let config = format!(
            "    oracle: {{config: {{allow: [{{url: \"{url}\"}}], allowLoopback: [\"{address}\"]}}}}\n"
        );
        Mesh::new().yaml(&config).up()
    }

    /// A client that asks the oracle for it, and the question, which is held.
    pub(crate) fn ask(&self, mesh: &Running) -> (JoinHandle<Answer>, TcpStream) {
        let (gateway, key, body) = (mesh.gateway, mesh.key.clone(), query(self));
        let client = std::thread::spawn(move || {
            Request::new("POST", "/v1/oracle/query").key(&key).json(&body).send(gateway)
        });
        (client, self.asked())
    }

    /// Waits for the request and holds it.
    pub(crate) fn asked(&self) -> TcpStream {
        self.listener.set_nonblocking(true).unwrap();
        let (mut stream, _) = eventually("the oracle's question", || self.listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
    }
}

pub(crate) fn answer(mut held: TcpStream) {
    held.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"a\": 42}",
    )
    .unwrap();
}

pub(crate) fn query(slow: &Slow) -> serde_json::Value {
    json!({"url": slow.url(), "jsonPath": "$.a"})
}

fn says(mesh: &Running, text: &str) {
    eventually(text, || {
        std::fs::read_to_string(mesh.folder().join("up.out")).ok().filter(|out| out.contains(text))
    });
}

#[test]
fn a_request_in_flight_finishes_before_anything_stops() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    let (client, held) = slow.ask(&mesh);
    mesh.signal(Signal::TERM);
    says(&mesh, "SIGTERM: draining");
    answer(held);
    let answered = client.join().unwrap();
    assert_eq!((answered.status, &answered.json()["result"]), (200, &json!(42)));
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.contains("stopped: no replica is left"), "{}", finished.out);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

/// A server behind a route that reads bodies whole and one that does not, with so long a drain.
fn before(upstream: &Upstream, drain: &str) -> Mesh {
    let routes = "{match: {path: \"/judged/{*rest}\"}, public: true, stripPrefix: true, request: {schema: {type: object}}}, \
        {match: {path: \"/site/{*rest}\"}, public: true, stripPrefix: true}";
    let keys = format!("drain: {{timeout: {drain}}}, routes: [{routes}]");
    Mesh::new().endpoints_with("site", &[upstream.address], &keys)
}

const BODY: &[u8] = b"{\"a\": 42}";

/// A request whose body is being read to be judged: only its head has come, and the gateway has asked for more.
fn being_read(mesh: &Running) -> Connection<TcpStream> {
    let mut connection = Connection::open(mesh.gateway);
    let head = format!(
        "POST /judged/mirror HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        BODY.len()
    );
    connection.write(head).unwrap();
    assert_eq!(connection.exactly(CONTINUE.len()).unwrap(), CONTINUE);
    connection
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn a_request_whose_body_is_still_read_is_in_flight_and_finishes() {
    let upstream = Upstream::new();
    let mut mesh = before(&upstream, "1m").up();
    let mut connection = being_read(&mesh);
    mesh.signal(Signal::INT);
    says(&mesh, "waiting for 1 request in flight");
    connection.write(BODY).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, BODY));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(mesh.wait().code, 0);
}

#[test]
fn whoever_has_no_answer_when_the_time_is_over_is_told_so_and_its_call_ends() {
    let upstream = Upstream::new();
    let mut mesh = before(&upstream, "1s").up();
    let mut read = being_read(&mesh);
    let mut waiting = Connection::open(mesh.gateway);
    waiting.write("GET /site/wait HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let client = Http2::connect(mesh.gateway);
    let second = std::thread::spawn(move || {
        let request = |kind| Http2::request("POST", "/site/wait", &[("content-type", kind)]);
        let requests = ["application/json", "application/grpc"]
            .map(|kind| (request(kind), Vec::new(), HeaderMap::new()));
        client.together(requests.into())
    });
    eventually("three calls", || (upstream.count() == 3).then_some(()));
    mesh.signal(Signal::TERM);
    for connection in [&mut read, &mut waiting] {
        let answer = connection.answer().unwrap();
        assert_eq!(answer.problem(), (503, "DRAINING".into()));
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
        assert_eq!(connection.rest().unwrap(), b"", "the connection has ended");
    }
    let answers: Vec<_> = second.join().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0].problem(), (503, "DRAINING".into()));
    assert_eq!((answers[1].status, answers[1].header("grpc-status")), (200, Some("14")));
    eventually("the calls to be given up", || upstream.seen().iter().all(|seen| seen.gone).then_some(()));
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.contains("stopped: no replica is left"), "{}", finished.out);
}

#[test]
fn a_second_signal_stops_at_once() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    let (client, held) = slow.ask(&mesh);
    mesh.signal(Signal::INT);
    says(&mesh, "Ctrl-C: draining");
    mesh.signal(Signal::INT);
    let finished = mesh.wait();
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.err.contains("stopped at once"), "{}", finished.err);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
    assert_eq!(client.join().unwrap().problem(), (503, "DRAINING".into()));
    drop(held);
}

#[test]
fn down_returns_when_everything_has_ended() {
    let mut mesh = Mesh::new().service("vrf", 2).service("datafeed", 1).up();
    let down = mesh.run(&["down"]);
    assert_eq!((down.code, down.err.as_str()), (0, ""), "{}", down.out);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn an_interrupt_in_the_middle_of_starting_leaves_nothing() {
    let mesh = Mesh::new().service("vrf", 8);
    let mut child = mesh.start();
    let up = child.id();
    eventually("a replica's process", || processes_of(mesh.folder()).into_iter().find(|pid| *pid != up));
    testkit::kill(up, Signal::INT);
    let finished = mesh.finished(eventually("serviceos to end", || child.try_wait().unwrap()));
    assert_eq!(finished.code, 0, "{finished:?}");
    // What was only just started is told to end by the end of `up` itself, and has yet to do so.
    eventually("nothing to be left", || processes_of(mesh.folder()).is_empty().then_some(()));
}

#[test]
fn a_restart_keeps_the_keys() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let before = mesh.get("/v1/random/keys").json();
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    let mesh = mesh.up_again();
    assert_eq!(mesh.get("/v1/random/keys").json(), before);
}
