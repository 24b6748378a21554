//! The authority ends and is opened again on what it has left.

use std::time::Duration;

use appraisal::{Code, Roots};
use mesh_protocol::{RevokedType, canonical, sha256, to_hex, transition};
use serde_json::{Value, json};
use trust::{LeafFacts, TrustError};
use types::Mode;

use crate::mesh::{Mesh, Setup, TRUST_DOMAIN};

#[tokio::test]
async fn root_transition_and_revocations_survive() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let (root, transition) = (mesh.authority.root_spki().to_vec(), mesh.authority.transition());
    let id = joined.peer.id.to_string();
    mesh.authority.revoke(RevokedType::Instance, &id, "alice").await.unwrap();
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!(mesh.authority.root_spki(), root);
    assert_eq!(mesh.authority.transition(), transition);
    assert_eq!(mesh.authority.domain().trust_domain, TRUST_DOMAIN);
    let list = mesh.authority.revocations().borrow().verify(&root).cloned().unwrap();
    assert_eq!((list.epoch, list.entries[0].value.as_str()), (1, id.as_str()));
    assert_eq!(mesh.applicant("0").refused().await, Code::Revoked);
    assert_eq!(mesh.authority.restore(RevokedType::Instance, &id, "alice").await.unwrap(), 2);
    let again = mesh.applicant("0").joined().await;
    assert_eq!(again.above.last(), joined.above.last(), "the root certificate is the same");
}

#[tokio::test]
async fn who_was_admitted_by_an_earlier_run_is_known_and_renews() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let before = mesh.authority.standings().borrow().clone();
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!(*mesh.authority.standings().borrow(), before, "the same admission, to the last word");
    assert!(joined.verifies(&mesh, &joined.above));
    let renewed = mesh.applicant("0").known_by(&joined.leaf).joined().await;
    assert!(joined.verifies(&mesh, &renewed.above), "one transition has one issuing key");
    let mesh = mesh.restarted(|_| {}).await;
    assert!(mesh.authority.has_admitted(&renewed.peer) && mesh.authority.has_admitted(&joined.peer));
    mesh.clock.forward(Duration::from_secs(24 * 3600));
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!(mesh.stands("0"), Ok("unknown"), "its identity has ended");
}

#[tokio::test]
async fn who_was_revoked_or_refused_by_an_earlier_run_is_not_admitted() {
    let mesh = Mesh::new().await;
    let (zero, one) = (mesh.applicant("0").joined().await, mesh.applicant("1").joined().await);
    mesh.authority.revoke(RevokedType::Instance, &zero.peer.id.to_string(), "alice").await.unwrap();
    mesh.applicant("1").known_by(&one.leaf).running([9; 32]).refused().await;
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!((mesh.stands("0"), mesh.stands("1")), (Err(Code::Revoked), Ok("unknown")));
}

#[tokio::test]
async fn of_an_admission_that_somebody_else_has_written_nothing_is_believed_but_the_certificate() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let later = |value| String::from_utf8(value).unwrap().replace("\"n\":1", "\"n\":2").into_bytes();
    mesh.tamper("trust/admission/vrf/0", later).await;
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!(mesh.stands("0"), Ok("unknown"));
    mesh.applicant("0").known_by(&joined.leaf).joined().await;
    assert_eq!(mesh.stands("0"), Ok("valid"));
}

#[tokio::test]
async fn nonces_and_tickets_that_were_used_are_used() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    let unused = mesh.ticket("vrf", "1");
    let sent = mesh.applicant("0").ticket(ticket.clone()).prepare().await.unwrap();
    sent.show(&mesh.authority).await.unwrap();
    let refused = mesh.applicant("1").running([9; 32]).prepare().await.unwrap();
    assert_eq!(refused.show(&mesh.authority).await.unwrap_err().code, Code::ReleaseNotAllowed);
    let mesh = mesh.restarted(|_| {}).await;
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
    assert_eq!(refused.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
    assert_eq!(mesh.applicant("0").ticket(ticket).refused().await, Code::TicketInvalid);
    mesh.applicant("1").ticket(unused).joined().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_stops_joins_until_it_is_right_again() {
    let mesh = Mesh::new().await;
    mesh.applicant("0").joined().await;
    mesh.clock.back(Duration::from_secs(60));
    let mesh = mesh.restarted(|_| {}).await;
    let joined = mesh.applicant("0").joined().await;
    assert_eq!(mesh.records("vrf/0").await.len(), 2, "small steps are bridged");
    mesh.clock.back(Duration::from_secs(1));
    let mesh = mesh.restarted(|_| {}).await;
    let stepped = mesh.applicant("0").known_by(&joined.leaf).refused().await;
    assert_eq!(stepped, Code::ClockStepped);
    assert!(stepped.is_retryable());
    assert!(mesh.authority.ticket(&"vrf".parse().unwrap(), "0").is_err());
    assert_eq!(joined.sent.show(&mesh.authority).await.unwrap_err().code, Code::ClockStepped);
    mesh.clock.right(Duration::from_secs(1));
    mesh.applicant("0").joined().await;
}

/// T_n of this manifest after another one.
fn follows(n: u64, manifest: &Value, previous: &[u8; 32]) -> (u64, [u8; 32]) {
    (n, transition(n, &sha256(&canonical(manifest).unwrap()), previous))
}

#[tokio::test]
async fn another_manifest_is_another_transition() {
    let (one, other) = (json!({"services": {"vrf": {"a": 1, "b": 2}}}), json!({"services": {}}));
    let first = one.clone();
    let mesh = Mesh::with(|setup| setup.manifest = first).await;
    let genesis = *mesh.vault.lock().await.genesis();
    let t_1 = follows(1, &one, &genesis);
    assert_eq!(mesh.authority.transition(), t_1);
    let before = mesh.applicant("0").joined().await;
    // The same in another order.
    let same = json!({"services": {"vrf": {"b": 2, "a": 1}}});
    let mesh = mesh.restarted(|setup| setup.manifest = same).await;
    assert_eq!(mesh.authority.transition(), t_1);
    let second = other.clone();
    let mesh = mesh.restarted(|setup| setup.manifest = second).await;
    let t_2 = follows(2, &other, &t_1.1);
    assert_eq!(mesh.authority.transition(), t_2);
    // And back again, which is a step forward.
    let third = one.clone();
    let mesh = mesh.restarted(|setup| setup.manifest = third).await;
    let t_3 = follows(3, &one, &t_2.1);
    assert_eq!(mesh.authority.transition(), t_3);
    let after = mesh.applicant("0").joined().await;
    let facts = LeafFacts::of(&after.leaf).unwrap();
    assert_eq!((facts.n, facts.transition), t_3);
    assert!(before.verifies(&mesh, &before.above), "its own issuer is still under the root");
    assert!(!before.verifies(&mesh, &after.above), "each transition has an issuing key of its own");
}

#[tokio::test]
async fn evidence_that_was_made_under_the_manifest_before_is_refused() {
    let mesh = Mesh::new().await;
    let sent = mesh.applicant("0").prepare().await.unwrap();
    let member = mesh.applicant("1").joined().await;
    let (_, before) = mesh.authority.transition();
    let mesh = mesh.restarted(|setup| setup.manifest = json!({})).await;
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::BindingMismatch);
    let renewal = mesh.applicant("1").known_by(&member.leaf);
    let renewal = renewal.bound(move |binding| binding.transition = before);
    assert_eq!(renewal.refused().await, Code::BindingMismatch);
    mesh.applicant("1").known_by(&member.leaf).joined().await;
}

