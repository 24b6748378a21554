//! Orders that come while it is open which of two `up` serves, and a place that cannot be taken back.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::json;
use testkit::{Former, Mesh, Request, Running, eventually, kill, processes_of};

use super::who;
use crate::shutdown::{Slow, answer};

const UNTAKEN: &str = "this one cannot take its place back";

/// A start on this folder waits, once everything was handed over to it, until somebody reads the pipe that is its access log now.
struct Pipe(PathBuf);

impl Pipe {
    fn mesh() -> (Running, Self) {
        let mesh = Mesh::new().service("vrf", 2);
        let path = mesh.folder().join("access.log");
        let log = format!("telemetry: {{accessLog: '{}'}}\n", path.display());
        (mesh.head(&log).up(), Self(path))
    }

    fn lay(&self) {
        std::fs::rename(&self.0, self.0.with_extension("old")).unwrap();
        mkfifoat(CWD, &self.0, Mode::RUSR | Mode::WUSR).unwrap();
    }

    fn read(&self) -> JoinHandle<u64> {
        let path = self.0.clone();
        std::thread::spawn(move || {
            std::io::copy(&mut File::open(path).unwrap(), &mut std::io::sink()).unwrap()
        })
    }
}

/// What a start writes anew is a folder now.
fn lay_something_in_its_way(mesh: &Running) -> PathBuf {
    let path = mesh.folder().join(".serviceos/run/admin.token");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    path
}

/// Another `up` that fails for the same reason for which the one before cannot take its place back.
fn fail(mesh: &mut Running) {
    let former = mesh.begin_takeover();
    let failed = mesh.failed_takeover(former);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("failed to write the admin token"), "{failed:?}");
    mesh.until_logged(0, UNTAKEN);
}

fn until_it_waits(mesh: &Running, former: &Former) {
    eventually("everything to be handed over", || {
        former.log(mesh).contains("everything is handed over").then_some(())
    });
}

/// One that is told to stop once it has handed everything over, and before the other one serves.
fn told_to_stop_while_it_is_taken_over() -> (Running, Pipe, Former) {
    let (mut mesh, pipe) = Pipe::mesh();
    pipe.lay();
    let former = mesh.begin_takeover();
    until_it_waits(&mesh, &former);
    former.signal(Signal::TERM);
    eventually("the order", || former.out(&mesh).contains("SIGTERM: waits until").then_some(()));
    (mesh, pipe, former)
}

fn says(mesh: &Running, text: &str) {
    let out = mesh.folder().join("up.out");
    eventually(text, || std::fs::read_to_string(&out).unwrap().contains(text).then_some(()));
}

#[test]
fn a_place_that_cannot_be_taken_back_is_served_in_until_it_can_and_nobody_loses_a_request() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    let (before, pid) = (who(&mesh, "vrf"), mesh.pid());
    let (gateway, keys) = (mesh.gateway, Request::new("GET", "/v1/random/keys").key(&mesh.key));
    let asks = || (0..100).for_each(|_| assert_eq!(keys.clone().send(gateway).status, 200));
    let in_its_way = lay_something_in_its_way(&mesh);
    fail(&mut mesh);
    asks();
    std::fs::remove_dir(&in_its_way).unwrap();
    mesh.until_logged(0, "the place of another serviceos is taken");
    asks();
    assert_eq!((who(&mesh, "vrf"), mesh.pid()), (before, pid));
    mesh.until_logged(0, "the serviceos whose place was taken has ended");
    assert_eq!(mesh.take_over().wait(&mesh).code, 0);
}

#[test]
fn one_that_cannot_take_its_place_back_ends_in_order_when_it_is_told_to() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    let (client, held) = slow.ask(&mesh);
    lay_something_in_its_way(&mesh);
    fail(&mut mesh);
    mesh.signal(Signal::TERM);
    says(&mesh, "SIGTERM: draining");
    answer(held);
    let answered = client.join().unwrap();
    assert_eq!((answered.status, &answered.json()["result"]), (200, &json!(42)));
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn an_order_to_the_one_before_is_passed_on_to_whoever_comes_to_serve() {
    let (mut mesh, pipe, former) = told_to_stop_while_it_is_taken_over();
    let reading = pipe.read();
    mesh.until_taken_over(&former);
    assert_eq!(former.wait(&mesh).code, 0);
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.contains("SIGTERM: draining"), "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
    reading.join().unwrap();
}

#[test]
fn an_order_to_the_one_before_is_followed_by_it_when_nobody_comes_to_serve() {
    let (mut mesh, _pipe, former) = told_to_stop_while_it_is_taken_over();
    mesh.signal(Signal::INT);
    let failed = mesh.failed_takeover(former);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("the takeover is given up: Ctrl-C"), "{failed:?}");
    // It need not take its place back for that, which would wait for somebody to read the pipe.
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.contains("SIGTERM: draining"), "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn down_stops_also_the_one_that_goes_on_where_a_takeover_is_given_up() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let replica = mesh.pids("vrf")[0];
    // It cannot show who it is, so the takeover waits for it.
    kill(replica, Signal::STOP);
    let former = mesh.begin_takeover();
    let mut down = mesh.command();
    until_it_waits(&mesh, &former);
    let down = down.arg("down").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    mesh.until_logged(0, "serviceos down waits until the takeover is over");
    mesh.signal(Signal::KILL);
    mesh.failed_takeover(former);
    kill(replica, Signal::CONT);
    let said = down.wait_with_output().unwrap();
    let said = (said.status.code(), String::from_utf8(said.stdout).unwrap());
    assert_eq!(said.0, Some(0), "{said:?}");
    assert!(said.1.contains(&format!("serviceos (pid {}) runs in its place", mesh.pid())), "{said:?}");
    assert!(said.1.ends_with("stopped\n"), "{said:?}");
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_replica_that_is_scaled_away_finishes_what_it_has_of_the_one_before() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    assert_eq!(mesh.run(&["scale", "oracle=2"]).code, 0);
    mesh.until_selectable();
    let mut clients = Vec::new();
    // The workers may hear of the other one a moment later.
    while mesh.replicas("oracle").iter().any(|replica| replica["inFlight"] == 0) {
        clients.push(slow.ask(&mesh));
    }
    let leaving = mesh.pids("oracle")[1];
    assert_eq!(mesh.run(&["scale", "oracle=1"]).code, 0);
    mesh.until_logged(0, "state=Draining");
    let former = mesh.take_over();
    for (client, held) in clients {
        answer(held);
        let answered = client.join().unwrap();
        assert_eq!((answered.status, &answered.json()["result"]), (200, &json!(42)));
    }
    assert_eq!(former.wait(&mesh).code, 0);
    testkit::wait_until_gone(leaving);
}
