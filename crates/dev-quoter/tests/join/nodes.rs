//! Several nodes with one store are one mesh: one root, one manifest, one list of what is revoked.

use std::future::{Future, pending};

use appraisal::Code;
use mesh_protocol::{RevokedType, sha256, to_hex};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use trust::{Authority, Standing, TrustError};

use crate::mesh::{Mesh, Setup, W};

/// Two nodes that live, with the same manifest, and follow each other.
async fn two() -> (Mesh, Mesh, Running) {
    let one = Mesh::with(|setup| setup.node = Some("n1".parse().unwrap())).await;
    one.lives().await;
    let two = one.beside("n2", |_| {}).await.unwrap();
    two.lives().await;
    let running = Running([&one, &two].map(|mesh| tokio::spawn(mesh.authority.clone().run(pending()))));
    (one, two, running)
}

struct Running([JoinHandle<()>; 2]);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn other_manifest() -> Value {
    json!({"services": {"vrf": {"replicas": 3}}})
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, what).await.expect("it did not happen in time")
}

/// Returns once what is said of replicas is so.
async fn stands(mesh: &Mesh, instance: &str, expected: Result<&'static str, Code>) {
    let mut standings = mesh.authority.standings();
    soon(async {
        while mesh.stands(instance) != expected {
            standings.changed().await.unwrap();
        }
    })
    .await;
}

