//! Services and instances as others see them, and what becomes of them as it happens.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Connection, Mesh, Running, eventually, kill};

use crate::fleet::Fleet;

/// A stream of the admin port.
struct Stream(Connection<TcpStream>);

/// One of its events.
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Stream {
    fn open(mesh: &Running, path: &str, last: Option<&str>) -> Self {
        let token = std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let mut connection = Connection::open(mesh.admin);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{last}\r\n");
        connection.write(request).unwrap();
        let head = connection.answer_head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self(connection)
    }

    /// The next event; `None` when the stream has ended as it should.
    fn next(&mut self) -> Option<Event> {
        loop {
            let text = String::from_utf8(self.0.chunk().unwrap()?).unwrap();
            assert!(text.ends_with("\n\n"), "an event is written whole: {text}");
            let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let Some(name) = field("event: ") {
                let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                return Some(Event { name, id: field("id: ").unwrap(), data });
            }
        }
    }

    /// Reads on until a replica is told to be so; what was told of it then, and the id of that event.
    fn until(&mut self, id: &str, wanted: impl Fn(&Value) -> bool) -> (Value, String) {
        loop {
            let event = self.next().expect("the stream goes on");
            assert_eq!(event.name, "changes");
            let changed = event.data["changed"].as_array().unwrap();
            assert!(
                changed.iter().all(|entry| entry["service"] == "vrf"),
                "only what is watched: {changed:?}"
            );
            if let Some(entry) = changed.iter().find(|entry| entry["id"] == id && wanted(entry)) {
                return (entry.clone(), event.id);
            }
        }
    }
}

fn instances(mesh: &Running, arguments: &[&str]) -> Value {
    let finished = mesh.run(&[&["instances", "--json"], arguments].concat());
    assert_eq!(finished.code, 0, "{}", finished.err);
    serde_json::from_str(&finished.out).unwrap()
}

#[test]
fn a_watcher_sees_a_killed_replica_go_and_another_run_of_it_come() {
    const PATH: &str = "/v1/services/vrf/instances?watch=0";
    let mesh = Mesh::new().service("vrf", 2).service("datafeed", 1).up();
    let mut stream = Stream::open(&mesh, PATH, None);
    let first = stream.next().unwrap();
    assert_eq!((first.name.as_str(), &first.data["revision"]), ("snapshot", &first.id.as_str().into()));
    let before = first.data["instances"][1].clone();
    assert_eq!((&before["id"], &before["selectable"]), (&"vrf/1".into(), &true.into()));

    kill(mesh.pids("vrf")[1], Signal::KILL);
    let (gone, seen) = stream.until("vrf/1", |entry| entry["selectable"] == false);
    assert_eq!((&gone["instance"], &gone["address"]), (&Value::Null, &Value::Null));
    let (back, last) = stream.until("vrf/1", |entry| entry["selectable"] == true);
    assert_ne!(back["instance"], before["instance"], "a start makes another run");
    assert!(back["instance"].is_string() && back["address"].is_string());

    // Another connection goes on where this one was.
    let mut resumed = Stream::open(&mesh, PATH, Some(&seen));
    let (again, caught_up) = resumed.until("vrf/1", |_| true);
    assert_eq!((&again["instance"], caught_up), (&back["instance"], last.clone()));
    let mut of_query = Stream::open(&mesh, &PATH.replace("watch=0", &format!("watch={seen}")), None);
    assert_eq!(of_query.until("vrf/1", |_| true).1, last);

    // It ends with `up`, and what another run has said is nothing to the next.
    assert_eq!(mesh.run(&["down"]).code, 0);
    assert!(std::iter::from_fn(|| stream.next()).all(|event| event.name == "changes"));
    let mesh = mesh.up_again();
    let mut stream = Stream::open(&mesh, PATH, Some(&last));
    let told = stream.next().unwrap();
    assert_eq!((told.name.as_str(), told.data["instances"].as_array().unwrap().len()), ("snapshot", 2));
}

