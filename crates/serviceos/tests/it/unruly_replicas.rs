//! Replicas that do not do what they should: what is said of each, and that nothing is left of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Mesh, Running, eventually, exists, kill, processes_of};

/// A server that SIGTERM does not end.
const STUBBORN: &str = r#"
import http.server, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
print("I stay", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SERVICEOS_PORT"])), Handler).serve_forever()
"#;

fn events(mesh: &Running, replica: &str) -> Vec<Value> {
    let printed = mesh.run(&["events", "web", "--json"]).out;
    let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["replica"] == replica).collect()
}

/// Its states, each with why it is in it.
fn states(mesh: &Running, replica: &str) -> Vec<(String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let states = events(mesh, replica).into_iter().filter(|event| event["kind"] == "state");
    states.map(|event| (text(&event, "to"), text(&event, "cause"))).collect()
}

fn why(mesh: &Running, replica: &str) -> Value {
    let printed = mesh.run(&["why", replica, "--json"]);
    assert_eq!(printed.code, 4, "{printed:?}");
    serde_json::from_str(&printed.out).unwrap()
}

/// Nothing runs but `up` and its quoter.
fn assert_nothing_of_replicas_left(mesh: &Running) {
    let left = processes_of(mesh.folder());
    assert!(left.len() == 2 && left.contains(&mesh.pid()), "{left:?}");
}