async fn transition(authority: &Authority, n: u64) {
    let mut revocations = authority.revocations();
    soon(async {
        while authority.transition().0 != n {
            revocations.changed().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn they_have_one_root_and_one_transition_and_each_admits_its_own() {
    let (one, two, _running) = two().await;
    assert_eq!(one.authority.root_spki(), two.authority.root_spki());
    assert_eq!(one.authority.transition(), two.authority.transition());
    let joined = one.applicant("n1.0").joined().await;
    assert_eq!(joined.peer.id.to_string(), "spiffe://join.dev.invalid/service/vrf/n1.0");
    let other = two.applicant("n2.1").joined().await;
    assert!(joined.verifies(&two, &other.above), "one issuing key for all");
    for wrong in ["n2.0", "0", "n1.00", "n3.0"] {
        assert_eq!(one.applicant(wrong).refused().await, Code::ReplicaNotExpected, "{wrong}");
    }
}

#[tokio::test]
async fn a_node_with_another_manifest_is_refused_with_the_difference_while_others_live() {
    let one = Mesh::with(|setup| setup.node = Some("n1".parse().unwrap())).await;
    let other = |setup: &mut Setup| setup.manifest = other_manifest();
    one.lives().await;
    let refused = one.beside("n2", other).await.err().unwrap();
    let TrustError::OtherManifest { n: 1, differences } = &refused else { panic!("{refused}") };
    assert_eq!(differences, "  services.vrf.replicas: 2 in the mesh, 3 here");
    // Its own name is no other node.
    let alone = one.beside("n1", other).await.unwrap();
    assert_eq!(alone.authority.transition().0, 2);
}

#[tokio::test]
async fn a_node_that_has_its_name_and_does_not_run_yet_decides_nothing() {
    let one = Mesh::with(|setup| setup.node = Some("n1".parse().unwrap())).await;
    one.begins().await;
    // All of them were stopped, and all start with the same other manifest.
    let two = one.beside("n2", |setup| setup.manifest = other_manifest()).await.unwrap();
    assert_eq!(two.authority.transition().0, 2);
}

#[tokio::test]
async fn nodes_that_take_the_same_manifest_over_at_the_same_moment_agree() {
    let (one, two, _running) = two().await;
    let services = || Default::default();
    let apply = |mesh: &Mesh| {
        let authority = mesh.authority.clone();
        async move { authority.apply(other_manifest(), services(), "a test").await }
    };
    for _ in 0..8 {
        let both = soon(async { tokio::join!(apply(&one), apply(&two)) }).await;
        assert!(matches!(both, (Ok(()), Ok(()))), "{both:?}");
        assert_eq!(one.authority.transition(), two.authority.transition());
        let n = one.authority.transition().0;
        one.authority.apply(json!({"n": n}), services(), "a test").await.unwrap();
        two.authority.apply(json!({"n": n}), services(), "a test").await.unwrap();
    }
}

#[tokio::test]
async fn who_is_told_that_its_node_is_behind_may_come_again_with_its_ticket() {
    let (one, two, _running) = two().await;
    let ticket = two.ticket("vrf", "n2.0");
    let member = two.applicant("n2.1").joined().await;
    one.apply(other_manifest()).await;
    ends_early(&two, "n2.1", &member.peer.leaf).await;
    for _ in 0..2 {
        let refused = two.applicant("n2.0").ticket(ticket.clone()).refused().await;
        assert_eq!(refused, Code::ManifestChanged);
    }
    two.apply(other_manifest()).await;
    two.applicant("n2.0").ticket(ticket).joined().await;
}

/// Returns once a certificate ends with the overlap.
async fn ends_early(mesh: &Mesh, instance: &str, leaf: &[u8; 32]) {
    let mut standings = mesh.authority.standings();
    soon(async {
        while lives_until(mesh, instance, leaf) > mesh.clock.seconds() + 300 {
            standings.changed().await.unwrap();
        }
    })
    .await;
}

fn lives_until(mesh: &Mesh, instance: &str, leaf: &[u8; 32]) -> u64 {
    match mesh.standing(instance) {
        Some(Standing::Valid(admission)) if admission.leaf == *leaf => admission.not_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_joins_in_the_moment_in_which_its_node_falls_behind_ends_with_the_others() {
    let (one, two, _running) = two().await;
    let first = two.applicant("n2.0").joined().await;
    let second = two.applicant("n2.1").prepare().await.unwrap();
    // What it is given is waited for.
    let held = two.vault.lock().await;
    let joining = second.join(&two.authority);
    tokio::pin!(joining);
    tokio::select! {
        biased;
        _ = &mut joining => panic!("it is not given anything yet"),
        () = async {
            one.apply(other_manifest()).await;
            ends_early(&two, "n2.0", &first.peer.leaf).await;
        } => {}
    }
    drop(held);
    let second = soon(joining).await.unwrap();
    let until = lives_until(&two, "n2.1", &second.peer.leaf);
    assert!(until <= two.clock.seconds() + 300, "{until}");
}

#[tokio::test]
async fn a_ticket_that_the_store_knows_as_used_is_said_to_be_used() {
    let (one, _two, _running) = two().await;
    let ticket = one.ticket("vrf", "n1.0");
    one.mark_used(sha256(&ticket)).await;
    // Whoever is told so gets another one; that the authority cannot decide now would be tried again in vain.
    assert_eq!(one.applicant("n1.0").ticket(ticket).refused().await, Code::TicketInvalid);
    one.applicant("n1.0").joined().await;
}

#[tokio::test]
async fn another_manifest_counts_for_the_others_once_theirs_says_the_same() {
    let (one, two, _running) = two().await;
    let member = two.applicant("n2.0").joined().await;
    one.apply(other_manifest()).await;
    one.applicant("n1.0").joined().await;
    // It knows of it before it refuses anybody for it.
    let ended = soon(async {
        loop {
            match two.applicant("n2.1").join().await {
                Err(fault) => break fault,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    });
    let fault = Box::pin(ended).await;
    assert_eq!((fault.code, fault.is_retryable()), (Code::ManifestChanged, true));
    assert_eq!(two.applicant("n2.0").known_by(&member.leaf).refused().await, Code::ManifestChanged);
    assert_eq!(two.authority.transition().0, 1);
    two.apply(other_manifest()).await;
    assert_eq!(two.authority.transition(), one.authority.transition());
    two.applicant("n2.0").known_by(&member.leaf).joined().await;
    // It may have gone on to the next one alone, and the first follows where that is its own.
    let third = two.authority.apply(json!({"services": {}}), Default::default(), "a test").await;
    third.unwrap();
    transition(&two.authority, 3).await;
    let stale = one.authority.apply(json!({"services": {"a": 1}}), Default::default(), "a test").await;
    assert!(matches!(stale, Err(TrustError::OtherManifest { n: 3, .. })), "{stale:?}");
    two.apply(other_manifest()).await;
    transition(&one.authority, 4).await;
    assert_eq!(two.authority.transition(), one.authority.transition());
}

#[tokio::test]
async fn what_is_revoked_at_one_is_revoked_at_all() {
    let (one, two, _running) = two().await;
    one.applicant("n1.0").joined().await;
    let member = two.applicant("n2.0").joined().await;
    one.authority.revoke(RevokedType::Measurement, &to_hex(&W), "alice").await.unwrap();
    stands(&two, "n2.0", Err(Code::Revoked)).await;
    // The first is told by which certificate it knows the replica of the other.
    let mut list = one.authority.revocations();
    let leaf = to_hex(&member.peer.leaf);
    let named = list.wait_for(|list| list.revocations.entries.iter().any(|entry| entry.value == leaf));
    soon(named).await.unwrap();
    assert!(one.authority.is_revoked(&member.peer.id, &member.peer.leaf));
    // Both change the list, each on top of the other's.
    for (mesh, value) in [(&one, "aa"), (&two, "bb"), (&one, "cc")] {
        mesh.authority.revoke(RevokedType::Platform, value, "alice").await.unwrap();
    }
    let restored = two.authority.restore(RevokedType::Platform, "aa", "alice").await.unwrap();
    let mut list = one.authority.revocations();
    let list = soon(list.wait_for(|list| list.revocations.epoch >= restored)).await.unwrap();
    let values: Vec<_> = list.revocations.entries.iter().map(|entry| entry.value.as_str()).collect();
    assert!(values.contains(&"bb") && values.contains(&"cc") && !values.contains(&"aa"), "{values:?}");
}

#[tokio::test]
async fn a_list_that_is_older_than_what_is_known_is_replaced_by_the_next_one() {
    let (one, two, _running) = two().await;
    one.authority.revoke(RevokedType::Platform, "aa", "alice").await.unwrap();
    let mut old = Vec::new();
    one.tamper("trust/revocations", |row| {
        old.clone_from(&row);
        row
    })
    .await;
    one.authority.revoke(RevokedType::Platform, "bb", "alice").await.unwrap();
    // As by a backup that was put back.
    one.tamper("trust/revocations", |_row| old).await;
    let third = one.authority.revoke(RevokedType::Platform, "cc", "alice").await.unwrap();
    let mut list = two.authority.revocations();
    let list = soon(list.wait_for(|list| list.revocations.epoch >= third)).await.unwrap();
    let values: Vec<_> = list.revocations.entries.iter().map(|entry| entry.value.as_str()).collect();
    assert_eq!(values, ["aa", "bb", "cc"]);
    // What was not done after all the audit trail says too.
    let audit = one.audit();
    let lines = audit.iter().filter(|line| line["kind"] == "revoke");
    let told: Vec<_> = lines.map(|line| (line["subject"].as_str(), line["outcome"].as_str())).collect();
    let (done, failed) = (Some("done"), Some("failed"));
    let twice = |value| [(Some(value), done), (Some(value), failed), (Some(value), done)];
    assert_eq!(told, [&[(Some("aa"), done)][..], &twice("bb"), &twice("cc")].concat());
}

#[tokio::test]
async fn what_is_rotated_at_one_is_given_by_all() {
    let (one, two, _running) = two().await;
    let mut grants = two.authority.grants();
    grants.borrow_and_update();
    one.authority.rotate_secret("seed", "alice").await.unwrap();
    soon(grants.changed()).await.unwrap();
    assert_eq!(two.vault.lock().await.reveal("seed").unwrap().unwrap().len(), 3);
}
