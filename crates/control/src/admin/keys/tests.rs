//! Rotations and keys without a secret.

use axum::http::StatusCode;
use serde_json::json;

use crate::admin::on_socket;
use crate::admin::tests::{asked, state};

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n-----END PUBLIC KEY-----\n";
const OTHER: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\nw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==\n-----END PUBLIC KEY-----";

#[tokio::test]
async fn a_rotation_is_on_record_without_a_secret_and_says_when_the_old_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let socket = on_socket(state(&folder, "127.0.0.1:7070").await);
    let (_, made) = asked(&socket, "POST", "/v1/keys", json!({"name": "shop", "scopes": ["a"]})).await;
    let path = format!("/v1/keys/{}/rotate", made["id"].as_str().unwrap());
    let (status, rotated) = asked(&socket, "POST", &path, json!({"overlap": "1h30m"})).await;
    assert_eq!((status, &rotated["id"]), (StatusCode::OK, &made["id"]));
    let key = rotated["key"].as_str().unwrap();
    assert!(key.starts_with("sk_test_") && made["key"] != key, "{rotated}");
    let (_, listed) = asked(&socket, "GET", "/v1/keys", json!(null)).await;
    assert_eq!(listed[0]["previousEndsAt"], rotated["previousEndsAt"]);
    let trail = std::fs::read(folder.path().join("audit.jsonl")).unwrap();
    let last = trust::audit::last_records(&trail[..], 1).unwrap().remove(0);
    assert_eq!((last.kind.as_str(), &json!(last.subject)), ("key-rotate", &made["id"]));
    assert_eq!(last.data, json!({"name": "shop", "overlap": "1h30m"}));
    assert!(!String::from_utf8(trail).unwrap().contains(key));
    let id = made["id"].as_str().unwrap();
    asked(&socket, "DELETE", &format!("/v1/keys/{id}"), json!(null)).await;
    let (status, problem) = asked(&socket, "POST", &path, json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("KEY_ENDED")));
}

#[tokio::test]
async fn a_key_with_a_public_key_shows_its_id_and_what_it_is_known_by() {
    let folder = tempfile::tempdir().unwrap();
    let socket = on_socket(state(&folder, "127.0.0.1:7070").await);
    let new = json!({"name": "shop", "scopes": ["a"], "publicKey": PUBLIC_KEY});
    let (status, made) = asked(&socket, "POST", "/v1/keys", new).await;
    assert_eq!((status, &made), (StatusCode::CREATED, &json!({"id": made["id"]})));
    let (_, listed) = asked(&socket, "GET", "/v1/keys", json!(null)).await;
    let known = |algorithm: &str, sha256: &str| json!({"algorithm": algorithm, "sha256": sha256});
    let first = known("ed25519", "34571606cb7a0d71be377e671ddcccae2a169ed7733598214129231cd30c4a3c");
    assert_eq!(listed[0]["publicKey"], first);
    let path = format!("/v1/keys/{}/rotate", made["id"].as_str().unwrap());
    let (status, rotated) = asked(&socket, "POST", &path, json!({"publicKey": OTHER})).await;
    assert_eq!((status, rotated.get("key")), (StatusCode::OK, None));
    let trail = std::fs::read(folder.path().join("audit.jsonl")).unwrap();
    let last = trust::audit::last_records(&trail[..], 1).unwrap().remove(0);
    let second =
        known("ecdsa-p256-sha256", "55f96361b78cbb84f1fc604b0718e82bd91abb46d8fc25ae871b35fbbf8b7974");
    assert_eq!(last.data, json!({"name": "shop", "overlap": "1d", "publicKey": second}));
    let (status, problem) = asked(&socket, "POST", &path, json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("VALIDATION_FAILED")));
}
