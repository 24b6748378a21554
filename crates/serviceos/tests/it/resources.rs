//! What a replica may use, and what is left of it at its end. A machine gives this process control groups or it does not; `status`
//! says which, and both are tested as what they are.

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Mesh, Running, eventually, exists, has_program, kill, wait_until_gone};

/// Says what limits it has: `/limits`; takes memory: `/take/MIB`; and starts a process that leaves the process group: `/leave`.
const SERVER: &str = r#"
import http.server, json, os, resource, subprocess

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        word, _, rest = self.path[1:].partition('/')
        if word == 'limits':
            self.answer(200, {'files': resource.getrlimit(resource.RLIMIT_NOFILE),
                              'data': resource.getrlimit(resource.RLIMIT_DATA)})
        elif word == 'take':
            try:
                # Written to, since a page that nobody has touched is none.
                taken = bytearray(b'x') * (int(rest) << 20)
                self.answer(200, len(taken))
            except MemoryError:
                self.answer(507, 'too much')
        elif word == 'leave':
            left = subprocess.Popen(['/bin/sleep', '600'], start_new_session=True)
            self.answer(200, left.pid)
        else:
            self.answer(200, {})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
"#;

/// A mesh with the server as `app`.
fn up(resources: &str) -> Option<Running> {
    if !has_program("python3") {
        return None;
    }
    let mesh = Mesh::new().yaml(&format!(
        "    app: {{command: [python3, server.py], healthCheck: {{path: /}}, retry: {{attempts: 0}}, {resources}}}\n"
    ));
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    Some(mesh.up())
}

fn number(mesh: &Running, path: &str) -> u32 {
    let answer = mesh.get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    u32::try_from(answer.json().as_u64().unwrap()).unwrap()
}

#[test]
fn a_command_has_the_open_files_that_it_is_given_and_no_more() {
    let Some(mesh) = up("resources: {openFiles: 200}") else { return };
    let limits = mesh.get("/app/limits").json();
    assert_eq!(limits["files"], serde_json::json!([200, 200]));
    assert_eq!(mesh.status()["limits"]["unenforced"], serde_json::json!([]), "that is always done");
}

#[test]
fn a_command_that_takes_too_much_memory_fails_while_one_within_its_limit_serves() {
    let Some(mesh) = up("resources: {memory: 300MiB}") else { return };
    assert_eq!(number(&mesh, "/app/take/64"), 64 << 20);
    let limits = mesh.status()["limits"].clone();
    let pids = mesh.pids("app");
    if limits["memory"] == "cgroup" {
        assert_ne!(mesh.get("/app/take/600").status, 200);
        mesh.until_logged(0, "the replica needed more memory than `resources` gives it");
        eventually("another run", || Some(mesh.pids("app")).filter(|now| !now.is_empty() && *now != pids));
        mesh.until_selectable();
    } else {
        assert_eq!(limits["memory"], "process");
        let data = mesh.get("/app/limits").json()["data"].clone();
        assert_eq!(data, serde_json::json!([300 << 20, 300 << 20]), "it cannot be raised");
        assert_eq!(mesh.get("/app/take/600").status, 507);
        assert_eq!(mesh.pids("app"), pids, "the command has dealt with it");
    }
    assert_eq!(number(&mesh, "/app/take/64"), 64 << 20);
}

#[test]
fn what_is_not_enforced_is_said() {
    let Some(mesh) = up("resources: {memory: 1GiB, cpus: 1.5}") else { return };
    let limits = mesh.status()["limits"].clone();
    let (shown, log) = (mesh.run(&["status"]).out, mesh.log());
    let is_said = "services.app.resources.cpus is not enforced";
    let is_logged = log.matches("limits of replicas are not what the configuration says").count();
    let unenforced = limits["unenforced"].as_array().unwrap();
    if limits["cpus"] == "cgroup" && limits["memory"] == "cgroup" {
        assert_eq!((unenforced.len(), shown.contains(is_said), is_logged), (0, false, 0), "{limits}");
    } else {
        assert!(limits["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{limits}");
        assert_eq!(shown.contains(is_said), limits["cpus"] == "off", "{shown}");
        assert_eq!((unenforced.is_empty(), is_logged), (false, 1), "{limits}\n{log}");
    }
}

#[test]
fn what_a_replica_has_started_ends_with_it_also_outside_of_its_process_group() {
    let Some(mut mesh) = up("") else { return };
    let is_held = mesh.status()["limits"]["end"] == "cgroup";
    let end = |pid: u32, what: &str| {
        if is_held {
            wait_until_gone(pid);
        } else {
            assert!(exists(pid), "nothing here could have ended it: {what}");
            kill(pid, Signal::KILL);
        }
    };
    let pids = mesh.pids("app");
    let left = number(&mesh, "/app/leave");
    kill(pids[0], Signal::KILL);
    eventually("another run", || Some(mesh.pids("app")).filter(|now| !now.is_empty() && *now != pids));
    end(left, "the replica was killed");
    mesh.until_selectable();
    let left = number(&mesh, "/app/leave");
    let group = group_of(mesh.pids("app")[0]);
    assert_eq!(group == group_of(left), is_held || group == group_of(mesh.pid()), "{group:?}");
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    end(left, "it was drained");
    if let (true, Some(group)) = (is_held, group) {
        let groups = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = groups.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let point = mount.split(' ').nth(4).unwrap();
        assert!(!std::path::Path::new(&format!("{point}{group}")).exists(), "{group} is left");
    }
}

/// The group of a process in the hierarchy of version 2.
fn group_of(pid: u32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[test]
fn status_tells_how_limits_are_enforced_in_words_that_are_known() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let limits: Value = mesh.status()["limits"].clone();
    for (key, other) in
        [("memory", "process"), ("cpus", "off"), ("processes", "off"), ("end", "process group")]
    {
        let word = limits[key].as_str().unwrap();
        assert!(word == "cgroup" || word == other, "{key}: {word}");
    }
    println!("limits here: {limits}");
    assert_eq!(limits["unenforced"], serde_json::json!([]));
}

#[test]
fn what_is_not_enforced_is_said_too_when_it_comes_while_everything_runs_and_once() {
    let Some(mesh) = up("replicas: 1") else { return };
    assert_eq!(mesh.status()["limits"]["unenforced"], serde_json::json!([]));
    let file = mesh.folder().join("serviceos.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    let apply = |resources: &str| {
        let seen = mesh.log().len();
        std::fs::write(mesh.folder().join("new.yaml"), before.replace("replicas: 1", resources)).unwrap();
        std::fs::rename(mesh.folder().join("new.yaml"), &file).unwrap();
        mesh.until_logged(seen, "the configuration was applied");
    };
    apply("resources: {cpus: 1.5}");
    apply("resources: {cpus: 1.5}, drain: {timeout: 20s}");
    let limits = mesh.status()["limits"].clone();
    let said = mesh.log().matches("limits of replicas are not what the configuration says").count();
    if limits["cpus"] == "cgroup" {
        assert_eq!((&limits["unenforced"], said), (&serde_json::json!([]), 0));
    } else {
        assert_eq!(limits["unenforced"], serde_json::json!(["services.app.resources.cpus is not enforced"]));
        assert_eq!(said, 1, "{}", mesh.log());
        apply("replicas: 1, drain: {timeout: 20s}");
        assert_eq!(mesh.status()["limits"]["unenforced"], serde_json::json!([]));
    }
}
