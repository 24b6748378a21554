//! The signed record that every appraisal leaves in the store.

use std::time::Duration;

use appraisal::Code;
use mesh_protocol::{Bytes, Evidence, canonical, is_signed_by, sha256};
use serde_json::{Value, json};
use types::wire::Message;

use crate::mesh::{Mesh, NOW};

fn encoded(bytes: &[u8]) -> Value {
    serde_json::to_value(Bytes(bytes.to_vec())).unwrap()
}

fn is_signed(mesh: &Mesh, stored: &Value) -> bool {
    let message =
        Message::tagged(b"serviceos/appraisal/v1\0").lp(canonical(&stored["record"]).unwrap()).finish();
    let signature: Bytes = serde_json::from_value(stored["signature"].clone()).unwrap();
    is_signed_by(mesh.authority.root_spki(), &message, &signature.0)
}

/// The steps of a record with how they ended.
fn steps(stored: &Value) -> Vec<String> {
    let steps = stored["record"]["checks"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    steps.map(|check| check.get("code").map_or_else(|| word(&check["step"]), word)).collect()
}

#[tokio::test]
async fn an_admission_leaves_a_record_that_the_root_has_signed() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let records = mesh.records("vrf/0").await;
    assert_eq!(records.len(), 1);
    assert!(is_signed(&mesh, &records[0]));
    let record = &records[0]["record"];
    let (evidence, _) = Evidence::decode_join(&joined.sent.request.evidence.0).unwrap();
    assert_eq!(record["v"], 1);
    assert_eq!(record["kind"], "simulated");
    assert_eq!(record["evidenceSha256"], encoded(&sha256(&evidence.quote)));
    assert_eq!(record["collateralSha256"], encoded(&sha256(&evidence.collateral)));
    assert_eq!(record["rd"], encoded(&joined.sent.report_data));
    assert_eq!((&record["appraisedAt"], &record["expiresAt"]), (&json!(NOW), &json!(NOW + 3600)));
    let all = [
        "size",
        "kind",
        "nonce",
        "chain",
        "binding",
        "debug",
        "tcb",
        "platform",
        "release",
        "release",
        "budget",
        "evaluation",
    ];
    assert_eq!(steps(&records[0]), all);
    let mut changed = records[0].clone();
    changed["record"]["expiresAt"] = json!(NOW + 7200);
    assert!(!is_signed(&mesh, &changed));
}

#[tokio::test]
async fn a_refusal_leaves_one_too_with_the_step_that_failed_as_its_last() {
    let mesh = Mesh::new().await;
    assert_eq!(mesh.applicant("0").running([9; 32]).refused().await, Code::ReleaseNotAllowed);
    let records = mesh.records("vrf/0").await;
    assert!(is_signed(&mesh, &records[0]));
    assert_eq!(records[0]["record"]["expiresAt"], json!(NOW));
    let until =
        ["size", "kind", "nonce", "chain", "binding", "debug", "tcb", "platform", "RELEASE_NOT_ALLOWED"];
    assert_eq!(steps(&records[0]), until);
}

#[tokio::test]
async fn another_policy_has_another_digest() {
    let mesh = Mesh::new().await;
    mesh.applicant("0").joined().await;
    mesh.applicant("1").joined().await;
    let mesh = mesh.restarted(|setup| setup.vrf.policy.tcb.grace_days = 1).await;
    mesh.clock.forward(Duration::from_millis(1));
    mesh.applicant("0").joined().await;
    let digest = |stored: &Value| stored["record"]["policySha256"].clone();
    let (first, second) = (mesh.records("vrf/0").await, mesh.records("vrf/1").await);
    assert_eq!(digest(&first[0]), digest(&second[0]));
    assert_ne!(digest(&first[0]), digest(&first[1]));
}

#[tokio::test]
async fn the_last_eight_records_of_a_replica_are_kept() {
    let mesh = Mesh::new().await;
    mesh.applicant("1").joined().await;
    let mut ids = Vec::new();
    for round in 0..10 {
        mesh.clock.forward(Duration::from_millis(1));
        let applicant = mesh.applicant("0");
        if round % 2 == 0 {
            applicant.joined().await;
        } else {
            applicant.running([9; 32]).refused().await;
        }
        let records = mesh.records("vrf/0").await;
        ids.push(records.last().unwrap()["record"]["id"].clone());
        let kept: Vec<_> = records.iter().map(|stored| stored["record"]["id"].clone()).collect();
        assert_eq!(kept, ids[ids.len().saturating_sub(8)..]);
    }
    assert_eq!(mesh.records("vrf/1").await.len(), 1, "the other replica's own");
}