#[tokio::test]
async fn the_audit_trail_goes_on() {
    let mesh = Mesh::new().await;
    mesh.applicant("0").joined().await;
    let mesh = mesh.restarted(|_| {}).await;
    mesh.applicant("0").joined().await;
    let genesis = *mesh.vault.lock().await.genesis();
    let trail = std::fs::read(mesh.audit_file()).unwrap();
    let verified = trust::audit::verify(trail.as_slice(), &genesis, mesh.authority.root_spki()).unwrap();
    assert_eq!(verified.records(), 3);
}

#[tokio::test]
async fn a_transition_at_a_start_is_in_the_audit_trail() {
    let mesh = Mesh::new().await;
    let first = mesh.authority.transition();
    let mesh = mesh.restarted(|_| {}).await;
    let mesh = mesh.restarted(|setup| setup.manifest = json!({})).await;
    let transitions = [first, mesh.authority.transition()];
    mesh.apply(json!({"services": {}})).await;
    let shown = |record: &Value| ["kind", "actor", "data"].map(|key| record[key].clone());
    let line = |(n, t_n): (u64, [u8; 32]), actor: &str| {
        [json!("transition"), json!(actor), json!({"n": n, "tN": to_hex(&t_n)})]
    };
    let expected = [
        line(transitions[0], "start"),
        line(transitions[1], "start"),
        line(mesh.authority.transition(), "a test"),
    ];
    assert_eq!(mesh.audit().iter().map(shown).collect::<Vec<_>>(), expected);
    let n = mesh.authority.transition().0;
    // The store has it too, so that the next start goes on from there.
    let mesh = mesh.restarted(|setup| setup.manifest = json!({"services": {}})).await;
    assert_eq!((n, mesh.authority.transition().0, mesh.audit().len()), (3, 3, 3));
}

/// Replaces text in a row of the store.
async fn edited(mesh: Mesh, key: &str, text: &str, by: &str) -> Option<TrustError> {
    mesh.tamper(key, |value| String::from_utf8(value).unwrap().replace(text, by).into_bytes()).await;
    mesh.reopened(|_| {}).await.err()
}

#[tokio::test]
async fn what_somebody_else_has_changed_in_the_store_is_noticed() {
    let mesh = Mesh::new().await;
    mesh.authority.revoke(RevokedType::Advisory, "INTEL-SA-00001", "alice").await.unwrap();
    let list = edited(mesh, "trust/revocations", "SA-00001", "SA-00002").await;
    assert!(matches!(list, Some(TrustError::Tampered("revocations"))), "{list:?}");
    let chain = edited(Mesh::new().await, "trust/transition", "\"n\":1", "\"n\":2").await;
    assert!(matches!(chain, Some(TrustError::Tampered("transitions"))), "{chain:?}");
    let untouched = edited(Mesh::new().await, "trust/transition", "nothing", "of this").await;
    assert!(untouched.is_none(), "{untouched:?}");
}

#[tokio::test]
async fn an_authority_is_not_opened_with_the_roots_of_the_other_mode() {
    let vendors = Mesh::new().await.reopened(|setup| setup.roots = Some(Roots::Vendors)).await;
    assert!(matches!(vendors.err(), Some(TrustError::RootsOfOtherMode { .. })));
    let in_production = |setup: &mut Setup| {
        (setup.mode, setup.roots) = (Mode::Production, Some(Roots::Vendors));
    };
    let production = Mesh::with(in_production).await;
    let development = production.reopened(|setup| setup.roots = None).await;
    assert!(matches!(development.err(), Some(TrustError::RootsOfOtherMode { .. })));
}
