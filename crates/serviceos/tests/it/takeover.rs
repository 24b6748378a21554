//! Another `up` takes the place of one that runs: the same replicas serve, and nobody loses a request.

mod clients;
mod failing;
mod in_two;
mod open_streams;
mod orders;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{
    Connection, GRPC, Mesh, Request, Running, Upstream, WEBSOCKETS, eventually, has_program, processes_of,
};

pub(crate) use clients::Clients;
use open_streams::{OpenStreams, Servers};

/// How often one takes the place of another under load.
const TAKEOVERS: usize = 10;
/// The longest that one may take, from the request to the first that is served. The target is 500 ms on a machine that does nothing
/// else; the tests of this folder run beside each other, without optimisation.
const LONGEST: Duration = Duration::from_secs(5);

/// What must be the same in a replica whoever looks after it.
pub(crate) fn who(mesh: &Running, service: &str) -> Vec<Value> {
    let replica = |replica: Value| {
        let id = replica["id"].as_str().unwrap();
        let why: Value = serde_json::from_str(&mesh.run(&["why", id, "--json"]).out).unwrap();
        json!({
            "pid": replica["pid"], "address": replica["address"], "restarts": replica["restarts"],
            "leaf": why["attested"]["evidence"]["leafSha256"],
        })
    };
    mesh.replicas(service).into_iter().map(replica).collect()
}

/// How long the takeover took that a log tells of.
fn elapsed(log: &str) -> Duration {
    let line = log.lines().find(|line| line.contains("the place of another serviceos is taken")).unwrap();
    let number = line.split("elapsed_ms=").nth(1).unwrap().split_whitespace().next().unwrap();
    Duration::from_millis(number.parse().unwrap())
}

#[test]
fn the_next_one_serves_with_the_same_replicas_and_sockets_and_the_one_before_ends() {
    let mut mesh = Mesh::new().service("vrf", 2).service("datafeed", 1).up();
    let (before, addresses) = ((who(&mesh, "vrf"), who(&mesh, "datafeed")), (mesh.gateway, mesh.admin));
    let keys = mesh.get("/v1/random/keys").json();
    let first = mesh.pid();
    let former = mesh.take_over();
    let finished = former.wait(&mesh);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.contains(&format!("taken over by pid {}", mesh.pid())), "{}", finished.out);
    assert_ne!(mesh.pid(), first);
    let events = mesh.run(&["events", "--json"]).out;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = events.into_iter().find(|event| event["kind"] == "takeover").unwrap();
    assert_eq!((&told["from"], &told["to"]), (&json!(first.to_string()), &json!(mesh.pid().to_string())));
    assert_eq!((&told["service"], &told["actor"]), (&Value::Null, &json!("operator")));
    let status = mesh.status();
    assert_eq!(status["pid"], mesh.pid());
    assert_eq!((&status["gateway"], &status["admin"]), (&json!(addresses.0), &json!(addresses.1)));
    mesh.until_selectable();
    assert_eq!((who(&mesh, "vrf"), who(&mesh, "datafeed")), before);
    assert_eq!(mesh.get("/v1/random/keys").json(), keys);
    assert_eq!(mesh.post("/v1/random", &json!({"min": 1, "max": 6})).status, 200, "they may write");
    mesh.signal(Signal::TERM);
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn ten_times_in_a_row_under_load_nobody_loses_a_request_and_open_streams_go_on() {
    // Where their programs are missing, what is left is the main thing.
    let servers = (has_program(GRPC) && has_program(WEBSOCKETS)).then(Servers::start);
    let mesh = Mesh::new().service("vrf", 3);
    let mut mesh = servers.iter().fold(mesh, |mesh, servers| servers.beside(mesh)).up();
    let before = who(&mesh, "vrf");
    let clients = Clients::begin(&mesh);
    let mut took = Vec::new();
    for takeover in 0..TAKEOVERS {
        clients.until_more(100);
        let mut streams = servers.as_ref().map(|_| OpenStreams::open(&mesh));
        streams.iter_mut().for_each(|streams| streams.echo("before"));
        let mut former = mesh.take_over();
        took.push(elapsed(&mesh.log()));
        clients.until_more(100);
        if let Some(mut streams) = streams {
            streams.echo("after");
            assert!(!former.has_ended(), "it waits for its streams");
            streams.close();
        }
        assert_eq!(former.wait(&mesh).code, 0);
        eventually("the one before to be gone", || {
            mesh.log().contains("the serviceos whose place was taken has ended").then_some(())
        });
        assert_eq!(who(&mesh, "vrf"), before, "after takeover {takeover}");
    }
    let fared = clients.end();
    println!("{took:?} {fared:?}");
    assert_eq!(fared.lost, BTreeSet::new(), "{fared:?}");
    assert!(took.iter().all(|took| *took < LONGEST), "{took:?}");
}

