//! What is revoked is refused from then on, whether it has an identity or wants one, until it is restored.

use appraisal::Code;
use dev_quoter::Profile;
use mesh_protocol::{RevokedType, to_hex};

use crate::mesh::{Mesh, W, everything_waits};

const ADVISORY: &str = "INTEL-SA-00001";

/// A mesh whose replica 0 has joined, and everything that can be revoked about it.
async fn joined() -> (Mesh, crate::applicant::Joined, Vec<(RevokedType, String)>) {
    let mesh = Mesh::pretending(Profile { advisories: vec![ADVISORY.into()], ..Profile::default() }).await;
    let member = mesh.applicant("0").joined().await;
    let about = vec![
        (RevokedType::Instance, member.peer.id.to_string()),
        (RevokedType::Measurement, to_hex(&W)),
        (RevokedType::Platform, mesh.platform()),
        (RevokedType::Advisory, ADVISORY.to_lowercase()),
        (RevokedType::Leaf, to_hex(&member.peer.leaf)),
    ];
    (mesh, member, about)
}

#[tokio::test]
async fn whoever_a_revocation_is_about_is_refused_at_once_and_at_its_renewal() {
    for which in 0..5 {
        let (mesh, member, about) = joined().await;
        let (about, value) = &about[which];
        assert_eq!(mesh.authority.revoke(*about, value, "alice").await.unwrap(), 1);
        assert_eq!(mesh.stands("0"), Err(Code::Revoked), "{about:?}");
        let renewal = mesh.applicant("0").known_by(&member.leaf).refused().await;
        assert_eq!(renewal, Code::Revoked, "{about:?}");
        assert_eq!(mesh.authority.restore(*about, value, "alice").await.unwrap(), 2);
        // It may try again, and has to show anew why.
        assert_eq!(mesh.stands("0"), Err(Code::Revoked), "{about:?}");
        let by_name = matches!(about, RevokedType::Instance | RevokedType::Leaf);
        let renewal = mesh.applicant("0").known_by(&member.leaf).join().await.map(|_joined| ());
        // A certificate that was revoked for what it rests on stays revoked.
        let expected = if by_name { Ok(()) } else { Err(Code::Revoked) };
        assert_eq!(renewal.map_err(|fault| fault.code), expected, "{about:?}");
        mesh.applicant("0").joined().await;
        assert_eq!(mesh.stands("0"), Ok("valid"), "{about:?}");
    }
}

#[tokio::test]
async fn a_first_join_is_refused_for_what_is_revoked() {
    let (mesh, _member, about) = joined().await;
    for (about, value) in about {
        mesh.authority.revoke(about, &value, "alice").await.unwrap();
        let join = mesh.applicant("0").join().await.map(|_joined| ()).map_err(|fault| fault.code);
        // A new certificate is another one than the one that is revoked.
        let expected = if about == RevokedType::Leaf { Ok(()) } else { Err(Code::Revoked) };
        assert_eq!(join, expected, "{about:?}");
        mesh.authority.restore(about, &value, "alice").await.unwrap();
    }
}

#[tokio::test]
async fn a_revocation_touches_nobody_else() {
    let (mesh, member, _) = joined().await;
    mesh.applicant("1").joined().await;
    let instance = member.peer.id.to_string();
    mesh.authority.revoke(RevokedType::Instance, &instance, "alice").await.unwrap();
    mesh.authority.revoke(RevokedType::Leaf, &to_hex(&member.peer.leaf), "alice").await.unwrap();
    mesh.authority.revoke(RevokedType::Measurement, &to_hex(&[9; 32]), "alice").await.unwrap();
    assert_eq!((mesh.stands("0"), mesh.stands("1")), (Err(Code::Revoked), Ok("valid")));
    assert!(mesh.authority.is_revoked(&member.peer.id, &[0; 32]));
    mesh.applicant("1").joined().await;
}

#[tokio::test]
async fn the_list_is_signed_by_the_root_and_its_epoch_only_grows() {
    let (mesh, member, _) = joined().await;
    let list = || mesh.authority.revocations().borrow().verify(mesh.authority.root_spki()).cloned().unwrap();
    assert_eq!((list().epoch, list().entries.len()), (0, 0));
    let id = member.peer.id.to_string();
    assert_eq!(mesh.authority.revoke(RevokedType::Instance, &id, "alice").await.unwrap(), 1);
    assert_eq!(mesh.authority.revoke(RevokedType::Instance, &id, "alice").await.unwrap(), 1);
    assert!(list().revokes(&member.peer.id, &[0; 32]));
    assert_eq!(list().t_n.0, mesh.authority.transition().1);
    assert_eq!(mesh.authority.restore(RevokedType::Leaf, &id, "alice").await.unwrap(), 1);
    assert_eq!(mesh.authority.restore(RevokedType::Instance, &id, "alice").await.unwrap(), 2);
    assert!(!list().revokes(&member.peer.id, &[0; 32]));
    for value in ["", &"x".repeat(256)] {
        assert!(mesh.authority.revoke(RevokedType::Advisory, value, "alice").await.is_err());
    }
    assert_eq!(list().epoch, 2);
}

#[tokio::test]
async fn of_two_revocations_at_the_same_time_none_is_lost() {
    let mesh = Mesh::new().await;
    let revoke = |value: &'static str| mesh.authority.revoke(RevokedType::Advisory, value, "alice");
    let (one, other, third) = tokio::join!(revoke("A"), revoke("B"), revoke("C"));
    let mut epochs = [one, other, third].map(Result::unwrap);
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3]);
    let list = mesh.authority.revocations().borrow().revocations.clone();
    assert_eq!((list.epoch, list.entries.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_revoked_while_it_joins_is_not_admitted() {
    let mesh = Mesh::new().await;
    let sent = mesh.applicant("0").prepare().await.unwrap();
    // It is appraised, and waits for its secrets.
    let vault = std::sync::Arc::clone(&mesh.vault);
    let held = vault.lock().await;
    let authority = mesh.authority.clone();
    let joins =
        tokio::spawn(
            async move { sent.show(&authority).await.map(|_answer| ()).map_err(|fault| fault.code) },
        );
    everything_waits().await;
    assert!(!joins.is_finished());
    mesh.authority.revoke(RevokedType::Measurement, &to_hex(&W), "alice").await.unwrap();
    drop(held);
    assert_eq!(joins.await.unwrap(), Err(Code::Revoked));
    assert_eq!(mesh.stands("0"), Err(Code::Revoked));
}
