//! What is refused before anything is appraised: what is too large or cannot be read, and nonces that are not good here and now.

use std::time::Duration;

use appraisal::Code;
use mesh_protocol::{Bytes, Evidence, JoinRequest, MAX_EVIDENCE_BYTES};

use crate::mesh::Mesh;

const SECOND: Duration = Duration::from_secs(1);
const LIFE: Duration = Duration::from_secs(120);

/// Changes what is sent.
type Change = fn(&mut JoinRequest);

/// Appends to the collateral what makes the evidence so large.
fn padded(with: u8, to: usize) -> impl FnOnce(&mut JoinRequest) {
    move |request| {
        let (mut evidence, claims) = Evidence::decode_join(&request.evidence.0).unwrap();
        let missing = to - request.evidence.0.len();
        evidence.collateral.extend(vec![with; missing]);
        request.evidence = Bytes(evidence.encode_join(&claims));
        assert_eq!(request.evidence.0.len(), to);
    }
}

#[tokio::test]
async fn evidence_over_the_cap_is_too_large_and_at_the_cap_it_is_read() {
    let mesh = Mesh::new().await;
    let sized = |with, to| mesh.applicant("0").request(padded(with, to));
    assert_eq!(sized(b' ', MAX_EVIDENCE_BYTES + 1).refused().await, Code::EvidenceTooLarge);
    assert_eq!(sized(b'x', MAX_EVIDENCE_BYTES + 1).refused().await, Code::EvidenceTooLarge);
    assert_eq!(sized(b'x', MAX_EVIDENCE_BYTES).refused().await, Code::EvidenceMalformed);
    sized(b' ', MAX_EVIDENCE_BYTES).joined().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_malformed_and_uses_neither_nonce_nor_ticket_up() {
    let changes: [(&str, Change); 7] = [
        ("no evidence", |request| request.evidence.0.clear()),
        ("cut evidence", |request| request.evidence.0.truncate(500)),
        ("longer evidence", |request| request.evidence.0.push(0)),
        ("a large certificate request", |request| request.csr.0.resize(1025, 0)),
        ("a short HPKE key", |request| request.hpke_public_key.0.truncate(31)),
        ("no receipt key", |request| request.receipt_spki.0.clear()),
        ("a receipt key of another form", |request| request.receipt_spki.0[26] = 2),
    ];
    let mesh = Mesh::new().await;
    let mut sent = mesh.applicant("0").prepare().await.unwrap();
    let whole = sent.request.clone();
    for (what, change) in changes {
        change(&mut sent.request);
        assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::EvidenceMalformed, "{what}");
        sent.request = whole.clone();
    }
    assert!(mesh.audit().len() == 1 && mesh.records("vrf/0").await.is_empty());
    sent.join(&mesh.authority).await.unwrap();
}

#[tokio::test]
async fn a_replicas_nonce_has_32_bytes() {
    let mesh = Mesh::new().await;
    for length in [0, 31, 33] {
        let refused = mesh.applicant("0").nonce(vec![1; length]).challenge().await.unwrap_err();
        assert_eq!(refused.code, Code::EvidenceMalformed);
    }
}

#[tokio::test]
async fn a_nonce_is_good_once() {
    let mesh = Mesh::new().await;
    let sent = mesh.applicant("0").prepare().await.unwrap();
    sent.show(&mesh.authority).await.unwrap();
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
    // With another ticket, which the evidence says nothing of, it is the same nonce.
    let mut again = sent;
    again.claims.ticket = mesh.ticket("vrf", "0");
    again.write_claims();
    assert_eq!(again.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
}

#[tokio::test]
async fn a_nonce_is_used_up_by_a_join_that_is_refused() {
    let mesh = Mesh::new().await;
    let sent = mesh.applicant("0").running([9; 32]).prepare().await.unwrap();
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::ReleaseNotAllowed);
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
}

#[tokio::test]
async fn a_nonce_is_good_for_120_seconds() {
    let mesh = Mesh::new().await;
    mesh.applicant("0").hesitating(LIFE).joined().await;
    assert_eq!(mesh.applicant("0").hesitating(LIFE + SECOND).refused().await, Code::NonceExpired);
}

#[tokio::test]
async fn a_nonce_is_good_on_its_connection_and_for_whom_it_was_given_to() {
    let mesh = Mesh::new().await;
    let mismatch = Code::NonceChannelMismatch;
    assert_eq!(mesh.applicant("0").joining_over([9; 32]).refused().await, mismatch);
    let nonce = |place: usize| {
        mesh.applicant("0").claiming(move |claims| claims.authority_nonce[place] ^= 1).refused()
    };
    assert_eq!(nonce(15).await, mismatch);
    assert_eq!(nonce(31).await, mismatch);
    let replicas = mesh.applicant("0").claiming(|claims| claims.replica_nonce[0] ^= 1);
    assert_eq!(replicas.refused().await, mismatch);
    let ticket = mesh.ticket("vrf", "1");
    let another =
        mesh.applicant("0").claiming(|claims| (claims.instance, claims.ticket) = ("1".into(), ticket));
    assert_eq!(another.refused().await, mismatch);
}

#[tokio::test]
async fn a_join_over_another_connection_takes_nothing_from_the_one_that_the_nonce_is_for() {
    let mesh = Mesh::new().await;
    let mut sent = mesh.applicant("0").prepare().await.unwrap();
    let own = std::mem::replace(&mut sent.channel, [9; 32]);
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::NonceChannelMismatch);
    sent.channel = own;
    sent.show(&mesh.authority).await.unwrap();
}
