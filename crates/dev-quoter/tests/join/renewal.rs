//! Renewal: a whole new join with new keys, by the certificate so far instead of a ticket.

use std::time::Duration;

use appraisal::Code;
use mesh_protocol::Subject;
use mesh_protocol::tls::spki_of;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use trust::Standing;

use crate::mesh::{Mesh, NOW};

#[tokio::test]
async fn a_member_renews_its_identity_without_a_ticket_and_with_new_keys() {
    let mesh = Mesh::new().await;
    let first = mesh.applicant("0").joined().await;
    mesh.clock.forward(Duration::from_secs(1800));
    let second = mesh.applicant("0").known_by(&first.leaf).joined().await;
    assert_eq!(second.peer.id, first.peer.id);
    assert_ne!(spki_of(&second.leaf), spki_of(&first.leaf));
    assert!(second.verifies(&mesh, &second.above) && first.verifies(&mesh, &first.above));
    let Some(Standing::Valid(admission)) = mesh.standing("0") else { panic!("{:?}", mesh.standing("0")) };
    assert_eq!((admission.leaf, admission.not_after), (second.peer.leaf, NOW + 5400));
    assert_eq!(admission.renewed.map(|(leaf, _until)| leaf), Some(first.peer.leaf));
}

#[tokio::test]
async fn the_evidence_of_a_renewal_is_bound_to_the_certificate_so_far() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    for previous in [None, Some([9; 32])] {
        let renewal = mesh.applicant("0").known_by(&member.leaf);
        let renewal = renewal.bound(move |binding| binding.previous_leaf = previous);
        assert_eq!(renewal.refused().await, Code::BindingMismatch);
    }
}

#[tokio::test]
async fn nobody_elses_certificate_renews_an_identity() {
    let mesh = Mesh::new().await;
    let live = mesh.applicant("0").joined().await;
    let stood = mesh.standing("0");
    let sibling = mesh.applicant("1").joined().await;
    let oracle = mesh.applicant_of("oracle", "0").joined().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().subject_public_key_info();
    let gateway = mesh.authority.issue_own(Subject::Gateway("0".into()), &key, NOW + 60).unwrap();
    for leaf in [&sibling.leaf, &oracle.leaf, &gateway[0]] {
        let challenged = mesh.applicant("0").known_by(leaf).challenge().await.unwrap_err();
        assert_eq!(challenged.code, Code::TicketInvalid);
        // A ticket does not help whoever has shown that it is somebody else.
        let with_ticket = mesh.applicant("0").known_by(leaf).ticket(live.sent.claims.ticket.clone());
        assert_eq!(with_ticket.refused().await, Code::TicketInvalid);
    }
    let claimed = mesh.applicant("1").known_by(&sibling.leaf).claiming(|claims| claims.instance = "0".into());
    assert_eq!(claimed.refused().await, Code::TicketInvalid);
    assert_eq!(mesh.standing("0"), stood);
}

#[tokio::test]
async fn a_refused_renewal_ends_the_standing() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    let other_code = mesh.applicant("0").known_by(&member.leaf).running([9; 32]).refused().await;
    assert_eq!(other_code, Code::ReleaseNotAllowed);
    assert_eq!(mesh.stands("0"), Err(Code::ReleaseNotAllowed));
}

#[tokio::test]
async fn what_fails_before_the_nonce_leaves_a_renewals_standing_as_it_is() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    let sent = mesh.applicant("0").known_by(&member.leaf).prepare().await.unwrap();
    sent.show(&mesh.authority).await.unwrap();
    let stood = mesh.standing("0");
    assert_eq!(sent.show(&mesh.authority).await.unwrap_err().code, Code::NonceReplayed);
    let late = mesh.applicant("0").known_by(&member.leaf).hesitating(Duration::from_secs(121));
    assert_eq!(late.refused().await, Code::NonceExpired);
    let elsewhere = mesh.applicant("0").known_by(&member.leaf).joining_over([9; 32]);
    assert_eq!(elsewhere.refused().await, Code::NonceChannelMismatch);
    assert_eq!(mesh.standing("0"), stood);
}
