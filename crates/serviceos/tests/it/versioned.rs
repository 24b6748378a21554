//! A service of which the file says the version, and what a watcher of the admin API is told of its replicas meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use testkit::{Mesh, Request, Running, eventually};

/// Answers with its version; where it is told so, one of so many of its answers to calls is an error. It is asked for its health at a path
/// that only this version knows. It ends at once where it is `bad` or there is a file `bad-VERSION` beside it, of `held` once there is
/// `let-go-held`, and takes its time to start where there is `slow-VERSION`.
pub(crate) const SERVER: &str = r#"
import http.server, itertools, os, sys, time
version, fails_every, calls = os.environ["V"], int(os.environ["FAILS_EVERY"]), itertools.count(1)
is_so = lambda what: os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{what}-{version}"))
while version == "held" and not is_so("let-go"):
    time.sleep(0.02)
if version in ("bad", "held") or is_so("bad"):
    print("no model"); sys.exit(3)
if is_so("slow"):
    time.sleep(5)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        is_call = self.path == "/web/version"
        fails = is_call and fails_every > 0 and next(calls) % fails_every == 0
        is_known = not self.path.startswith("/health/") or self.path == "/health/" + os.environ.get("V")
        body = version.encode()
        self.send_response(500 if fails else 200 if is_known else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["SERVICEOS_PORT"])), Handler).serve_forever()
"#;

/// Where it is asked.
pub(crate) const PATH: &str = "/web/version";

/// The replicas of a service at one moment, by their id.
pub(crate) type Moment = BTreeMap<String, Value>;

/// What the file says of the service `web`.
#[derive(Clone, Copy)]
pub(crate) struct Web<'a> {
    /// Lines above the services.
    pub(crate) head: &'a str,
    pub(crate) version: &'a str,
    /// 0: none fails.
    pub(crate) fails_every: u32,
    pub(crate) replicas: usize,
    /// As a mapping in braces.
    pub(crate) rollout: &'a str,
    /// Another key of it.
    pub(crate) more: &'a str,
}

impl<'a> Web<'a> {
    /// The first version, of which two replicas are rolled out so.
    pub(crate) const fn rolled(rollout: &'a str) -> Self {
        Self { head: "", version: "1.0.0", fails_every: 0, replicas: 2, rollout, more: "" }
    }

    /// The file, where the program is in this folder.
    pub(crate) fn text(&self, program: &Path) -> String {
        let Self { head, version, fails_every, replicas, rollout, more } = self;
        let script = program.join("server.py");
        format!(
            "{head}services:
  web:
    command: [/usr/bin/python3, -S, '{}']
    env: {{V: '{version}', FAILS_EVERY: '{fails_every}'}}
    version: '{version}'
    replicas: {replicas}
    rollout: {rollout}
    restart: {{max: 100ms}}
    {more}
    healthCheck: {{path: /health/{version}, interval: 1s, timeout: 1s}}
    routes: [{{match: {{path: '/web/{{*rest}}'}}, public: true}}]
",
            script.display()
        )
    }

    /// A mesh in which it runs.
    pub(crate) fn up(&self) -> Running {
        self.up_in(Mesh::new())
    }

    pub(crate) fn up_in(&self, mesh: Mesh) -> Running {
        std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
        mesh.write(&self.text(mesh.folder()));
        mesh.up()
    }

    /// From now on the file says this.
    pub(crate) fn change(&self, mesh: &Running) {
        self.change_from(mesh.folder(), mesh);
    }

    /// The same where the program is in another folder.
    pub(crate) fn change_from(&self, program: &Path, mesh: &Running) {
        let new = mesh.folder().join("new.yaml");
        std::fs::write(&new, self.text(program)).unwrap();
        std::fs::rename(new, mesh.folder().join("serviceos.yaml")).unwrap();
    }
}

/// The version that a call is answered by.
pub(crate) fn version(mesh: &Running) -> String {
    Request::new("GET", PATH).send(mesh.gateway).text()
}

/// From now on processes of this version are as the server's name for it says.
pub(crate) fn flag(mesh: &Running, what: &str, version: &str) {
    std::fs::write(mesh.folder().join(format!("{what}-{version}")), "").unwrap();
}

/// The processes that serve, and the label of what each runs.
pub(crate) fn serving(mesh: &Running, service: &str) -> BTreeMap<u32, String> {
    let of = |replica: &Value| {
        let pid = u32::try_from(replica["pid"].as_u64()?).ok()?;
        let label = replica["versionId"].as_str()?.split('-').next()?.to_owned();
        (replica["selectable"] == true).then_some((pid, label))
    };
    mesh.replicas(service).iter().filter_map(of).collect()
}

pub(crate) fn of_version(serving: &BTreeMap<u32, String>, label: &str) -> BTreeSet<u32> {
    serving.iter().filter(|(_, found)| *found == label).map(|(pid, _)| *pid).collect()
}

/// Waits until the configuration in force says this version, and not the other one.
pub(crate) fn until_it_says(mesh: &Running, version: &str, other: &str) {
    eventually("the configuration to say what runs", || {
        let shown = mesh.run(&["config", "show"]).out;
        (shown.contains(version) && !shown.contains(other)).then_some(())
    });
}

/// What has become of a service and its replicas so far. Whoever waits for something asks often, and takes no process for each time.
pub(crate) fn events(mesh: &Running, service: &str) -> Vec<Value> {
    let token = std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
    let path = format!("/v1/events?service={service}");
    let answer = Request::new("GET", &path).key(token.trim()).send(mesh.admin);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["events"].as_array().unwrap().clone()
}

/// What is said of rollouts so far.
pub(crate) fn told(mesh: &Running, service: &str) -> Vec<String> {
    let of_rollouts = events(mesh, service).into_iter().filter(|event| event["kind"] == "rollout");
    of_rollouts.map(|event| event["to"].as_str().unwrap().to_owned()).collect()
}

/// Waits until this is said of a rollout; gives all that is said then.
pub(crate) fn until_told(mesh: &Running, service: &str, wanted: &str) -> Vec<String> {
    eventually(wanted, || {
        Some(told(mesh, service)).filter(|told| told.iter().any(|said| said.contains(wanted)))
    })
}

/// Waits until so many rollouts of `web` have ended so.
pub(crate) fn until_ended(mesh: &Running, times: usize, how: &str) {
    eventually(how, || {
        let found = told(mesh, "web").iter().filter(|said| said.starts_with(how)).count();
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
