//! Identities end: whoever does not renew is said to be expired in time for its requests to finish. tokio's clock is paused, and
//! the authority's goes with it.

use std::time::Duration;

use appraisal::Code;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use trust::Standing;

use crate::mesh::{Mesh, NOW, Setup, Time};

/// An authority that runs, with identities that live so many seconds.
async fn running(ttl: u64) -> (Mesh, oneshot::Sender<()>, JoinHandle<()>) {
    let short = move |setup: &mut Setup| {
        setup.time = Time::Tokio;
        setup.vrf.policy.identity_ttl = Duration::from_secs(ttl);
    };
    let mesh = Mesh::with(short).await;
    let (end, ended) = oneshot::channel::<()>();
    let authority = mesh.authority.clone();
    let runs = tokio::spawn(authority.run(async { drop(ended.await) }));
    (mesh, end, runs)
}

/// Waits until replica 0 is said to be expired, and gives the second.
async fn expired(mesh: &Mesh) -> u64 {
    let mut standings = mesh.authority.standings();
    while mesh.stands("0") != Ok("expired") {
        standings.changed().await.unwrap();
    }
    mesh.clock.seconds() - NOW
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_not_renewed_drains_before_it_ends() {
    for (ttl, drains) in [(60, 50), (300, 290), (20, 16), (5, 4)] {
        let (mesh, end, runs) = running(ttl).await;
        let joined = mesh.applicant("0").joined().await;
        let begun = joined.at() - NOW;
        assert_eq!(expired(&mesh).await, begun + drains, "{ttl} s");
        let Some(Standing::Expired(admission)) = mesh.standing("0") else { unreachable!() };
        assert_eq!(admission.not_after, joined.at() + ttl);
        end.send(()).unwrap();
        runs.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_identity_does_not_expire_with_the_one_before() {
    let (mesh, _end, _runs) = running(60).await;
    let first = mesh.applicant("0").joined().await;
    sleep(Duration::from_secs(40)).await;
    mesh.applicant("0").known_by(&first.leaf).joined().await;
    sleep(Duration::from_secs(49)).await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
    assert_eq!(expired(&mesh).await, 90);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_expired_can_still_renew_until_its_certificate_ends() {
    let (mesh, _end, _runs) = running(60).await;
    let first = mesh.applicant("0").joined().await;
    assert_eq!(expired(&mesh).await, 50);
    let said = mesh.authority.standings();
    sleep(Duration::from_secs(5)).await;
    assert!(!said.has_changed().unwrap(), "it is said once");
    mesh.applicant("0").known_by(&first.leaf).joined().await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
}

#[tokio::test(start_paused = true)]
async fn an_identity_of_the_transition_before_ends_five_minutes_after_another_manifest() {
    let (mesh, _end, _runs) = running(3600).await;
    let stays = mesh.applicant("0").joined().await;
    let renews = mesh.applicant("1").joined().await;
    sleep(Duration::from_secs(100)).await;
    mesh.apply(json!({"services": {}})).await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
    let renewed = mesh.applicant("1").known_by(&renews.leaf).joined().await;
    assert_eq!(expired(&mesh).await, 390, "early enough for its requests to finish");
    let Some(Standing::Expired(admission)) = mesh.standing("0") else { unreachable!() };
    assert_eq!(admission.not_after, NOW + 400);
    let late = mesh.applicant("0").known_by(&stays.leaf).prepare().await.unwrap();
    assert!(!mesh.authority.has_ended(&stays.peer));
    sleep(Duration::from_secs(11)).await;
    assert!(mesh.authority.has_ended(&stays.peer) && mesh.authority.has_ended(&renews.peer));
    assert!(stays.peer.not_after > mesh.clock.seconds(), "its certificate is valid");
    assert_eq!(late.show(&mesh.authority).await.unwrap_err().code, Code::TicketInvalid);
    let challenged = mesh.applicant("0").known_by(&stays.leaf).challenge().await.unwrap_err();
    assert_eq!(challenged.code, Code::TicketInvalid);
    sleep(Duration::from_secs(600)).await;
    assert_eq!((mesh.stands("1"), mesh.authority.has_ended(&renewed.peer)), (Ok("valid"), false));
    // With a ticket it begins anew.
    mesh.applicant("0").joined().await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
}

#[tokio::test(start_paused = true)]
async fn another_manifest_gives_nobody_more_time_and_the_next_one_neither() {
    let (mesh, _end, _runs) = running(200).await;
    mesh.applicant("0").joined().await;
    mesh.apply(json!({"services": {}})).await;
    assert_eq!(expired(&mesh).await, 190);
    let (mesh, _end, _runs) = running(3600).await;
    mesh.applicant("0").joined().await;
    mesh.apply(json!({"services": {}})).await;
    sleep(Duration::from_secs(200)).await;
    mesh.apply(json!({"services": {"vrf": {}}})).await;
    assert_eq!(expired(&mesh).await, 290);
}

#[tokio::test(start_paused = true)]
async fn the_list_of_revocations_is_said_again_and_heads_of_the_audit_trail_are_signed() {
    let (mesh, end, runs) = running(3600).await;
    mesh.applicant("0").joined().await;
    let issued = || mesh.authority.revocations().borrow().revocations.issued_at - NOW;
    let heads = || std::fs::read_to_string(mesh.audit_file()).unwrap().matches("\"head\"").count();
    assert_eq!((issued(), heads()), (0, 0));
    sleep(Duration::from_secs(11)).await;
    assert_eq!((issued(), heads()), (10, 1));
    mesh.applicant("1").joined().await;
    end.send(()).unwrap();
    runs.await.unwrap();
    assert_eq!(heads(), 2, "the end is signed too");
}

#[tokio::test(start_paused = true)]
async fn everything_that_has_expired_is_forgotten_in_one_round() {
    let (mesh, end, runs) = running(3600).await;
    mesh.use_up(1000, (NOW + 5) * 1000).await;
    end.send(()).unwrap();
    runs.await.unwrap();
    let mesh = mesh.restarted(|_| {}).await;
    mesh.applicant("0").joined().await;
    assert_eq!(mesh.used().await, 1002);
    let (_end, ended) = oneshot::channel::<()>();
    tokio::spawn(mesh.authority.clone().run(async { drop(ended.await) }));
    // The next round begins when this one is over.
    let issued = mesh.authority.revocations();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(mesh.used().await, 2, "a nonce and a ticket that are still good");
    assert!(issued.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_watermark_of_the_clock_is_written_down_without_a_join() {
    let (mesh, end, runs) = running(3600).await;
    sleep(Duration::from_secs(101)).await;
    end.send(()).unwrap();
    runs.await.unwrap();
    mesh.clock.back(Duration::from_secs(80));
    let mesh = mesh.restarted(|_| {}).await;
    assert!(mesh.authority.ticket(&"vrf".parse().unwrap(), "0").is_err());
}
