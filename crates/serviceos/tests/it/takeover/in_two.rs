//! While two processes serve: what the next one decides counts in the one before too.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Mesh, Request, Upstream, eventually, exists};

use crate::shutdown::{Slow, answer};
use crate::signed_requests::{Caller, site};

/// How soon what is revoked is cut off.
const REVOKED: Duration = Duration::from_secs(5);

#[test]
fn a_replica_that_is_revoked_is_cut_off_from_the_one_before() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    let (client, _never_answered) = slow.ask(&mesh);
    let former = mesh.take_over();
    let began = Instant::now();
    let revoked = mesh.run(&["attestation", "revoke", "instance", "oracle/0"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let answered = client.join().unwrap();
    assert!(began.elapsed() < REVOKED, "{:?}", began.elapsed());
    assert_ne!(answered.status, 200);
    assert_eq!(former.wait(&mesh).code, 0);
}

#[test]
fn a_replica_that_is_restarted_finishes_what_it_has_of_the_one_before() {
    let slow = Slow::new();
    let mut mesh = slow.mesh();
    let (client, held) = slow.ask(&mesh);
    let former = mesh.take_over();
    let in_flight = || mesh.replicas("oracle")[0]["inFlight"] == 1;
    eventually("the request to be counted", || in_flight().then_some(()));
    let pid = mesh.pids("oracle")[0];
    let restarted = mesh.run(&["restart", "oracle/0"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    mesh.until_logged(0, "state=Draining");
    assert!(exists(pid));
    answer(held);
    let answered = client.join().unwrap();
    assert_eq!((answered.status, &answered.json()["result"]), (200, &json!(42)));
    assert_eq!(former.wait(&mesh).code, 0);
    eventually("another process", || mesh.pids("oracle").first().filter(|now| **now != pid).copied());
}

#[test]
fn a_signed_request_is_good_once_in_both_and_none_that_was_not_used_is_refused() {
    let upstream = Upstream::new();
    let mut mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let (used, unused) = (caller.sign("POST", "/echo", b"used"), caller.sign("POST", "/echo", b"unused"));
    assert_eq!(used.send(&mesh).status, 200);
    assert_eq!(mesh.take_over().wait(&mesh).code, 0);
    assert_eq!(used.send(&mesh).problem(), (401, "AUTH_INVALID".into()));
    assert_eq!(unused.send(&mesh).status, 200, "it was signed before this one began, and nobody has used it");
    assert_eq!(unused.send(&mesh).problem(), (401, "AUTH_INVALID".into()));
}

#[test]
fn at_an_address_that_the_next_one_does_not_want_nobody_listens_any_more() {
    let mut mesh = Mesh::new().with_ports_of_its_own().service("vrf", 1).up();
    let before = mesh.gateway;
    let former = mesh.begin_takeover_at("127.0.0.1:0");
    mesh.until_taken_over(&former);
    assert_eq!(former.wait(&mesh).code, 0);
    let now = mesh.status()["gateway"].as_str().unwrap().parse().unwrap();
    assert_ne!(before, now);
    let keys = || Request::new("GET", "/v1/random/keys").key(&mesh.key);
    assert_eq!(keys().send(now).status, 200);
    let refused = TcpStream::connect(before).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
