//! What of a join is in the audit trail: a line for each decision, and none for what was not decided on.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use appraisal::Code;
use mesh_protocol::{RevokedType, to_hex};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::mesh::{Mesh, NOW, Time};

const SPIFFE_ID: &str = "spiffe://join.dev.invalid/service/vrf/0";

/// Verifies the trail and gives what happened since the start: kind, subject, outcome and reason.
async fn happened(mesh: &Mesh) -> Vec<String> {
    let genesis = *mesh.vault.lock().await.genesis();
    let file = BufReader::new(File::open(mesh.audit_file()).unwrap());
    let verified = trust::audit::verify(file, &genesis, mesh.authority.root_spki()).unwrap();
    let records = mesh.audit();
    assert_eq!(verified.records(), u64::try_from(records.len()).unwrap());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told =
        |record: &Value| ["kind", "subject", "outcome", "reason"].map(|key| word(&record[key])).join(" ");
    assert_eq!(told(&records[0]).trim_end(), "transition join.dev.invalid done");
    records[1..].iter().map(|record| told(record).trim_end().to_owned()).collect()
}

#[tokio::test]
async fn every_decision_has_one_line_and_the_trail_verifies() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    mesh.applicant("0").known_by(&joined.leaf).joined().await;
    mesh.applicant("0").running([9; 32]).refused().await;
    mesh.applicant("0").known_by(&joined.leaf).running([9; 32]).refused().await;
    for _twice in 0..2 {
        mesh.authority.revoke(RevokedType::Instance, SPIFFE_ID, "alice").await.unwrap();
    }
    mesh.applicant("0").refused().await;
    for _twice in 0..2 {
        mesh.authority.restore(RevokedType::Instance, SPIFFE_ID, "bob").await.unwrap();
    }
    assert_eq!(
        happened(&mesh).await,
        [
            "join spiffe://join.dev.invalid/service/vrf/0 done",
            "renewal spiffe://join.dev.invalid/service/vrf/0 done",
            "join spiffe://join.dev.invalid/service/vrf/0 refused RELEASE_NOT_ALLOWED",
            "renewal spiffe://join.dev.invalid/service/vrf/0 refused RELEASE_NOT_ALLOWED",
            "revoke spiffe://join.dev.invalid/service/vrf/0 done",
            "join spiffe://join.dev.invalid/service/vrf/0 refused REVOKED",
            "restore spiffe://join.dev.invalid/service/vrf/0 done",
        ]
    );
    let actors: Vec<_> = mesh.audit().iter().map(|record| record["actor"].clone()).collect();
    assert_eq!(actors[5..], [json!("alice"), json!(SPIFFE_ID), json!("bob")]);
}

#[tokio::test]
async fn the_line_of_a_join_names_the_certificate_the_record_and_the_released_secrets() {
    let mesh = Mesh::new().await;
    let joined = mesh.applicant("0").joined().await;
    let line = &mesh.audit()[1];
    let records = mesh.records("vrf/0").await;
    assert_eq!(line["time"], json!(NOW));
    let data = &line["data"];
    assert_eq!(data["leaf"], json!(to_hex(&joined.peer.leaf)));
    assert_eq!(data["record"], records[0]["record"]["id"]);
    assert_eq!(data["notAfter"], json!(NOW + 3600));
    let released = json!([
        {"name": "api-token", "version": 1, "epoch": 1},
        {"name": "signing-key", "version": 1, "epoch": 1},
        {"name": "signing-key", "version": 2, "epoch": 2},
    ]);
    assert_eq!(data["secrets"], released);
}

#[tokio::test]
async fn what_fails_before_the_nonce_step_is_over_leaves_no_line_and_no_record() {
    let mesh = Mesh::new().await;
    let applicant = || mesh.applicant("0");
    let refusals = [
        applicant().ticket(Vec::new()).refused().await,
        applicant().request(|request| request.evidence.0.push(0)).refused().await,
        applicant().evidence(|evidence| evidence.kind = mesh_protocol::EvidenceKind::Tdx).refused().await,
        applicant().joining_over([9; 32]).refused().await,
        applicant().hesitating(Duration::from_secs(121)).refused().await,
        applicant().claiming(|claims| claims.ticket.clear()).refused().await,
    ];
    let expected = [
        Code::TicketInvalid,
        Code::EvidenceMalformed,
        Code::EvidenceKindForbidden,
        Code::NonceChannelMismatch,
        Code::NonceExpired,
        Code::TicketInvalid,
    ];
    assert_eq!(refusals, expected);
    assert!(happened(&mesh).await.is_empty());
    assert!(mesh.records("vrf/0").await.is_empty());
    assert_eq!(mesh.stands("0"), Ok("pending"));
}

#[tokio::test(start_paused = true)]
async fn what_leaves_no_line_is_counted_in_one_for_each_round() {
    let mesh = Mesh::with(|setup| setup.time = Time::Tokio).await;
    let (end, ended) = oneshot::channel::<()>();
    let runs = tokio::spawn(mesh.authority.clone().run(async { drop(ended.await) }));
    for _ in 0..3 {
        mesh.applicant("0").ticket(Vec::new()).refused().await;
    }
    mesh.applicant("0").joining_over([9; 32]).refused().await;
    mesh.applicant("0").running([9; 32]).refused().await;
    sleep(Duration::from_secs(35)).await;
    mesh.applicant("1").ticket(Vec::new()).refused().await;
    end.send(()).unwrap();
    runs.await.unwrap();
    let counts = |record: &Value| (record["kind"] == "join-refusals").then(|| record["data"].clone());
    assert_eq!(
        mesh.audit().iter().filter_map(counts).collect::<Vec<_>>(),
        [json!({"TICKET_INVALID": 3, "NONCE_CHANNEL_MISMATCH": 1}), json!({"TICKET_INVALID": 1})]
    );
    assert_eq!(happened(&mesh).await[1], "join-refusals join.dev.invalid refused");
}
