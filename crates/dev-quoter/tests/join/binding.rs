//! Evidence that was made for anything else than this very join, and certificate requests that do not belong to it.

use appraisal::Code;
use dev_quoter::Profile;
use mesh_protocol::{Bytes, EvidenceKind, JoinBinding, JoinRequest};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PublicKeyData, SanType,
};
use types::Mode;

use crate::applicant::{certificate_request, plain_params};
use crate::mesh::Mesh;

/// Changes what evidence is bound to.
type Change = fn(&mut JoinBinding<'_>);

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

#[tokio::test]
async fn evidence_that_was_made_for_anything_else_is_refused() {
    let changes: [(&str, Change); 17] = [
        ("nonce of the authority", |binding| binding.authority_nonce[31] ^= 1),
        ("nonce of the replica", |binding| binding.replica_nonce[0] ^= 1),
        ("kind", |binding| binding.kind = EvidenceKind::Sgx),
        ("identity key", |binding| binding.identity_spki = &[9; 91]),
        ("HPKE key", |binding| binding.hpke_public[0] ^= 1),
        ("receipt key", |binding| binding.receipt_spki = &[9; 91]),
        ("service", |binding| binding.service = "oracle"),
        ("version", |binding| binding.version = "1.4.3"),
        ("instance", |binding| binding.instance = "1"),
        ("trust domain", |binding| binding.trust_domain = "other.dev.invalid"),
        ("key of the authority", |binding| binding.authority_spki = &[9; 91]),
        ("key of the root", |binding| binding.root_spki = &[9; 91]),
        ("T_n", |binding| binding.transition[31] ^= 1),
        ("mode", |binding| binding.mode = Mode::Production),
        ("workload digest", |binding| binding.workload[0] ^= 1),
        ("configuration", |binding| binding.config_digest[0] ^= 1),
        ("certificate before", |binding| binding.previous_leaf = Some([9; 32])),
    ];
    let mesh = Mesh::new().await;
    for (what, change) in changes {
        assert_eq!(mesh.applicant("0").bound(change).refused().await, Code::BindingMismatch, "{what}");
    }
    mesh.applicant("0").joined().await;
}

#[tokio::test]
async fn what_a_service_is_to_be_is_in_the_manifest_and_not_what_a_replica_says() {
    let mesh = Mesh::new().await;
    let version = mesh.applicant("0").bound(|binding| binding.version = "1.4.3");
    let version = version.claiming(|claims| claims.version = "1.4.3".into());
    assert_eq!(version.refused().await, Code::BindingMismatch);
    let configured = mesh.applicant("0").bound(|binding| binding.config_digest = [9; 32]);
    let configured = configured.claiming(|claims| claims.config_digest = [9; 32]);
    assert_eq!(configured.refused().await, Code::BindingMismatch);
}

#[tokio::test]
async fn whoever_relays_a_join_cannot_put_keys_of_its_own_into_it() {
    let mesh = Mesh::new().await;
    let mismatch = Code::BindingMismatch;
    let sealed_to = mesh.applicant("0").request(|request| request.hpke_public_key.0[0] ^= 1);
    assert_eq!(sealed_to.refused().await, mismatch);
    let receipts = key().subject_public_key_info();
    let receipts = mesh.applicant("0").request(|request| request.receipt_spki = Bytes(receipts));
    assert_eq!(receipts.refused().await, mismatch);
    let identity = key();
    let (claimed, csr) = (identity.subject_public_key_info(), certificate_request(&identity));
    let identity = mesh.applicant("0").claiming(|claims| claims.identity_spki = claimed);
    assert_eq!(identity.request(|request| request.csr = Bytes(csr)).refused().await, mismatch);
}

#[tokio::test]
async fn a_workload_digest_that_was_not_measured_is_refused_even_if_the_evidence_is_bound_to_it() {
    let mesh = Mesh::new().await;
    let another = mesh.applicant("0").bound(|binding| binding.workload = [9; 32]);
    let another = another.claiming(|claims| claims.workload = [9; 32]);
    assert_eq!(another.refused().await, Code::BindingMismatch);
}

fn requested(params: &CertificateParams, key: &KeyPair) -> Bytes {
    Bytes(params.serialize_request(key).unwrap().der().to_vec())
}

#[tokio::test]
async fn a_certificate_request_is_for_the_bound_key_and_signed_with_it() {
    let mesh = Mesh::new().await;
    let refused = async |what: &str, change: Box<dyn FnOnce(&mut JoinRequest) + Send>| {
        let refused = mesh.applicant("0").request(change).refused().await;
        assert_eq!(refused, Code::CsrKeyMismatch, "{what}");
    };
    refused("another key", Box::new(|request| request.csr = Bytes(certificate_request(&key())))).await;
    let flip_last = |request: &mut JoinRequest| *request.csr.0.last_mut().unwrap() ^= 1;
    refused("a changed signature", Box::new(flip_last)).await;
    refused("more behind it", Box::new(|request| request.csr.0.push(0))).await;
    refused("none", Box::new(|request| request.csr.0.clear())).await;
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    refused("a P-384 key", Box::new(move |request| request.csr = requested(&plain_params(), &p384))).await;
}

/// The request of the applicant with its own key, made of these parameters.
async fn refused_request(mesh: &Mesh, params: CertificateParams) -> Code {
    let mut sent = mesh.applicant("0").prepare().await.unwrap();
    sent.request.csr = requested(&params, &sent.keys.identity);
    sent.show(&mesh.authority).await.unwrap_err().code
}

#[tokio::test]
async fn a_certificate_request_says_nothing_but_its_key() {
    let mesh = Mesh::new().await;
    let mut subject = plain_params();
    subject.distinguished_name.push(DnType::CommonName, "vrf");
    assert_eq!(refused_request(&mesh, subject).await, Code::CsrKeyMismatch);
    let mut name = plain_params();
    let uri = "spiffe://join.dev.invalid/service/oracle/0".try_into().unwrap();
    name.subject_alt_names.push(SanType::URI(uri));
    assert_eq!(refused_request(&mesh, name).await, Code::CsrKeyMismatch);
    let mut usage = plain_params();
    usage.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning);
    assert_eq!(refused_request(&mesh, usage).await, Code::CsrKeyMismatch);
}

#[tokio::test]
async fn the_certificate_request_is_judged_with_the_binding() {
    let mesh = Mesh::pretending(Profile { debug: true, ..Profile::default() }).await;
    let csr = |request: &mut JoinRequest| request.csr.0.clear();
    assert_eq!(mesh.applicant("0").request(csr).refused().await, Code::CsrKeyMismatch, "before debug");
    let bound = mesh.applicant("0").request(csr).bound(|binding| binding.instance = "1");
    assert_eq!(bound.refused().await, Code::BindingMismatch, "the evidence comes first");
    let signed = mesh.applicant("0").request(csr).evidence(|evidence| evidence.quote[48 + 64] ^= 1);
    assert_eq!(signed.refused().await, Code::SignatureInvalid, "the chain comes before the binding");
}