#[test]
fn a_replica_that_ignores_sigterm_is_killed_after_the_grace_and_nothing_is_left() {
    let mesh = Mesh::new();
    let script = mesh.folder().join("server.py");
    std::fs::write(&script, STUBBORN).unwrap();
    let keys = "replicas: 2, drain: {timeout: 1s, grace: 1s}, healthCheck: {path: /}";
    let service = format!("    web: {{command: [/usr/bin/python3, -S, '{}'], {keys}}}\n", script.display());
    let mut mesh = mesh.yaml(&service).up();
    let pids = mesh.pids("web");
    // The command ignores it; of the other replica the launcher does too.
    kill(pids[1], Signal::STOP);
    for replica in ["web/0", "web/1"] {
        let drained = mesh.run(&["drain", replica]);
        assert_eq!(drained.code, 0, "{drained:?}");
        let reason = format!("drained; `serviceos restart {replica}` starts it again");
        let expected = [("Draining".to_owned(), reason.clone()), ("Stopped".to_owned(), reason.clone())];
        assert_eq!(states(&mesh, replica)[2..], expected);
        let ready = &why(&mesh, replica)["ready"];
        assert_eq!((&ready["value"], &ready["reason"]), (&"Stopped".into(), &reason.into()));
        assert_eq!((&ready["pid"], &ready["crashLoop"]), (&Value::Null, &Value::Null));
    }
    let log = mesh.log();
    assert!(log.contains("the command did not end within its grace, and is killed"), "{log}");
    assert!(log.contains("the replica did not end by itself: killing it"), "{log}");
    assert!(pids.iter().all(|pid| !exists(*pid)));
    assert_nothing_of_replicas_left(&mesh);
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_replica_that_exits_as_if_all_were_well_is_a_crash_loop_with_its_code_and_its_last_lines() {
    let command =
        r#"    web: {command: ["/bin/sh", "-c", "echo nothing to do; exit 0"], restart: {max: 100ms}}"#;
    let mut mesh = Mesh::new().yaml(&format!("{command}\n")).up_when("a crash loop", |status| {
        let reason = status["services"][0]["replicas"][0]["reason"].as_str();
        reason.is_some_and(|reason| reason.starts_with("crash loop"))
    });
    for said in ["exited with code 0", "nothing to do", "before it accepted a connection"] {
        eventually(&format!("{said:?} in the status"), || {
            mesh.replicas("web")[0]["reason"].as_str()?.contains(said).then_some(())
        });
    }
    let found = &why(&mesh, "web/0")["ready"]["crashLoop"];
    assert!(found["ended"].as_u64().unwrap() >= 3, "{found}");
    assert_eq!((&found["exitCode"], &found["signal"]), (&0.into(), &Value::Null), "{found}");
    assert!(found["lastLines"].to_string().contains("nothing to do"), "{found}");
    let text = mesh.run(&["why", "web/0"]).out;
    assert!(text.contains("exited with code 0") && text.contains("| nothing to do"), "{text}");

    let states = states(&mesh, "web/0");
    let [(starting, _), (stopped, cause), (again, started)] = &states[..3] else { panic!("{states:?}") };
    assert_eq!([starting, stopped, again], ["Starting", "Stopped", "Starting"]);
    assert!(cause.contains("exited with code 0") && cause.contains("nothing to do"), "{cause}");
    assert_eq!(*started, format!("started again: {cause}"));
    let events = events(&mesh, "web/0");
    let crash_loop = events.iter().find(|event| event["kind"] == "crashLoop").unwrap();
    assert!(crash_loop["cause"].as_str().unwrap().contains("nothing to do"), "{crash_loop}");
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_replica_whose_port_never_opens_is_stopped_after_the_start_timeout_and_tried_again_later() {
    let keys = "startTimeout: 1s, restart: {min: 1m, max: 1m}, drain: {grace: 1s}";
    let command =
        format!(r#"    web: {{command: ["/bin/sh", "-c", "echo I wait; sleep 1000 & wait"], {keys}}}"#);
    let mut mesh = Mesh::new().yaml(&format!("{command}\n")).up_when("the start to be given up", |status| {
        status["services"][0]["replicas"][0]["state"] == "Stopped"
            && status["services"][0]["replicas"][0]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("start timeout"))
    });
    let reason = "not ready within the start timeout of 1s";
    let replica = &mesh.replicas("web")[0];
    assert_eq!((&replica["reason"], &replica["pid"]), (&reason.into(), &Value::Null));
    assert_eq!((&replica["selectable"], &replica["restarts"]), (&false.into(), &0.into()));
    let expected = [("Starting".to_owned(), String::new()), ("Stopped".to_owned(), reason.to_owned())];
    assert_eq!(states(&mesh, "web/0"), expected);
    let ready = &why(&mesh, "web/0")["ready"];
    assert_eq!((&ready["holds"], &ready["reason"]), (&false.into(), &reason.into()));
    mesh.until_logged(0, "the replica is started again after a wait");
    assert_nothing_of_replicas_left(&mesh);
    // Whoever does not want to wait for it starts it at once.
    let restarted = mesh.run(&["restart", "web/0"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    eventually("another start", || {
        let states = states(&mesh, "web/0");
        let restarted = ("Starting".to_owned(), "restarted".to_owned());
        states.get(2).is_some_and(|state| *state == restarted).then_some(())
    });
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_replica_that_was_left_and_does_not_answer_holds_up_no_second_signal() {
    let mut mesh = Mesh::new().with_ports_of_its_own().service("vrf", 1).up();
    let pid = mesh.pids("vrf")[0];
    mesh.signal(Signal::KILL);
    mesh.wait();
    // It keeps its port, and shows nobody who it is.
    kill(pid, Signal::STOP);
    let mesh = mesh.ended();
    let mut up = mesh.start();
    eventually("it to be looked at", || (mesh.run(&["status"]).code == 0).then_some(()));
    kill(up.id(), Signal::TERM);
    eventually("the first signal to be heard", || {
        std::fs::read_to_string(mesh.folder().join("up.out"))
            .ok()
            .filter(|out| out.contains("SIGTERM: draining"))
    });
    assert!(exists(pid), "it was not ended yet");
    let began = Instant::now();
    kill(up.id(), Signal::TERM);
    eventually("serviceos to end", || up.try_wait().unwrap());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!exists(pid));
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}
