//! Replicas join with evidence, are reached under mutual TLS alone, and what the authority decides survives a restart.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{
    Authority, Connection, Mesh, Request, Running, eventually, kill, processes_of, wait_until_gone,
};

fn address(mesh: &Running, replica: usize) -> std::net::SocketAddr {
    mesh.replicas("vrf")[replica]["address"].as_str().unwrap().parse().unwrap()
}

/// The quoter's process.
fn quoter(folder: &Path) -> u32 {
    let is_quoter = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(b"dev-quoter")
    };
    processes_of(folder).into_iter().find(is_quoter).expect("a quoter")
}

fn why(mesh: &Running, replica: &str) -> Value {
    let said = mesh.run(&["why", replica, "--json"]);
    serde_json::from_str(&said.out).expect("why is JSON")
}

#[test]
fn nobody_without_an_identity_of_the_mesh_reaches_a_replica() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let address = address(&mesh, 0);
    let mut plain = Connection::open(address);
    plain.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let answer = plain.rest().unwrap_or_default();
    assert!(!answer.windows(4).any(|bytes| bytes == b"HTTP"), "{answer:?}");
    // Under TLS, without a certificate and with one of somebody else's.
    let stranger = Authority::new("a stranger's root");
    let own = stranger.certificate(&["mesh.invalid"]);
    for client in [stranger.clients(&["http/1.1"]), stranger.clients_with(&["http/1.1"], &own)] {
        assert!(client.connect(address, "mesh.invalid").is_err());
    }
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
}

#[test]
fn why_shows_what_a_replica_runs_and_until_when_that_holds() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let why = why(&mesh, "vrf/0");
    let attested = &why["attested"];
    assert_eq!((&why["selectable"], &attested["value"]), (&json!(true), &json!("valid")));
    let text = attested.to_string();
    for part in ["simulated", "1.0.0", "UpToDate", "spiffe://serviceos.dev.invalid/service/vrf/0", "apr_"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_killed_up_leaves_the_quoter_and_the_next_one_finds_the_same_mesh() {
    let mesh = Mesh::new().with_ports_of_its_own().service("vrf", 1).up();
    let folder = mesh.folder().to_owned();
    let before = quoter(&folder);
    let keys = mesh.get("/v1/random/keys").json();
    mesh.signal(Signal::KILL);
    let mesh = mesh.up_again();
    assert_eq!(quoter(&folder), before);
    assert_eq!(mesh.get("/v1/random/keys").json(), keys);
    let joins = std::fs::read_to_string(folder.join(".serviceos/audit.jsonl")).unwrap();
    assert_eq!(joins.matches("\"kind\":\"join\"").count(), 1, "{joins}");
}

#[test]
fn an_orderly_end_takes_the_quoter_along() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let quoter = quoter(mesh.folder());
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    wait_until_gone(quoter);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_quoter_that_was_killed_is_started_again_for_the_next_launch() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let (before, pid) = (quoter(mesh.folder()), mesh.pids("vrf")[0]);
    kill(before, Signal::KILL);
    wait_until_gone(before);
    kill(pid, Signal::KILL);
    eventually("another replica", || (mesh.pids("vrf").first().is_some_and(|now| *now != pid)).then_some(()));
    mesh.until_selectable();
    assert_ne!(quoter(mesh.folder()), before);
    assert_eq!(Request::new("GET", "/v1/random/keys").key(&mesh.key).send(mesh.gateway).status, 200);
}
