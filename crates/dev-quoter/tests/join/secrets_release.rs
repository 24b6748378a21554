//! The secrets that a join gives: sealed to the replica's own key, and signed as a set, so that nobody on the way can exchange
//! any.

use mesh_protocol::tls::spki_of;
use mesh_protocol::{Bytes, Release, SealedSecret, granted_digest, hpke_info, is_signed_by};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde_json::json;
use trust::{SecretGrant, TrustError};
use types::Mode;

use crate::applicant::Joined;
use crate::mesh::{Mesh, Setup, TOKEN, TRUST_DOMAIN};

const SPIFFE_ID: &str = "spiffe://join.dev.invalid/service/vrf/0";

/// To whom the secrets of a join were released.
fn release<'a>(mesh: &Mesh, joined: &Joined) -> Release<'a> {
    Release {
        mode: Mode::Development,
        trust_domain: TRUST_DOMAIN,
        transition: mesh.authority.transition().1,
        spiffe_id: SPIFFE_ID,
        leaf: joined.peer.leaf,
    }
}

/// Whether the authority has signed this set for this join.
fn is_signed(mesh: &Mesh, joined: &Joined, secrets: &[SealedSecret]) -> bool {
    let message = release(mesh, joined).set_message(&joined.sent.report_data, secrets);
    let issuer = spki_of(&joined.above[0]).unwrap();
    is_signed_by(&issuer, &message, &joined.answer.set_signature.0)
}

/// The value of a secret for whoever has this key.
fn opened(mesh: &Mesh, joined: &Joined, secret: &SealedSecret, key: &HpkePrivateKey) -> Option<Vec<u8>> {
    let info = hpke_info(&joined.sent.report_data);
    let aad = release(mesh, joined).associated_data(&secret.name, secret.version, secret.epoch);
    let enc = EncapsulatedSecret(secret.enc.0.clone());
    DH_KEM_X25519_HKDF_SHA256_AES_256.open(&enc, &info, &aad, &secret.ct.0, key).ok()
}

#[tokio::test]
async fn a_replica_is_given_the_secrets_that_the_manifest_names_in_all_their_epochs() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let secrets = &joined.answer.secrets;
    let listed: Vec<_> = secrets.iter().map(|secret| (secret.name.as_str(), secret.epoch)).collect();
    assert_eq!(listed, [("api-token", 1), ("signing-key", 1), ("signing-key", 2)]);
    assert!(is_signed(&mesh, &joined, secrets));
    let numbers = secrets.iter().map(|secret| (secret.name.as_str(), secret.version, secret.epoch));
    let said = mesh.authority.grants().borrow()[&"vrf".parse().unwrap()];
    assert_eq!(granted_digest(numbers), said, "who has joined knows that there is nothing else");
    let open = |secret| opened(&mesh, &joined, secret, &joined.sent.keys.hpke_private).unwrap();
    assert_eq!(open(&secrets[0]), TOKEN);
    let vault = mesh.vault.lock().await;
    let epochs = vault.reveal("seed").unwrap().unwrap();
    assert_eq!(open(&secrets[1]), *epochs[0].value);
    assert_eq!(open(&secrets[2]), *epochs[1].value);
}

#[tokio::test]
async fn a_service_that_names_no_secret_is_given_none_and_the_empty_set_is_signed() {
    let mesh = Mesh::with(|setup| setup.vrf.secrets.clear()).await;
    let joined = mesh.applicant("0").joined().await;
    assert!(joined.answer.secrets.is_empty());
    assert!(is_signed(&mesh, &joined, &[]));
}

#[tokio::test]
async fn nobody_else_can_open_a_secret() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let another = mesh.applicant("1").joined().await;
    for secret in &joined.answer.secrets {
        assert_eq!(opened(&mesh, &joined, secret, &another.sent.keys.hpke_private), None);
    }
    // Nor does it pass for another secret, version or epoch.
    let key = &joined.sent.keys.hpke_private;
    let changes: [fn(&mut SealedSecret); 3] = [
        |secret| secret.name = "signing-key".into(),
        |secret| secret.version += 1,
        |secret| secret.epoch += 1,
    ];
    for change in changes {
        let mut secret = joined.answer.secrets[0].clone();
        change(&mut secret);
        assert_eq!(opened(&mesh, &joined, &secret, key), None);
    }
}

