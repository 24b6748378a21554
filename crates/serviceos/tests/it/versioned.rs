//! A service of which the file says the version, and what a watcher of the admin API is told of its replicas meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use testkit::{Mesh, Request, Running, eventually};

/// Answers with its version; where it is told so, one of so many of its answers to calls is an error.
const SERVER: &str = r#"
import http.server, itertools, os
version, fails_every, calls = os.environ["V"], int(os.environ["FAILS_EVERY"]), itertools.count(1)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        is_call = self.path == "/web/version"
        fails = is_call and fails_every > 0 and next(calls) % fails_every == 0
        body = version.encode()
        self.send_response(500 if fails else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SERVICEOS_PORT"])), Handler).serve_forever()
"#;

/// Where it is asked.
pub(crate) const PATH: &str = "/web/version";

/// What the file says of the service `web`.
#[derive(Clone, Copy)]
pub(crate) struct Web {
    pub(crate) version: &'static str,
    /// 0: none fails.
    pub(crate) fails_every: u32,
    pub(crate) replicas: usize,
    /// As a mapping in braces.
    pub(crate) rollout: &'static str,
}

/// The replicas of a service at one moment, by their id.
pub(crate) type Moment = BTreeMap<String, Value>;

impl Web {
    fn file(&self, mesh: &std::path::Path) -> String {
        let Self { version, fails_every, replicas, rollout } = self;
        let script = mesh.join("server.py");
        format!(
            "services:
  web:
    command: [/usr/bin/python3, -S, '{}']
    env: {{V: '{version}', FAILS_EVERY: '{fails_every}'}}
    version: '{version}'
    replicas: {replicas}
    rollout: {rollout}
    restart: {{max: 100ms}}
    healthCheck: {{path: /web, interval: 1s, timeout: 1s}}
    routes: [{{match: {{path: '/web/{{*rest}}'}}, public: true}}]
",
            script.display()
        )
    }

    /// A mesh in which it runs.
    pub(crate) fn up(&self) -> Running {
        let mesh = Mesh::new();
        std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
        mesh.write(&self.file(mesh.folder()));
        mesh.up()
    }

    /// From now on the file says this.
    pub(crate) fn change(&self, mesh: &Running) {
        let new = mesh.folder().join("new.yaml");
        std::fs::write(&new, self.file(mesh.folder())).unwrap();
        std::fs::rename(new, mesh.folder().join("serviceos.yaml")).unwrap();
    }
}

/// What has become of the service and its replicas so far. Whoever waits for something asks often, and takes no process for each time.
pub(crate) fn events(mesh: &Running) -> Vec<Value> {
    let token = std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
    let answer = Request::new("GET", "/v1/events?service=web").key(token.trim()).send(mesh.admin);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["events"].as_array().unwrap().clone()
}

/// What is said of rollouts so far.
pub(crate) fn told(mesh: &Running) -> Vec<String> {
    let of_rollouts = events(mesh).into_iter().filter(|event| event["kind"] == "rollout");
    of_rollouts.map(|event| event["to"].as_str().unwrap().to_owned()).collect()
}

/// Waits until so many rollouts have ended so.
pub(crate) fn until_told(mesh: &Running, times: usize, wanted: &str) {
    eventually(wanted, || {
        let found = told(mesh).iter().filter(|said| said.starts_with(wanted)).count();
        (found >= times).then_some(())
    });
}

/// The pids of all its replicas.
pub(crate) fn pids(mesh: &Running) -> BTreeSet<u32> {
    mesh.pids("web").into_iter().collect()
}

/// How many of them may be called.
pub(crate) fn selectable(moment: &Moment) -> usize {
    moment.values().filter(|replica| replica["selectable"] == true).count()
}

/// A watch of the admin API; ended when it is dropped.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ended_already = self.0.kill().is_err();
        let _reaped = self.0.wait().is_ok();
    }
}

/// Every moment of the service that a watcher is told of while the work is done.
pub(crate) fn watched(mesh: &Running, work: impl FnOnce()) -> Vec<Moment> {
    let mut command = mesh.command();
    command.args(["instances", "web", "--watch", "--json"]).stdout(Stdio::piped());
    let mut watch = Watch(command.spawn().unwrap());
    let mut events = BufReader::new(watch.0.stdout.take().unwrap());
    let first = next(&mut events, &Moment::new()).expect("what there is at first");
    std::thread::scope(|scope| {
        let watching = scope.spawn(move || {
            let mut moments = vec![first];
            while let Some(moment) = next(&mut events, &moments[moments.len() - 1]) {
                moments.push(moment);
            }
            moments
        });
        let ending = watch;
        work();
        drop(ending);
        let moments = watching.join().unwrap();
        assert!(moments.len() > 1, "the watcher was told of nothing");
        moments
    })
}

fn next(events: &mut BufReader<ChildStdout>, before: &Moment) -> Option<Moment> {
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    // The last line is half of one where the watcher was killed in the middle of it.
    let event: Value = serde_json::from_str(&line).ok()?;
    let mut moment = before.clone();
    let changed = event["instances"].as_array().or_else(|| event["changed"].as_array());
    for entry in changed.into_iter().flatten() {
        moment.insert(entry["id"].as_str().unwrap().to_owned(), entry.clone());
    }
    for gone in event["removed"].as_array().into_iter().flatten() {
        moment.remove(gone.as_str().unwrap());
    }
    Some(moment)
}
