use mesh_protocol::{AuthorityWorkload, Revocations, SignedRevocations};

use super::*;
use crate::FakeMesh;
use crate::fakes::TRUST_DOMAIN;

#[test]
fn what_the_authority_says_is_worth_one_join_whatever_that_gives() {
    let (one, two, three) = (Some([1; 32]), Some([2; 32]), Some([3; 32]));
    let held = Held { joined: [1; 32], said: None };
    assert_eq!([held.lacks(None), held.lacks(one), held.lacks(two)], [false, false, true]);
    let in_vain = Held { said: two, ..held };
    assert_eq!([in_vain.lacks(two), in_vain.lacks(three), in_vain.lacks(one)], [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_otherwise_wakes_and_is_handed_on_once_it_is_there() {
    let (member, leaf) = FakeMesh::new().member("vrf", &[]);
    let mut secrets = member.secrets();
    let waits = |member| tokio::time::timeout(Duration::from_secs(1), Member::other_secrets(member));
    member.granted.send_replace(Some(member.held().joined));
    assert!(waits(&member).await.is_err());
    member.granted.send_replace(Some([2; 32]));
    assert!(waits(&member).await.is_ok());
    let joined = |granted| Joined { secrets: SecretSet::new(), leaf, not_after: 0, granted };
    member.take(joined(member.held().joined));
    assert!(!secrets.has_changed().unwrap(), "it is what it was");
    member.take(joined([2; 32]));
    assert!(secrets.has_changed().unwrap());
    secrets.mark_unchanged();
    assert!(waits(&member).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_has_begun_is_over_before_it_is_said_which_certificate_it_is() {
    let (member, leaf) = FakeMesh::new().member("vrf", &[]);
    assert_eq!(member.settled().await, leaf);
    let begun = member.renewing.lock().await;
    let waited = tokio::time::timeout(Duration::from_secs(1), member.settled()).await;
    assert!(waited.is_err());
    let renews = async {
        let ends = member.current().1;
        member.current.send_replace(([9; 32], ends));
        drop(begun);
    };
    assert_eq!(tokio::join!(member.settled(), renews).0, [9; 32]);
}

/// The authority says this, all of it signed by this mesh's root.
fn said(mesh: &FakeMesh, transition: [u8; 32], authority: Option<[u8; 32]>) -> WatchAnswer {
    let revocations = Revocations::none(transition, 1);
    let signature = mesh.sign(&revocations.message().unwrap());
    let authority = authority.map(|workload| {
        let signature = mesh.sign(&AuthorityWorkload::message(TRUST_DOMAIN, transition, workload));
        AuthorityWorkload { workload: Bytes(workload.to_vec()), signature }
    });
    let revocations = SignedRevocations { revocations, signature };
    WatchAnswer { revocations, granted: None, config: None, authority }
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_does_not_say_what_it_runs_is_believed_and_is_the_one_that_launched_the_replica() {
    let mesh = FakeMesh::new();
    let (member, _) = mesh.member("vrf", &[]);
    let expected = async |member: &Member<_>| {
        let InForce { transition, authority, .. } = member.in_force().await;
        (transition, authority)
    };
    member.learn(said(&mesh, [1; 32], Some([7; 32]))).unwrap();
    assert_eq!(expected(&member).await, ([1; 32], [7; 32]));
    let forged = said(&FakeMesh::new(), [2; 32], Some([8; 32])).authority;
    let refused = member.learn(WatchAnswer { authority: forged, ..said(&mesh, [2; 32], None) });
    assert!(refused.is_err());
    assert_eq!(expected(&member).await, ([1; 32], [7; 32]));
    member.learn(said(&mesh, [3; 32], None)).unwrap();
    assert_eq!(expected(&member).await, ([3; 32], [0; 32]), "the one that launched it");
}
