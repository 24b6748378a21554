//! Another configuration of a service while its replicas are members: with which one they renew.

use std::time::Duration;

use appraisal::Code;
use mesh_protocol::to_hex;
use trust::Standing;

use crate::applicant::Joined;
use crate::mesh::{CONFIG_DIGEST, Mesh};

const SECOND: [u8; 32] = [13; 32];
const THIRD: [u8; 32] = [14; 32];

/// The configuration that a replica of vrf was admitted with.
fn works_with(mesh: &Mesh, instance: &str) -> [u8; 32] {
    match mesh.standing(instance) {
        Some(Standing::Valid(admission)) => admission.config,
        other => panic!("{other:?}"),
    }
}

async fn renewed(mesh: &Mesh, member: &Joined, config: [u8; 32]) -> Result<Joined, Code> {
    let instance = member.sent.claims.instance.clone();
    let renewal = mesh.applicant(&instance).known_by(&member.leaf).configured(config);
    renewal.join().await.map_err(|fault| fault.code)
}

#[tokio::test]
async fn a_member_renews_with_the_configuration_of_the_manifest_that_is_in_force() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    mesh.configure(SECOND).await;
    let renewed = renewed(&mesh, &member, SECOND).await.unwrap();
    assert_eq!(works_with(&mesh, "0"), SECOND);
    assert!(renewed.verifies(&mesh, &renewed.above));
    assert!(!mesh.audit().iter().any(|record| record["data"].get("configKept").is_some()));
}

#[tokio::test]
async fn with_the_one_before_nobody_joins_and_a_member_only_after_it_has_said_that_it_rejects_the_new_one() {
    let mesh = Mesh::new().await;
    let silent = mesh.applicant("0").joined().await;
    let member = mesh.applicant("1").joined().await;
    mesh.configure(SECOND).await;
    assert_eq!(renewed(&mesh, &silent, CONFIG_DIGEST).await.err(), Some(Code::BindingMismatch));
    assert_eq!(mesh.applicant("0").refused().await, Code::BindingMismatch);
    // What it rejects has to be what is wanted, and what it keeps what it was admitted with.
    mesh.authority.config_rejected(&member.peer, THIRD);
    assert_eq!(mesh.authority.config_digest(&"vrf".parse().unwrap()), Some(SECOND));
    mesh.authority.config_rejected(&member.peer, SECOND);
    let kept = renewed(&mesh, &member, CONFIG_DIGEST).await.unwrap();
    assert_eq!(works_with(&mesh, "1"), CONFIG_DIGEST);
    let audit = mesh.audit();
    let line = audit.iter().rev().find(|record| record["kind"] == "renewal").unwrap();
    assert_eq!(line["data"]["configKept"], to_hex(&CONFIG_DIGEST));
    // Half an hour later, and every half hour, as long as nothing else is wanted.
    mesh.clock.forward(Duration::from_secs(1800));
    let again = renewed(&mesh, &kept, CONFIG_DIGEST).await.unwrap();
    assert_eq!(renewed(&mesh, &again, THIRD).await.err(), Some(Code::BindingMismatch), "it never had that");
}

#[tokio::test]
async fn what_was_kept_ends_with_the_next_configuration_that_is_not_rejected() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    mesh.configure(SECOND).await;
    mesh.authority.config_rejected(&member.peer, SECOND);
    let kept = renewed(&mesh, &member, CONFIG_DIGEST).await.unwrap();
    mesh.configure(THIRD).await;
    let taken = renewed(&mesh, &kept, THIRD).await.unwrap();
    assert_eq!(works_with(&mesh, "0"), THIRD);
    // A configuration that it has rejected once is no reason to keep another one.
    mesh.configure(SECOND).await;
    mesh.configure(CONFIG_DIGEST).await;
    assert_eq!(renewed(&mesh, &taken, THIRD).await.err(), Some(Code::BindingMismatch));
}

#[tokio::test]
async fn what_a_stranger_says_lets_nobody_keep_anything() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    mesh.tamper("trust/admission/vrf/0", |_| b"{}".to_vec()).await;
    let mesh = mesh.restarted(|_| {}).await;
    mesh.configure(SECOND).await;
    // This authority does not know that it was admitted, and what it works with.
    mesh.authority.config_rejected(&member.peer, SECOND);
    assert_eq!(renewed(&mesh, &member, CONFIG_DIGEST).await.err(), Some(Code::BindingMismatch));
}

#[tokio::test]
async fn who_was_admitted_by_an_earlier_run_keeps_what_it_has_once_it_has_said_again_that_it_must() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    let mesh = mesh.restarted(|_| {}).await;
    mesh.configure(SECOND).await;
    mesh.authority.config_rejected(&member.peer, SECOND);
    renewed(&mesh, &member, CONFIG_DIGEST).await.unwrap();
    assert_eq!(works_with(&mesh, "0"), CONFIG_DIGEST);
}

#[tokio::test]
async fn a_join_between_two_configurations_is_to_be_tried_again_whoever_joins() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    let (first, renewal) = (mesh.applicant("1"), mesh.applicant("0").known_by(&member.leaf));
    let (first, renewal) = (first.prepare().await.unwrap(), renewal.prepare().await.unwrap());
    mesh.configure(SECOND).await;
    for sent in [first, renewal] {
        let refused = sent.show(&mesh.authority).await.unwrap_err();
        assert_eq!(refused.code, Code::ManifestChanged);
    }
    assert_eq!(works_with(&mesh, "0"), CONFIG_DIGEST, "nothing was decided");
    // The same for one that keeps a configuration, while the next one comes.
    mesh.authority.config_rejected(&member.peer, SECOND);
    let renewal = mesh.applicant("0").known_by(&member.leaf).prepare().await.unwrap();
    mesh.configure(THIRD).await;
    assert_eq!(renewal.show(&mesh.authority).await.unwrap_err().code, Code::ManifestChanged);
}
