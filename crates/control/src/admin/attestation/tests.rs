//! What is shown of the attestation, and revocations.

use axum::http::StatusCode;
use expect_test::expect;
use mesh_protocol::Bytes as Base64;
use serde_json::json;

use crate::admin::on_socket;
use crate::admin::tests::{asked, state};

#[tokio::test]
async fn the_contract_of_attestation_json() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    let (genesis, root) = (state.authority.genesis(), state.authority.root_spki().to_vec());
    let (_, t_n) = state.authority.transition();
    let router = on_socket(state);
    let revoked = json!({"type": "advisory", "value": "intel-sa-00001"});
    assert_eq!(asked(&router, "POST", "/v1/revocations", revoked).await.0, StatusCode::OK);
    let (_, report) = asked(&router, "GET", "/v1/attestation", json!(null)).await;
    let hex = mesh_protocol::to_hex;
    assert_eq!(report["genesis"], hex(&genesis));
    assert_eq!(report["transition"]["tN"], hex(&t_n));
    assert_eq!(report["rootSpki"], json!(Base64(root.clone())));
    assert_eq!(report["rootSpkiSha256"], hex(&mesh_protocol::sha256(&root)));
    let mut shown = report;
    for name in ["genesis", "rootSpki", "rootSpkiSha256"] {
        shown[name] = "…".into();
    }
    (shown["transition"]["tN"], shown["services"][0]["replicas"][0]["attested"]["evidence"]) =
        ("…".into(), "…".into());
    expect![[r#"
        {
          "mode": "development",
          "trustDomain": "test.dev.invalid",
          "genesis": "…",
          "transition": {
            "n": 1,
            "tN": "…"
          },
          "rootSpki": "…",
          "rootSpkiSha256": "…",
          "revocations": {
            "epoch": 1,
            "entries": [
              {
                "type": "advisory",
                "value": "INTEL-SA-00001",
                "since": "2027-01-15T08:00:00.000Z"
              }
            ]
          },
          "services": [
            {
              "name": "vrf",
              "version": "1.0.0",
              "policy": {
                "releases": [
                  {
                    "version": "1.0.0",
                    "simulated": {
                      "w": "0909090909090909090909090909090909090909090909090909090909090909"
                    }
                  }
                ],
                "tcb": {
                  "accept": [
                    "UpToDate"
                  ],
                  "graceDays": 0,
                  "rejectAdvisories": []
                },
                "platform": {
                  "smt": true,
                  "dynamicPlatform": true,
                  "cachedKeys": true,
                  "allow": null
                },
                "identityTtl": "1h"
              },
              "replicas": [
                {
                  "id": "vrf/0",
                  "attested": {
                    "holds": true,
                    "value": "valid",
                    "since": "1970-01-01T00:00:00.000Z",
                    "refusal": null,
                    "evidence": "…"
                  },
                  "platform": []
                }
              ]
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&shown).unwrap());
}

#[tokio::test]
async fn a_revocation_is_written_in_one_way_and_is_taken_back_once() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_socket(state(&folder, "127.0.0.1:7070").await);
    let w = "0A".repeat(32);
    let mut shown = String::new();
    for (about, value) in [
        ("instance", "vrf/7"),
        ("instance", "spiffe://test.dev.invalid/gateway/node"),
        ("instance", "spiffe://other.dev.invalid/service/vrf/0"),
        ("instance", "vrf"),
        ("leaf", &w),
        ("measurement", &w),
        ("measurement", &w[2..]),
        ("platform", "0aFF"),
        ("platform", "node-1"),
        ("advisory", "intel-sa-00837"),
        ("advisory", "two words"),
        ("measurement", &w.to_lowercase()),
    ] {
        let revoked = json!({"type": about, "value": value});
        let (status, answer) = asked(&router, "POST", "/v1/revocations", revoked).await;
        let value = answer["value"].as_str().or(answer["detail"].as_str()).unwrap();
        shown += &format!("{} {about} {value} {}\n", status.as_u16(), answer["changed"]);
    }
    expect![[r#"
        200 instance spiffe://test.dev.invalid/service/vrf/7 true
        200 instance spiffe://test.dev.invalid/gateway/node true
        400 instance value: expected a replica such as vrf/2, or an identity of this trust domain null
        400 instance value: expected a replica such as vrf/2, or an identity of this trust domain null
        200 leaf 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a true
        200 measurement 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a true
        400 measurement value: expected a measurement, 64 or 96 digits null
        200 platform 0aff true
        400 platform value: expected a hardware id, hexadecimal null
        200 advisory INTEL-SA-00837 true
        400 advisory value: expected an advisory such as INTEL-SA-00837 null
        200 measurement 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a false
    "#]]
    .assert_eq(&shown);
    let back = "/v1/revocations?type=platform&value=0AFF";
    let (status, answer) = asked(&router, "DELETE", back, json!(null)).await;
    assert_eq!((status, &answer["epoch"]), (StatusCode::OK, &json!(7)));
    assert_eq!(asked(&router, "DELETE", back, json!(null)).await.0, StatusCode::NOT_FOUND);
}