#[test]
fn services_and_instances_are_listed_with_what_the_file_says_of_them() {
    let attributes = ", zone: eu-1b, weight: 3, metadata: {rack: 7}";
    let mesh = Mesh::new().service("vrf", 1);
    let fleet = Fleet::behind(mesh, &[attributes, ""], "protocol: http1, required: false");
    let listed = fleet.mesh.run(&["services", "--json"]);
    let mut listed: Value = serde_json::from_str(&listed.out).unwrap();
    // It goes by what this program was measured as.
    let id = listed["services"][0]["versionId"].take();
    let spec = id.as_str().unwrap().strip_prefix("1.0.0-").unwrap();
    assert!(spec.len() == 8 && spec.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert_eq!(
        listed,
        json!({"services": [
            {"name": "vrf", "version": "1.0.0", "versionId": null, "kind": "builtin", "required": true, "desired": 1, "ready": 1,
             "selectable": 1, "routes": 2},
            {"name": "site", "version": "1.0.0", "versionId": "1.0.0", "kind": "endpoints", "required": false, "desired": 2, "ready": 2,
             "selectable": 2, "routes": 2},
        ]})
    );
    let site = instances(&fleet.mesh, &["site"]);
    let of = |place: usize, key: &str| site["instances"][place][key].clone();
    assert_eq!(of(0, "address"), fleet.servers[0].address.to_string());
    assert_eq!(
        (of(0, "zone"), of(0, "metadata"), of(0, "weight")),
        ("eu-1b".into(), json!({"rack": "7"}), 3.into())
    );
    assert_eq!(
        (of(1, "zone"), of(1, "metadata"), of(1, "protocol")),
        (Value::Null, json!({}), "http1".into())
    );
    assert_eq!((of(0, "identity"), of(0, "attestation")), (Value::Null, "exempt".into()));
    let all = instances(&fleet.mesh, &[]);
    let vrf = &all["instances"][0];
    assert_eq!((&vrf["version"], &vrf["versionId"]), (&"1.0.0".into(), &id));
    assert_eq!(
        (&vrf["id"], &vrf["protocol"], all["instances"].as_array().unwrap().len()),
        (&"vrf/0".into(), &"http1".into(), 3)
    );
    assert_eq!(vrf["identity"], "spiffe://serviceos.dev.invalid/service/vrf/0");
    let unknown = fleet.mesh.run(&["instances", "oracle"]);
    assert_eq!((unknown.code, unknown.err.contains("(SERVICE_UNKNOWN)")), (1, true), "{}", unknown.err);
    let unknown = fleet.mesh.run(&["instances", "oracle", "--watch"]);
    assert_eq!((unknown.code, unknown.err.contains("(SERVICE_UNKNOWN)")), (1, true), "{}", unknown.err);
    for table in [&["services"][..], &["instances"], &["instances", "site"]] {
        let shown = fleet.mesh.run(table);
        assert!(shown.code == 0 && shown.out.contains("site"), "{table:?}: {}{}", shown.out, shown.err);
    }
}

/// `serviceos instances --watch`, line by line.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn begin(mesh: &Running, arguments: &[&str]) -> Self {
        let mut command = mesh.command();
        command.args(["instances", "--watch"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn code(&mut self) -> Option<i32> {
        eventually("the watch to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended_already = self.child.kill().is_err();
        let _reaped = self.child.wait().is_ok();
    }
}

#[test]
fn a_watch_prints_a_line_for_each_event_and_ends_with_0() {
    let mut fleet = Fleet::up(&["", ""], "");
    let mut all = Watching::begin(&fleet.mesh, &[]);
    let first = all.next().unwrap();
    assert_eq!((&first["event"], first["instances"].as_array().unwrap().len()), (&"snapshot".into(), 2));
    let mut interrupted = Watching::begin(&fleet.mesh, &["site", "--json"]);
    interrupted.next().unwrap();

    // A reload that takes an endpoint away and gives the other one another zone.
    fleet.reload(&[(1, ", zone: b")], "");
    let mut told = Vec::new();
    while !told.iter().any(|event: &Value| event["removed"] == json!(["site/0"])) {
        told.push(all.next().unwrap());
        assert_eq!(told[told.len() - 1]["event"], "changes");
    }
    let changed = told.iter().flat_map(|event| event["changed"].as_array().unwrap());
    let zones: Vec<_> = changed.map(|entry| (entry["id"].clone(), entry["zone"].clone())).collect();
    assert!(zones.contains(&("site/1".into(), "b".into())), "{zones:?}");

    kill(interrupted.child.id(), Signal::INT);
    assert_eq!(interrupted.code(), Some(0));
    fleet.mesh.signal(Signal::TERM);
    while all.next().is_some() {}
    assert_eq!((all.code(), fleet.mesh.wait().code), (Some(0), 0));
}

#[test]
fn a_watch_of_an_up_that_is_killed_fails_and_one_that_nobody_reads_ends() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let mut unread = Watching::begin(&mesh, &[]);
    unread.next().unwrap();
    let mut all = Watching::begin(&mesh, &["vrf"]);
    all.next().unwrap();
    let Watching { lines, .. } = &mut unread;
    // Its end of the pipe is exchanged for one of a process that is gone.
    let mut other = mesh.command().arg("--version").stdout(Stdio::piped()).spawn().unwrap();
    *lines = BufReader::new(other.stdout.take().unwrap());
    other.wait().unwrap();
    kill(mesh.pids("vrf")[0], Signal::KILL);
    assert_eq!(unread.code(), Some(0));
    mesh.signal(Signal::KILL);
    while all.next().is_some() {}
    assert_eq!(all.code(), Some(3));
    mesh.wait();
}
