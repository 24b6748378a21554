//! `up` dies, its replicas do not: they serve on, and the next `up` takes them over or ends them.

use std::path::Path;
use std::process::Child;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Mesh, Running, eventually, has_program, kill, processes_of, wait_until_gone};

/// What must be the same in a replica that was taken over: its process, its address, and what it was admitted with.
fn who(mesh: &Running, service: &str) -> Vec<Value> {
    let replica = |replica: Value| {
        let id = replica["id"].as_str().unwrap();
        let why: Value = serde_json::from_str(&mesh.run(&["why", id, "--json"]).out).unwrap();
        let evidence = &why["attested"]["evidence"];
        json!({
            "pid": replica["pid"], "address": replica["address"], "restarts": replica["restarts"],
            "spiffeId": evidence["spiffeId"], "leaf": evidence["leafSha256"], "record": evidence["record"],
        })
    };
    mesh.replicas(service).into_iter().map(replica).collect()
}

/// The records of what runs, by the name of their file.
fn records(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join(".serviceos/run/replicas")).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Kills `up` and waits for that.
fn killed(mesh: &mut Running) {
    mesh.signal(Signal::KILL);
    mesh.wait();
}

fn joins(folder: &Path) -> usize {
    let audit = std::fs::read_to_string(folder.join(".serviceos/audit.jsonl")).unwrap();
    audit.matches("\"kind\":\"join\"").count()
}

#[test]
fn the_next_up_takes_over_what_a_killed_one_has_left_with_pids_and_identities() {
    let mut mesh = Mesh::new().service("vrf", 2).service("datafeed", 1).up();
    let folder = mesh.folder().to_owned();
    let before = (who(&mesh, "vrf"), who(&mesh, "datafeed"));
    let keys = mesh.get("/v1/random/keys").json();
    assert_eq!(records(&folder), ["datafeed-0.json", "vrf-0.json", "vrf-1.json"]);
    killed(&mut mesh);
    let pids: Vec<_> = before.0.iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    assert!(pids.iter().all(|pid| testkit::exists(u32::try_from(*pid).unwrap())), "they live on");
    let mesh = mesh.up_again();
    assert_eq!((who(&mesh, "vrf"), who(&mesh, "datafeed")), before);
    assert_eq!(joins(&folder), 3, "nobody has joined again");
    for _ in 0..4 {
        assert_eq!(mesh.get("/v1/random/keys").json(), keys);
        assert_eq!(mesh.post("/v1/random", &json!({"min": 1, "max": 6})).status, 200, "they may write");
    }
    let log = mesh.log();
    assert_eq!(log.matches("it is taken over").count(), 3, "{log}");
}

#[test]
fn an_orderly_end_after_a_take_over_leaves_nothing() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    killed(&mut mesh);
    let mut mesh = mesh.up_again();
    mesh.signal(Signal::TERM);
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
    assert_eq!(records(mesh.folder()), [""; 0]);
}

#[test]
fn one_that_dies_while_nobody_looks_is_started_anew_and_one_that_dies_later_is_unknown_and_restarted() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    let before = mesh.pids("vrf");
    killed(&mut mesh);
    kill(before[0], Signal::KILL);
    wait_until_gone(before[0]);
    let mesh = mesh.up_again();
    let now = mesh.pids("vrf");
    assert!(now[0] != before[0] && now[1] == before[1], "{before:?} {now:?}");
    let seen = mesh.log().len();
    kill(before[1], Signal::KILL);
    mesh.until_logged(seen, "unknown (adopted)");
    eventually("another process", || mesh.pids("vrf").get(1).filter(|pid| **pid != before[1]).copied());
    mesh.until_selectable();
    assert_eq!(mesh.replicas("vrf")[1]["restarts"], 1);
}

#[test]
fn down_without_an_up_ends_what_is_left() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    let pids = mesh.pids("vrf");
    killed(&mut mesh);
    let down = mesh.run(&["down"]);
    assert_eq!((down.code, down.err.as_str()), (0, ""), "{}", down.out);
    for pid in pids {
        assert!(down.out.contains(&format!("(pid {pid})")), "{}", down.out);
    }
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
    let again = mesh.run(&["down"]);
    assert_ne!(again.code, 0);
    assert!(again.err.contains("no serviceos runs on the data directory"), "{}", again.err);
}

/// A replica whose process waits, before it has said that it listens.
#[test]
fn a_replica_that_has_not_reported_ends_with_its_up() {
    if !has_program("python3") {
        return;
    }
    // It is started, and never accepts a connection.
    let mesh = Mesh::new().yaml(
        "    app: {command: [python3, -c, \"import time; time.sleep(600)\"], healthCheck: {path: /}}\n",
    );
    let mut up: Child = mesh.start();
    let folder = mesh.folder().to_owned();
    let is_command = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"python3"))
    };
    let command = eventually("the command", || processes_of(&folder).into_iter().find(is_command));
    kill(up.id(), Signal::KILL);
    up.wait().unwrap();
    wait_until_gone(command);
    eventually("the launcher to be gone", || {
        let is_quoter = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(10).any(|word| word == b"dev-quoter"))
        };
        processes_of(&folder).iter().all(is_quoter).then_some(())
    });
}

#[test]
fn what_is_not_wanted_any_more_or_runs_something_else_is_ended() {
    let mut mesh = Mesh::new().yaml("    vrf: {replicas: 2}\n    datafeed: {replicas: 1}\n").up();
    let (vrf, datafeed) = (mesh.pids("vrf"), mesh.pids("datafeed"));
    killed(&mut mesh);
    let mesh = mesh.up_again_with("    vrf: {replicas: 1, version: \"1.1.0\"}\n");
    assert_eq!(mesh.pids("vrf").len(), 1);
    assert!(!vrf.contains(&mesh.pids("vrf")[0]));
    vrf.into_iter().chain(datafeed).for_each(wait_until_gone);
    assert!(mesh.log().contains("which is not taken over"), "{}", mesh.log());
    eventually("the records of what is there", || (records(mesh.folder()) == ["vrf-0.json"]).then_some(()));
}

#[test]
fn one_that_nobody_takes_over_ends_with_its_identity() {
    let mut mesh = Mesh::new().yaml("    vrf: {replicas: 2, attestation: {identityTtl: 8s}}\n").up();
    let pids = mesh.pids("vrf");
    killed(&mut mesh);
    pids.into_iter().for_each(wait_until_gone);
}
