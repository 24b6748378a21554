//! What clients see when replicas die: nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    Client, Mesh, PYTHON, Request, Running, Script, eventually, has_program, kill, processes_of,
    wait_until_gone,
};

#[test]
fn killing_each_of_three_replicas_under_load_loses_no_idempotent_request() {
    let mesh = Mesh::new().service("vrf", 3).up();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(mesh.gateway).unwrap();
                    let request = Request::new("GET", "/v1/random/keys").key(&mesh.key);
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.send(&request).expect("the connection to the gateway holds");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for place in 0..3 {
            let before = answered.load(Ordering::Relaxed);
            eventually("load", || (answered.load(Ordering::Relaxed) > before + 200).then_some(()));
            let victim = mesh.pids("vrf")[place];
            kill(victim, Signal::KILL);
            eventually("the replacement", || {
                (mesh.replicas("vrf")[place]["restarts"].as_u64() >= Some(1)).then_some(())
            });
            mesh.until_selectable();
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client without a failure");
        }
    });
}

/// Servers that record what they execute, and what clients saw of it.
struct Executions {
    record: PathBuf,
    next: AtomicU64,
    answered: Mutex<BTreeSet<u64>>,
    failed: AtomicU64,
}

impl Executions {
    /// Another server; `port` 0 lets the system choose.
    fn server(&self, port: u16) -> (Script, SocketAddr) {
        let script = format!("{}/tests/it/python/recording_server.py", env!("CARGO_MANIFEST_DIR"));
        let mut server = Script::start(&script, &[&port.to_string(), self.record.to_str().unwrap()]);
        let port: u16 = server.line().parse().unwrap();
        (server, ([127, 0, 0, 1], port).into())
    }

    /// Sends POSTs, each with a number that no other has, until it is told to stop. A failure is a 502, nothing else.
    fn send_until(&self, mesh: &Running, stop: &AtomicBool) {
        let mut client = Client::connect(mesh.gateway).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let request = Request::new("POST", "/site/execute").key(&mesh.key).json(&id.into());
            let answer = client.send(&request).expect("the connection to the gateway holds");
            if answer.status == 200 {
                self.answered.lock().unwrap().insert(id);
            } else {
                assert_eq!(answer.problem(), (502, "UPSTREAM_FAILED".into()));
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn until_more_are_answered(&self, more: usize) {
        let answered = || self.answered.lock().unwrap().len();
        let wanted = answered() + more;
        eventually("answers under load", || (answered() >= wanted).then_some(()));
    }
}

#[test]
fn killing_each_of_three_replicas_under_posts_fails_those_in_flight_and_executes_none_twice() {
    const CLIENTS: u64 = 6;
    if !has_program(PYTHON) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let executions = Executions {
        record: folder.path().join("record"),
        next: AtomicU64::new(0),
        answered: Mutex::default(),
        failed: AtomicU64::new(0),
    };
    let (mut servers, addresses): (Vec<_>, Vec<_>) = (0..3).map(|_| executions.server(0)).unzip();
    let mesh =
        Mesh::new().endpoints_with("site", &addresses, "healthCheck: {interval: 200ms, timeout: 200ms}").up();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| executions.send_until(&mesh, &stop))).collect();
        for (place, address) in addresses.iter().enumerate() {
            executions.until_more_are_answered(200);
            let before = executions.failed.load(Ordering::Relaxed);
            // A script that is dropped is ended by SIGKILL.
            drop(servers.remove(place));
            executions.until_more_are_answered(200);
            let failed = executions.failed.load(Ordering::Relaxed) - before;
            assert!(failed <= CLIENTS, "{failed} failed, and each client has one in flight");
            servers.insert(place, executions.server(address.port()).0);
            mesh.until_selectable();
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client that sees nothing but 200 and 502");
        }
    });
    let record = std::fs::read_to_string(&executions.record).unwrap();
    let executed: Vec<u64> = record.lines().map(|line| line.parse().unwrap()).collect();
    let distinct: BTreeSet<u64> = executed.iter().copied().collect();
    assert_eq!(executed.len(), distinct.len(), "a request was executed twice");
    let answered = executions.answered.into_inner().unwrap();
    assert!(answered.is_subset(&distinct), "what was answered was executed");
}

#[test]
fn a_replica_killed_while_it_starts_is_started_again_and_leaves_nothing() {
    let mesh = Mesh::new().service("vrf", 4);
    let mut child = mesh.start();
    let up = child.id();
    let state = |pid: u32| {
        let status: Value = serde_json::from_str(&mesh.run(&["status", "--json"]).out).ok()?;
        let replicas = status["services"][0]["replicas"].as_array()?.clone();
        replicas.into_iter().find(|replica| replica["pid"] == pid).map(|replica| replica["state"].clone())
    };
    // One that is not yet what it will be cannot be held: whoever starts it waits for that moment.
    let runs = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.starts_with(b"serviceos\0service\0"))
    };
    let mut seen = Vec::new();
    let victim = eventually("a replica that is Starting", || {
        let processes = processes_of(mesh.folder());
        let found = processes.into_iter().find(|pid| runs(pid) && !seen.contains(pid))?;
        seen.push(found);
        // Held where it stands. If that is behind its start already, its replacement is the next to be looked at.
        kill(found, Signal::STOP);
        let starting = eventually("the state of the replica", || state(found)) == "Starting";
        if !starting {
            kill(found, Signal::KILL);
        }
        starting.then_some(found)
    });
    kill(victim, Signal::KILL);
    let status = || serde_json::from_str::<Value>(&mesh.run(&["status", "--json"]).out).ok();
    eventually("a healthy mesh", || status().filter(|status| status["status"] == "healthy"));
    wait_until_gone(victim);
    kill(up, Signal::TERM);
    let status = eventually("serviceos to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_hung_replica_is_left_alone() {
    let mesh = Mesh::new()
        .yaml(
            "    vrf: {replicas: 3, healthCheck: {interval: 2s, timeout: 2s}, retry: {perTryTimeout: 2s}}\n",
        )
        .up();
    let hung = mesh.pids("vrf")[1];
    kill(hung, Signal::STOP);
    for _ in 0..8 {
        assert_eq!(mesh.get("/v1/random/keys").status, 200);
    }
    eventually("the health owner's verdict", || {
        (mesh.replicas("vrf")[1]["health"] == "unhealthy").then_some(())
    });
    kill(hung, Signal::CONT);
    mesh.until_selectable();
    assert_eq!(mesh.pids("vrf")[1], hung, "a replica that recovers is not replaced");
}