/// A server that has streams and tunnels, and a drain that is long enough for them.
fn streaming(upstream: &Upstream, drain: &str) -> Running {
    let routes = "{match: {path: \"/site/{*rest}\"}, public: true, stripPrefix: true}";
    let keys = format!("drain: {{timeout: {drain}}}, routes: [{routes}]");
    Mesh::new().endpoints_with("site", &[upstream.address], &keys).up()
}

const UPGRADE: &str = "GET /site/upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

#[test]
fn tunnels_and_streams_go_on_in_the_one_before_until_they_end() {
    let upstream = Upstream::new();
    let mut mesh = streaming(&upstream, "1m");
    let mut tunnel = Connection::open(mesh.gateway);
    tunnel.write(UPGRADE).unwrap();
    assert_eq!(tunnel.answer_head().unwrap().status, 101);
    let mut stream = Connection::open(mesh.gateway);
    stream.write("GET /site/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    upstream.say("before");
    assert_eq!(stream.answer_head().unwrap().status, 200);
    let said = |stream: &mut Connection<_>| String::from_utf8(stream.chunk().unwrap().unwrap()).unwrap();
    assert!(said(&mut stream).contains("before"));
    let mut echoes = |what: &str| {
        tunnel.write(what).unwrap();
        assert_eq!(tunnel.exactly(what.len()).unwrap(), what.as_bytes());
    };
    echoes("before");
    let mut former = mesh.take_over();
    upstream.say("after");
    assert!(said(&mut stream).contains("after"));
    echoes("after");
    assert_eq!(Request::new("GET", "/site/echo").send(mesh.gateway).status, 200, "others are served");
    assert!(!former.has_ended());
    upstream.end();
    assert_eq!(stream.chunk().unwrap(), None, "the end comes through");
    echoes("last");
    assert!(!former.has_ended());
    drop(tunnel);
    assert_eq!(former.wait(&mesh).code, 0);
}

#[test]
fn a_connection_that_idles_is_answered_once_more_and_told_that_it_ends() {
    let upstream = Upstream::new();
    let mut mesh = streaming(&upstream, "1m");
    let ask = "GET /site/echo HTTP/1.1\r\nhost: a\r\n\r\n";
    let [mut idle, mut silent, mut fresh] = [(); 3].map(|()| Connection::open(mesh.gateway));
    for used in [&mut idle, &mut silent] {
        used.write(ask).unwrap();
        assert_eq!(used.answer().unwrap().header("connection"), None);
    }
    let former = mesh.take_over();
    for connection in [&mut idle, &mut fresh] {
        connection.write(ask).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(connection.rest().unwrap(), b"");
    }
    let began = Instant::now();
    assert_eq!(silent.rest().unwrap(), b"", "nobody waits for it for ever");
    assert!(began.elapsed() > Duration::from_secs(1), "and it is not ended at once");
    assert_eq!(former.wait(&mesh).code, 0);
}
