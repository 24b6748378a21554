//! What a good join gives: a certificate that says who the replica is, what its evidence was, and nothing else.

use std::time::Duration;

use appraisal::{Checks, Code, Policy, Release, Roots, TcbStatus};
use dev_quoter::{Profile, Validity};
use mesh_protocol::tls::{RootPin, peer, spki_of, verify_chain};
use mesh_protocol::{AuthorityBinding, Evidence, EvidenceKind, SpiffeId, Subject, sha256, to_hex};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateDer, UnixTime};
use trust::{LeafFacts, Standing};
use types::Mode;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use crate::mesh::{AUTHORITY_W, Mesh, NOW, TRUST_DOMAIN, VERSION, W};

/// id-kp-serverAuth and id-kp-clientAuth (RFC 5280 section 4.2.1.12).
const USAGES: [&str; 2] = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"];
const FACTS: &str = "1.3.6.1.4.1.32473.1.1";

#[tokio::test]
async fn a_certificate_leads_to_the_root_and_names_the_replica_with_its_key() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    assert!(joined.verifies(&mesh, &joined.above));
    assert_eq!(joined.peer.id.to_string(), "spiffe://join.dev.invalid/service/vrf/0");
    assert_eq!(joined.peer.leaf, sha256(&joined.leaf));
    assert_eq!(spki_of(&joined.leaf), Some(joined.sent.keys.identity.subject_public_key_info()));
    assert_eq!(joined.above.len(), 2);
    assert_eq!(spki_of(&joined.above[1]).as_deref(), Some(mesh.authority.root_spki()));
    let verify = |root: &RootPin, above: &[CertificateDer<'_>], now: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verify_chain(root, TRUST_DOMAIN, &joined.leaf, above, now).is_ok()
    };
    let root = mesh.root_pin();
    assert!(verify(&root, &joined.above, NOW - 30) && verify(&root, &joined.above, NOW + 3600));
    assert!(!verify(&root, &joined.above, NOW - 31) && !verify(&root, &joined.above, NOW + 3601));
    assert!(!verify(&RootPin::Spki(vec![9; 91]), &joined.above, NOW));
    assert!(!verify(&root, &joined.above[1..], NOW), "the issuer is missing");
    let other = Mesh::new().await.applicant("0").joined().await;
    assert!(!verify(&root, &other.above, NOW), "another mesh");
}

#[tokio::test]
async fn a_certificate_says_what_it_must_and_nothing_else() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let certificate = Certificate::from_der(&joined.leaf).unwrap();
    let leaf = certificate.tbs_certificate();
    assert!(leaf.subject().is_empty());
    let serial = leaf.serial_number().as_bytes();
    assert!(serial.len() == 16 && (1..0x80).contains(&serial[0]), "{serial:?}");
    let (critical, names) = leaf.get_extension::<SubjectAltName>().unwrap().unwrap();
    let [GeneralName::UniformResourceIdentifier(uri)] = &names.0[..] else { panic!("{names:?}") };
    assert!(critical);
    assert_eq!(uri.as_str(), "spiffe://join.dev.invalid/service/vrf/0");
    let (_, constraints) = leaf.get_extension::<BasicConstraints>().unwrap().unwrap();
    assert_eq!(constraints, BasicConstraints { ca: false, path_len_constraint: None });
    let (_, usage) = leaf.get_extension::<KeyUsage>().unwrap().unwrap();
    assert!(usage.digital_signature() && usage.0.into_iter().count() == 1);
    let (_, usages) = leaf.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert_eq!(usages.0.iter().map(ToString::to_string).collect::<Vec<_>>(), USAGES);
    let own = leaf.extensions().unwrap().iter().filter(|extension| extension.extn_id.to_string() == FACTS);
    assert_eq!(own.map(|extension| extension.critical).collect::<Vec<_>>(), [false]);
    let another = mesh.applicant("0").joined().await;
    let another = Certificate::from_der(&another.leaf).unwrap();
    assert_ne!(another.tbs_certificate().serial_number(), leaf.serial_number());
}

#[tokio::test]
async fn the_facts_of_a_certificate_are_those_of_the_join_and_name_its_record() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let (n, transition) = mesh.authority.transition();
    let facts = LeafFacts::of(&joined.leaf).unwrap();
    let records = mesh.records("vrf/0").await;
    assert_eq!(records.len(), 1);
    let expected = LeafFacts {
        mode: Mode::Development,
        n,
        transition,
        appraisal: sha256(&mesh_protocol::canonical(&records[0]["record"]).unwrap()),
        version: VERSION.into(),
        receipt: sha256(&joined.sent.keys.receipt_spki),
        workload: W,
    };
    assert_eq!(facts, expected);
    assert_eq!(n, 1);
}