#[tokio::test]
async fn a_set_that_somebody_else_has_sealed_or_changed_is_not_signed() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let secrets = &joined.answer.secrets;
    let changed = |change: fn(&mut Vec<SealedSecret>)| {
        let mut secrets = secrets.clone();
        change(&mut secrets);
        is_signed(&mesh, &joined, &secrets)
    };
    assert!(!changed(|secrets| drop(secrets.pop())), "one is missing");
    assert!(!changed(|secrets| secrets.push(secrets[0].clone())), "one stands twice");
    let exchange = |secrets: &mut Vec<SealedSecret>| {
        let (one, other) = secrets.split_at_mut(1);
        std::mem::swap(&mut one[0].ct, &mut other[0].ct);
        std::mem::swap(&mut one[0].enc, &mut other[0].enc);
    };
    assert!(!changed(exchange), "two are exchanged");
    let rename = |secrets: &mut Vec<SealedSecret>| secrets[0].name = "token".into();
    assert!(!changed(rename), "one has another name, and with it another place");
    // What is signed is sorted, so the order on the wire says nothing.
    assert!(changed(|secrets| secrets.reverse()));
    // Whoever can seal to the replica can make a set that opens, and not one that is signed.
    let mut own = secrets.clone();
    let (info, key) =
        (hpke_info(&joined.sent.report_data), HpkePublicKey(joined.sent.keys.hpke_public.to_vec()));
    let aad = release(&mesh, &joined).associated_data(&own[0].name, own[0].version, own[0].epoch);
    let (enc, ct) = DH_KEM_X25519_HKDF_SHA256_AES_256.seal(&info, &aad, b"another", &key).unwrap();
    (own[0].enc, own[0].ct) = (Bytes(enc.0), Bytes(ct));
    let sealed_again = opened(&mesh, &joined, &own[0], &joined.sent.keys.hpke_private);
    assert_eq!(sealed_again.as_deref(), Some(&b"another"[..]));
    assert!(!is_signed(&mesh, &joined, &own));
}

#[tokio::test]
async fn the_set_of_one_join_is_not_that_of_another() {
    let mesh = Mesh::with(|setup| setup.vrf.secrets.clear()).await;
    let joined = mesh.applicant("0").joined().await;
    let mut again = mesh.applicant("0").joined().await;
    assert!(is_signed(&mesh, &again, &[]));
    again.answer.set_signature = joined.answer.set_signature.clone();
    assert!(!is_signed(&mesh, &again, &[]));
}

#[tokio::test]
async fn a_secret_that_is_not_there_stops_the_join_and_is_worth_another_try() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    mesh.vault.lock().await.remove("token").await.unwrap();
    let refused = mesh.applicant("0").ticket(ticket.clone()).refused().await;
    assert_eq!(refused, appraisal::Code::AuthorityUnavailable);
    assert!(refused.is_retryable());
    mesh.vault.lock().await.set("token", b"another", mesh.clock.seconds()).await.unwrap();
    let joined = mesh.applicant("0").ticket(ticket).joined().await;
    let open = opened(&mesh, &joined, &joined.answer.secrets[0], &joined.sent.keys.hpke_private);
    assert_eq!(open.as_deref(), Some(&b"another"[..]));
}

#[tokio::test]
async fn a_manifest_that_gives_a_service_more_than_an_answer_holds_starts_nothing() {
    let mesh = Mesh::new().await;
    let transition = mesh.authority.transition();
    let names: Vec<_> = (0..11).map(|number| format!("big-{number}")).collect();
    for name in &names {
        let value = vec![0; secrets::MAX_VALUE_BYTES];
        mesh.vault.lock().await.set(name, &value, mesh.clock.seconds()).await.unwrap();
    }
    let largest = names[..10].to_vec();
    let grant = |name: &String| SecretGrant { name: name.clone(), record: name.clone() };
    let given = |names: Vec<String>| {
        move |setup: &mut Setup| {
            setup.vrf.secrets = names.iter().map(grant).collect();
            setup.manifest = json!({"secrets": names});
        }
    };
    let mesh = mesh.restarted(given(largest)).await;
    assert_eq!(mesh.authority.transition().0, transition.0 + 1);
    assert_eq!(mesh.applicant("0").joined().await.answer.secrets.len(), 10);
    let refused = mesh.reopened(given(names)).await.err().unwrap();
    assert!(matches!(refused, TrustError::TooMuchGranted { .. }), "{refused}");
}
