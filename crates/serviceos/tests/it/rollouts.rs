//! Another version of a service takes the place of the one that runs, while everything runs.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{Mesh, Request, Running, eventually};

use crate::load::under_load;

/// A server that says which version it is, at `/web/version`, and is asked for its health at a path that only this version knows; of
/// version `bad` it ends at once, of `held` once there is a file `let-go` beside it.
pub(crate) const SERVER: &str = r#"
import http.server, os, sys, time
version = os.environ["V"]
let_go = os.path.join(os.path.dirname(os.path.abspath(__file__)), "let-go")
while version == "held" and not os.path.exists(let_go):
    time.sleep(0.02)
if version in ("bad", "held"):
    print("no model"); sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = version.encode()
        is_known = not self.path.startswith("/health/") or self.path == "/health/" + os.environ.get("V")
        self.send_response(200 if is_known else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SERVICEOS_PORT"])), Handler).serve_forever()
"#;

/// The file, with two replicas of a version, and more keys.
pub(crate) fn file(folder: &std::path::Path, version: &str, more: &str) -> String {
    let script = folder.join("server.py");
    format!(
        "services:\n  web:\n    command: [/usr/bin/python3, '{}']\n    env: {{V: '{version}'}}\n    version: '{version}'\n    replicas: 2\n    {more}\n    healthCheck: {{path: /health/{version}, interval: 1s, timeout: 1s, unhealthyThreshold: 1}}\n    routes: [{{match: {{path: '/web/{{*rest}}'}}, public: true}}]\n",
        script.display()
    )
}

pub(crate) const QUICK: &str = "rollout: {minReady: 0s}\n    restart: {max: 100ms}";

pub(crate) fn up(more: &str) -> Running {
    let mesh = Mesh::new();
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    mesh.write(&file(mesh.folder(), "1.0.0", more));
    mesh.up()
}

pub(crate) fn change(mesh: &Running, version: &str, more: &str) {
    let text = file(mesh.folder(), version, more);
    std::fs::write(mesh.folder().join("new.yaml"), text).unwrap();
    std::fs::rename(mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml")).unwrap();
}

pub(crate) fn version(mesh: &Running) -> String {
    Request::new("GET", "/web/version").send(mesh.gateway).text()
}

/// Waits until the events of the service say this of a rollout.
pub(crate) fn until_rollout(mesh: &Running, wanted: &str) -> String {
    eventually(wanted, || {
        let printed = mesh.run(&["events", "web", "--json"]).out;
        let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut told = events.filter(|event| event["kind"] == "rollout");
        told.find_map(|event| Some(event["to"].as_str()?.to_owned()).filter(|to| to.contains(wanted)))
    })
}

#[test]
fn a_changed_version_in_the_file_is_rolled_out_and_loses_nothing() {
    let mesh = up(QUICK);
    assert_eq!(version(&mesh), "1.0.0");
    let pids: BTreeSet<_> = mesh.pids("web").into_iter().collect();
    under_load(&mesh, "/web/version", |load| {
        change(&mesh, "2.0.0", QUICK);
        until_rollout(&mesh, "done");
        load.until_more(4);
    });
    assert_eq!(version(&mesh), "2.0.0");
    assert!(mesh.pids("web").iter().all(|pid| !pids.contains(pid)));
    let shown = mesh.run(&["config", "show", "--json"]).out;
    assert!(shown.contains("2.0.0"), "{shown}");
}

#[test]
fn a_version_that_cannot_start_is_given_up_and_the_configuration_says_again_what_runs() {
    let mesh = up(QUICK);
    let pids: BTreeSet<_> = mesh.pids("web").into_iter().collect();
    under_load(&mesh, "/web/version", |load| {
        // The change of the service that is no part of a version stays, so that the text before is not what is written.
        change(&mesh, "bad", &format!("{QUICK}\n    drain: {{timeout: 7s}}"));
        let why = until_rollout(&mesh, "reverted");
        assert!(why.contains("no model"), "{why}");
        load.until_more(4);
    });
    eventually("the configuration to say what runs", || {
        let shown = mesh.run(&["config", "show"]).out;
        (shown.contains("1.0.0") && shown.contains("7s") && !shown.contains("bad")).then_some(())
    });
    assert_eq!(version(&mesh), "1.0.0");
    assert_eq!(
        mesh.pids("web").into_iter().collect::<BTreeSet<_>>(),
        pids,
        "the old ones were never touched"
    );
}

#[test]
fn each_version_is_checked_as_was_said_of_it_whatever_comes_in_between() {
    // Each is Ready a while before the next one goes, so that the file changes in the midst of it.
    let slow = "rollout: {minReady: 3s}\n    restart: {max: 100ms}";
    let mesh = up(slow);
    under_load(&mesh, "/web/version", |load| {
        change(&mesh, "2.0.0", slow);
        eventually("one of the second version", || (version(&mesh) == "2.0.0").then_some(()));
        change(&mesh, "3.0.0", slow);
        eventually("one of the third version", || (version(&mesh) == "3.0.0").then_some(()));
        change(&mesh, "1.0.0", slow);
        until_rollout(&mesh, "reverted: somebody wants it so");
        load.until_more(4);
    });
    assert_eq!(version(&mesh), "1.0.0");
    let unhealthy = mesh.log().lines().filter(|line| line.contains("answered 404")).count();
    assert_eq!(unhealthy, 0, "{}", mesh.log());
}