/// From when until when a certificate holds.
fn validity(leaf: &CertificateDer<'_>) -> (u64, u64) {
    let certificate = Certificate::from_der(leaf).unwrap();
    let validity = certificate.tbs_certificate().validity();
    (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
}

#[tokio::test]
async fn an_identity_lives_for_its_time_and_no_longer_than_what_it_rests_on() {
    let mesh = Mesh::with(|setup| setup.vrf.policy.identity_ttl = Duration::from_secs(900)).await;
    let joined = mesh.applicant("0").joined().await;
    assert_eq!(validity(&joined.leaf), (NOW - 30, NOW + 900));
    let validity_of_collateral = Some(Validity { issued: NOW - 60, next_update: NOW + 100 });
    mesh.pretend(Profile { validity: validity_of_collateral, ..Profile::default() });
    let joined = mesh.applicant("0").joined().await;
    assert_eq!(validity(&joined.leaf), (NOW - 30, NOW + 100));
}

#[tokio::test]
async fn the_standing_of_an_admitted_replica_says_what_its_evidence_proved() {
    let profile = Profile { advisories: vec!["INTEL-SA-00001".into()], ..Profile::default() };
    let mesh = Mesh::pretending(profile).await;
    let joined = mesh.applicant("0").joined().await;
    let Some(Standing::Valid(admission)) = mesh.standing("0") else { panic!("{:?}", mesh.standing("0")) };
    assert_eq!((&admission.id, admission.leaf), (&joined.peer.id, joined.peer.leaf));
    assert_eq!(admission.renewed, None);
    assert_eq!((admission.appraised_at, admission.not_after), (NOW, NOW + 3600));
    assert_eq!(admission.drains_at, NOW + 3590);
    let appraised = &admission.appraised;
    assert_eq!((appraised.kind, appraised.tcb), (EvidenceKind::Simulated, TcbStatus::UpToDate));
    assert_eq!((&appraised.measurement, appraised.release.as_str()), (&to_hex(&W), VERSION));
    assert_eq!(appraised.advisories, ["INTEL-SA-00001"]);
    assert!(appraised.platform.contains(&mesh.platform()));
    assert_eq!(mesh.records("vrf/0").await[0]["record"]["id"], admission.record);
}

#[tokio::test]
async fn a_challenge_is_answered_with_evidence_of_the_authority_itself() {
    let mesh = Mesh::new().await;
    let answer = mesh.applicant("0").nonce(vec![5; 32]).challenge().await.unwrap();
    let evidence = Evidence::decode(&answer.evidence.0).unwrap();
    let binding = |nonce| AuthorityBinding {
        nonce,
        authority_spki: &mesh.authority_spki,
        root_spki: mesh.authority.root_spki(),
        trust_domain: TRUST_DOMAIN,
        transition: mesh.authority.transition().1,
        mode: Mode::Development,
    };
    let policy = Policy::of_releases(vec![Release::simulated("authority", AUTHORITY_W)]);
    let roots = Roots::Development(mesh.quoter.lock().unwrap().root().to_vec());
    let appraised = |nonce| {
        let report_data = binding(nonce).report_data();
        appraisal::appraise(&evidence, &report_data, &policy, &roots, NOW, &mut Checks::default())
    };
    assert_eq!(appraised([5; 32]).unwrap().release, "authority");
    assert_eq!(appraised([6; 32]).unwrap_err().code, Code::BindingMismatch);
}

#[tokio::test]
async fn the_authoritys_own_certificates_have_no_facts() {
    let mesh = Mesh::new().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().subject_public_key_info();
    let own = mesh.authority.issue_own(Subject::Authority("n1".into()), &key, NOW + 60).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let found = verify_chain(&mesh.root_pin(), TRUST_DOMAIN, &own[0], &own[1..], now).unwrap();
    let expected = SpiffeId { trust_domain: TRUST_DOMAIN.into(), subject: Subject::Authority("n1".into()) };
    assert_eq!(found.id, expected);
    assert_eq!(peer(Some(&own)), Some(found));
    assert_eq!(LeafFacts::of(&own[0]), None);
    assert!(mesh.authority.issue_own(Subject::Authority("n1".into()), &key[1..], NOW + 60).is_err());
}

#[tokio::test]
async fn a_replica_of_another_version_is_bound_to_that_and_to_no_other() {
    let mesh = Mesh::new().await;
    let vrf = "vrf".parse().unwrap();
    mesh.authority.runs(&vrf, "1", "2.0.0");
    assert_eq!(
        mesh.applicant("1").refused().await,
        Code::BindingMismatch,
        "it says that it is of the policy's"
    );
    mesh.applicant("1").bound(|binding| binding.version = "2.0.0").joined().await;
    let other = mesh.applicant("0").bound(|binding| binding.version = "2.0.0").refused().await;
    assert_eq!(other, Code::BindingMismatch, "the others are of the policy's version");
    mesh.authority.dismiss(&vrf, "1");
    mesh.applicant("1").joined().await;
}
