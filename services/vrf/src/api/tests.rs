//! The API over HTTP, as a client sees it.

use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::body::Body as HttpBody;
use axum::http::Request;
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use jiff::Timestamp;
use sdk::{Configs, FakeState, Secret, SecretEpoch, SecretSet, Start};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tower::ServiceExt;
use types::ReplicaId;
use types::wire::Reader;
use zeroize::Zeroizing;

use super::*;
use crate::keys::Keys;

mod kept;

fn secret(epochs: &[(u32, u8)]) -> Secret {
    let epoch = |&(epoch, byte)| SecretEpoch { epoch, value: Zeroizing::new(vec![byte; 32]) };
    Secret { epochs: epochs.iter().map(epoch).collect() }
}

/// A replica whose random bytes count up from `first`, at a time that stands still, and that shares nothing.
fn replica_with(first: u8, proving: &Secret) -> axum::Router {
    replica_of(first, proving, &FakeState::new())
}

/// The same, which keeps its answers there.
fn replica_of(first: u8, proving: &Secret, kept: &FakeState) -> axum::Router {
    let next = AtomicU8::new(first);
    let randomness = move |bytes: &mut [u8]| bytes.fill_with(|| next.fetch_add(1, Ordering::Relaxed));
    let clock = || Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let keys = Keys::load(proving, &secret(&[(1, 9)])).unwrap();
    let service = Service::new(keys, Box::new(randomness), Box::new(clock), kept.state());
    sdk::router(router(Arc::new(service)))
}

fn replica() -> axum::Router {
    replica_with(0, &secret(&[(1, 7)]))
}

async fn send(
    app: &axum::Router,
    method: &str,
    path: &str,
    tenant: &str,
    body: impl Into<HttpBody>,
) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header(types::headers::TENANT, tenant);
    let response = app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn post(app: &axum::Router, path: &str, body: &Value) -> (u16, Value) {
    send(app, "POST", path, "default", body.to_string()).await
}

async fn draw_ok(app: &axum::Router, body: &Value) -> Value {
    let (status, answer) = post(app, "/v1/random", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A request that checks this answer, with nothing but what the answer says.
fn question(answer: &Value) -> Value {
    json!({"keyId": answer["keyId"], "alpha": answer["alpha"], "proof": answer["proof"]})
}

async fn verdict(app: &axum::Router, question: &Value) -> Value {
    let (status, verdict) = post(app, "/v1/random/verify", question).await;
    assert_eq!(status, 200, "{verdict}");
    verdict
}

fn with(mut object: Value, key: &str, value: impl Into<Value>) -> Value {
    object[key] = value.into();
    object
}

fn without(mut object: Value, key: &str) -> Value {
    object.as_object_mut().unwrap().remove(key);
    object
}

#[tokio::test]
async fn an_answer_has_exactly_these_fields() {
    let body = json!({"min": 1, "max": 100, "count": 3, "seed": "lottery-7"}).to_string();
    let request = Request::post("/v1/random").body(HttpBody::from(body)).unwrap();
    let response = replica().oneshot(request).await.unwrap();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    expect![[r#"
        {"id":"rng_01HF7YAT3V0R3GG28A1C60T3GF",
        "value":79,
        "values":[79,4,14],
        "beta":"7a312ab51074215eb08fe65415fefa58b610de3f4a8d847ac86de921dc8c9f4d873e87e10244eeca1d36c5fdbb321908887d5a94dab5ff45de3559d55c3dcc74",
        "proof":"f4000ddf7ce78af8a4e5d4d144cbf19062816ca82259c27aa27a3d282eca5d6a9ba728dbf3c88d049f256af55163f5f162053577fbe19245d6e1b1a541d0845b0c3710d31eb6cbf2caff7a7be6690300",
        "alpha":"736572766963656f732f7672662f7631000000000764656661756c74000000096c6f74746572792d37",
        "suite":"ECVRF-EDWARDS25519-SHA512-TAI",
        "keyId":"7319535b226b951280cd3bdcd6fad85e",
        "epoch":1,
        "timestamp":"2023-11-14T22:13:20.123Z",
        "statement":"736572766963656f732f7672662d73746174656d656e742f7631000000001e726e675f303148463759415433563052334747323841314336305433474600000020268fcbc495369bc6ec02cfd189753c6f53279842c99ea3b93a1bad49569df000000000407a312ab51074215eb08fe65415fefa58b610de3f4a8d847ac86de921dc8c9f4d873e87e10244eeca1d36c5fdbb321908887d5a94dab5ff45de3559d55c3dcc74000000200cb71327c68ead27a4b8b05e705ff24c0ba808b80be242be8c8622665928403600000020373331393533356232323662393531323830636433626463643666616438356500000001",
        "signature":"be6d4f0b47c6345738e9fd678f9c1e545e2dd9251956c95faa0d671c2c2e44fecc1c1157665c3252d0324fdf72f0af7e2746330ac96851f8fabfb9ed02cf7b0a",
        "replayed":false}"#]].assert_eq(&text.replace(",\"", ",\n\""));
}

#[tokio::test]
async fn another_tenant_seed_or_key_has_another_answer() {
    let body = json!({"min": 0, "max": 1_000_000, "seed": "s"});
    let app = replica();
    let (_, other_tenant) = send(&app, "POST", "/v1/random", "acme", body.to_string()).await;
    let betas = [
        draw_ok(&app, &body).await,
        other_tenant,
        draw_ok(&app, &with(body.clone(), "seed", "t")).await,
        draw_ok(&app, &with(body.clone(), "seed", "")).await,
        draw_ok(&replica_with(0, &secret(&[(1, 8)])), &body).await,
    ]
    .map(|answer| answer["beta"].as_str().unwrap().to_owned());
    for (place, beta) in betas.iter().enumerate() {
        assert!(!betas[..place].contains(beta), "{place}");
    }
}

#[tokio::test]
async fn without_a_seed_every_answer_is_another() {
    let app = replica();
    let (first, second) = (
        draw_ok(&app, &json!({"min": 0, "max": 9})).await,
        draw_ok(&app, &json!({"min": 0, "max": 9, "seed": null})).await,
    );
    assert_ne!(first["alpha"], second["alpha"]);
    assert_ne!(first["beta"], second["beta"]);
    let alpha = hex::decode(first["alpha"].as_str().unwrap()).unwrap();
    let mut reader = Reader::new(&alpha);
    assert_eq!(reader.raw(17), Some(&b"serviceos/vrf/v1\0"[..]));
    assert_eq!(reader.lp(), Some(&b"default"[..]));
    assert_eq!(reader.lp(), Some((0..32).collect::<Vec<u8>>().as_slice()));
    assert!(reader.is_empty());
}

#[tokio::test]
async fn the_statement_names_the_answer_and_is_signed_by_the_published_key() {
    let app = replica();
    let answer = draw_ok(&app, &json!({"min": 1, "max": 6, "seed": "s"})).await;
    let field = |name: &str| hex::decode(answer[name].as_str().unwrap()).unwrap();
    let statement = field("statement");
    let mut reader = Reader::new(&statement);
    assert_eq!(reader.raw(27), Some(&b"serviceos/vrf-statement/v1\0"[..]));
    assert_eq!(reader.lp(), Some(answer["id"].as_str().unwrap().as_bytes()));
    assert_eq!(reader.lp(), Some(&Sha256::digest(field("alpha"))[..]));
    assert_eq!(reader.lp(), Some(field("beta").as_slice()));
    assert_eq!(reader.lp(), Some(&Sha256::digest(field("proof"))[..]));
    assert_eq!(reader.lp(), Some(answer["keyId"].as_str().unwrap().as_bytes()));
    assert_eq!(reader.array(), Some(1_u32.to_be_bytes()));
    assert!(reader.is_empty());

    let (_, keys) = send(&app, "GET", "/v1/random/keys", "default", "").await;
    let signer = hex::decode(keys["keys"][0]["signingKey"].as_str().unwrap()).unwrap();
    UnparsedPublicKey::new(&ED25519, signer).verify(&statement, &field("signature")).unwrap();
}

#[tokio::test]
async fn an_answer_verifies_by_its_key_id_and_by_its_public_key() {
    let app = replica();
    let answer = draw_ok(&app, &json!({"min": 1, "max": 6, "count": 4, "seed": "s"})).await;
    let question = question(&answer);
    assert_eq!(verdict(&app, &question).await, json!({"valid": true, "beta": answer["beta"]}));

    let range = with(with(with(question.clone(), "min", 1), "max", 6), "count", 4);
    let expected = json!({"valid": true, "beta": answer["beta"], "values": answer["values"]});
    assert_eq!(verdict(&app, &range).await, expected);
    let one = verdict(&app, &without(range.clone(), "count")).await;
    assert_eq!(one["values"], json!([answer["value"]]));

    let (_, keys) = send(&app, "GET", "/v1/random/keys", "default", "").await;
    let by_key = with(without(range, "keyId"), "publicKey", keys["keys"][0]["publicKey"].clone());
    assert_eq!(verdict(&app, &by_key).await, expected);
    let elsewhere = replica_with(0, &secret(&[(1, 8)]));
    assert_eq!(verdict(&elsewhere, &by_key).await, expected);
}

#[tokio::test]
async fn what_an_old_epoch_proved_still_verifies_after_a_rotation() {
    let answer = draw_ok(&replica(), &json!({"min": 1, "max": 6, "seed": "s"})).await;
    let rotated = replica_with(0, &secret(&[(1, 7), (2, 8)]));
    assert_eq!(verdict(&rotated, &question(&answer)).await["valid"], json!(true));
    let newer = draw_ok(&rotated, &json!({"min": 1, "max": 6, "seed": "s"})).await;
    assert_eq!(newer["epoch"], json!(2));
    assert_ne!(newer["keyId"], answer["keyId"]);

    let (status, keys) = send(&rotated, "GET", "/v1/random/keys", "default", "").await;
    assert_eq!(status, 200);
    expect![[r#"
        {
          "keys": [
            {
              "keyId": "7319535b226b951280cd3bdcd6fad85e",
              "epoch": 1,
              "suite": "ECVRF-EDWARDS25519-SHA512-TAI",
              "publicKey": "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
              "signingKey": "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618"
            },
            {
              "keyId": "6931b79c36d7928cdb40835a87cdc0bf",
              "epoch": 2,
              "suite": "ECVRF-EDWARDS25519-SHA512-TAI",
              "publicKey": "1398f62c6d1a457c51ba6a4b5f3dbd2f69fca93216218dc8997e416bd17d93ca",
              "signingKey": "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618"
            }
          ]
        }
    "#]]
    .assert_eq(&format!("{}\n", serde_json::to_string_pretty(&keys).unwrap()));
}

#[tokio::test]
async fn a_proof_that_does_not_hold_is_an_answer_with_a_reason() {
    let app = replica();
    let answer = draw_ok(&app, &json!({"min": 1, "max": 6, "seed": "s"})).await;
    let question = question(&answer);
    let other = draw_ok(&app, &json!({"min": 1, "max": 6, "seed": "t"})).await;
    let by_key = |key: &str| with(without(question.clone(), "keyId"), "publicKey", key);
    let spoilt = [
        with(question.clone(), "alpha", other["alpha"].clone()),
        with(question.clone(), "alpha", ""),
        with(question.clone(), "proof", other["proof"].clone()),
        with(question.clone(), "proof", "00"),
        with(question.clone(), "proof", "ff".repeat(80)),
        with(
            question.clone(),
            "proof",
            format!("{}{}", &answer["proof"].as_str().unwrap()[..96], "ff".repeat(32)),
        ),
        by_key(&format!("01{}", "00".repeat(31))),
        by_key(&"ff".repeat(32)),
        by_key("0101"),
    ];
    let mut reasons = String::new();
    for question in spoilt {
        let verdict = verdict(&app, &question).await;
        reasons += &format!("{verdict}\n");
    }
    expect![[r#"
        {"valid":false,"reason":"the proof does not belong to this alpha and this public key"}
        {"valid":false,"reason":"the proof does not belong to this alpha and this public key"}
        {"valid":false,"reason":"the proof does not belong to this alpha and this public key"}
        {"valid":false,"reason":"a proof has 80 bytes, not 1"}
        {"valid":false,"reason":"the first part of the proof, Gamma, is not the canonical encoding of a point"}
        {"valid":false,"reason":"the last part of the proof, s, is not below the order of the group"}
        {"valid":false,"reason":"the public key has a small order"}
        {"valid":false,"reason":"the public key is not the canonical encoding of a point"}
        {"valid":false,"reason":"a public key has 32 bytes, not 2"}
    "#]].assert_eq(&reasons);
}

async fn refusals(path: &str, bodies: &[String], expected: &Expect) {
    let app = replica();
    let mut seen = String::new();
    for body in bodies {
        let (status, problem) = send(&app, "POST", path, "default", body.clone()).await;
        assert_eq!(problem["status"], json!(status));
        let shown: String = body.chars().take(60).collect();
        seen += &format!(
            "{shown}\n    {status} {}: {}\n",
            problem["code"].as_str().unwrap(),
            problem["detail"].as_str().unwrap()
        );
    }
    expected.assert_eq(&seen);
}

#[tokio::test]
async fn draws_that_cannot_be_are_refused_with_their_code() {
    let bodies = [
        String::new(),
        "{".to_owned(),
        "[1,6,1,null]".to_owned(),
        r#"{"min":1}"#.to_owned(),
        r#"{"min":1,"max":"6"}"#.to_owned(),
        r#"{"min":1,"max":6.5}"#.to_owned(),
        r#"{"min":1,"max":6.0}"#.to_owned(),
        r#"{"min":1,"max":6,"max":7}"#.to_owned(),
        r#"{"min":1,"max":6,"sed":"x"}"#.to_owned(),
        r#"{"min":1,"max":6,"seed":7}"#.to_owned(),
        r#"{"min":1,"max":6} {}"#.to_owned(),
        format!(r#"{{"min":1,"max":6,"seed":"{}"}}"#, "a".repeat(MAX_BODY_BYTES)),
        r#"{"min":7,"max":6}"#.to_owned(),
        r#"{"min":1,"max":9007199254740992}"#.to_owned(),
        r#"{"min":-9007199254740992,"max":1}"#.to_owned(),
        r#"{"min":1,"max":18446744073709551615}"#.to_owned(),
        r#"{"min":-9223372036854775809,"max":1}"#.to_owned(),
        r#"{"min":-100000000000000000000,"max":1}"#.to_owned(),
        r#"{"min":1,"max":6,"count":0}"#.to_owned(),
        r#"{"min":1,"max":6,"count":101}"#.to_owned(),
        r#"{"min":1,"max":6,"count":-1}"#.to_owned(),
        format!(r#"{{"min":1,"max":6,"seed":"{}"}}"#, "a".repeat(257)),
        format!(r#"{{"min":1,"max":6,"seed":"{}"}}"#, "é".repeat(129)),
    ];
    refusals("/v1/random", &bodies, &expect![[r#"

            400 VRF_BAD_REQUEST: expected a JSON object
        {
            400 VRF_BAD_REQUEST: EOF while parsing an object at line 1 column 1
        [1,6,1,null]
            400 VRF_BAD_REQUEST: expected a JSON object
        {"min":1}
            400 VRF_BAD_REQUEST: missing field `max` at line 1 column 9
        {"min":1,"max":"6"}
            400 VRF_BAD_REQUEST: invalid type: string "6", expected a JSON number at line 1 column 18
        {"min":1,"max":6.5}
            400 VRF_BAD_REQUEST: max must be an integer, not 6.5
        {"min":1,"max":6.0}
            400 VRF_BAD_REQUEST: max must be an integer, not 6.0
        {"min":1,"max":6,"max":7}
            400 VRF_BAD_REQUEST: duplicate field `max` at line 1 column 22
        {"min":1,"max":6,"sed":"x"}
            400 VRF_BAD_REQUEST: unknown field `sed`, expected one of `min`, `max`, `count`, `seed` at line 1 column 22
        {"min":1,"max":6,"seed":7}
            400 VRF_BAD_REQUEST: invalid type: integer `7`, expected a string at line 1 column 25
        {"min":1,"max":6} {}
            400 VRF_BAD_REQUEST: trailing characters at line 1 column 19
        {"min":1,"max":6,"seed":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
            400 VRF_BAD_REQUEST: the body has more than 16384 bytes
        {"min":7,"max":6}
            400 VRF_BAD_RANGE: min is 7, which is greater than max, 6
        {"min":1,"max":9007199254740992}
            400 VRF_BAD_RANGE: min and max lie between -9007199254740991 and 9007199254740991
        {"min":-9007199254740992,"max":1}
            400 VRF_BAD_RANGE: min and max lie between -9007199254740991 and 9007199254740991
        {"min":1,"max":18446744073709551615}
            400 VRF_BAD_RANGE: min and max lie between -9007199254740991 and 9007199254740991
        {"min":-9223372036854775809,"max":1}
            400 VRF_BAD_RANGE: min and max lie between -9007199254740991 and 9007199254740991
        {"min":-100000000000000000000,"max":1}
            400 VRF_BAD_RANGE: min and max lie between -9007199254740991 and 9007199254740991
        {"min":1,"max":6,"count":0}
            400 VRF_BAD_RANGE: count lies between 1 and 100
        {"min":1,"max":6,"count":101}
            400 VRF_BAD_RANGE: count lies between 1 and 100
        {"min":1,"max":6,"count":-1}
            400 VRF_BAD_RANGE: count lies between 1 and 100
        {"min":1,"max":6,"seed":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
            400 VRF_SEED_TOO_LONG: a seed has at most 256 bytes, this one has 257
        {"min":1,"max":6,"seed":"ééééééééééééééééééééééééééééééééééé
            400 VRF_SEED_TOO_LONG: a seed has at most 256 bytes, this one has 258
    "#]]).await;
}

#[tokio::test]
async fn checks_that_cannot_be_are_refused_with_their_code() {
    let bodies = [
        r#"{"alpha":"00","proof":"00"}"#,
        r#"{"keyId":"a","publicKey":"00","alpha":"00","proof":"00"}"#,
        r#"{"keyId":"00000000000000000000000000000000","alpha":"00","proof":"00"}"#,
        r#"{"keyId":"a","proof":"00"}"#,
        r#"{"keyId":"a","alpha":"0","proof":"00"}"#,
        r#"{"keyId":"a","alpha":"00","proof":"xx"}"#,
        r#"{"publicKey":"x","alpha":"00","proof":"00"}"#,
        r#"{"keyId":"a","alpha":"00","proof":"00","min":1}"#,
        r#"{"keyId":"a","alpha":"00","proof":"00","count":1}"#,
        r#"{"keyId":"a","alpha":"00","proof":"00","min":2,"max":1}"#,
        r#"{"keyId":"a","alpha":"00","proof":"00","value":1}"#,
    ];
    refusals("/v1/random/verify", &bodies.map(str::to_owned), &expect![[r#"
        {"alpha":"00","proof":"00"}
            400 VRF_BAD_REQUEST: expected either keyId or publicKey
        {"keyId":"a","publicKey":"00","alpha":"00","proof":"00"}
            400 VRF_BAD_REQUEST: expected either keyId or publicKey
        {"keyId":"00000000000000000000000000000000","alpha":"00","pr
            404 VRF_UNKNOWN_KEY: no key of this service has this id; GET /v1/random/keys lists them
        {"keyId":"a","proof":"00"}
            400 VRF_BAD_REQUEST: missing field `alpha` at line 1 column 26
        {"keyId":"a","alpha":"0","proof":"00"}
            400 VRF_BAD_REQUEST: alpha must be hexadecimal
        {"keyId":"a","alpha":"00","proof":"xx"}
            400 VRF_BAD_REQUEST: proof must be hexadecimal
        {"publicKey":"x","alpha":"00","proof":"00"}
            400 VRF_BAD_REQUEST: publicKey must be hexadecimal
        {"keyId":"a","alpha":"00","proof":"00","min":1}
            400 VRF_BAD_REQUEST: min and max come together, and count only with them
        {"keyId":"a","alpha":"00","proof":"00","count":1}
            400 VRF_BAD_REQUEST: min and max come together, and count only with them
        {"keyId":"a","alpha":"00","proof":"00","min":2,"max":1}
            400 VRF_BAD_RANGE: min is 2, which is greater than max, 1
        {"keyId":"a","alpha":"00","proof":"00","value":1}
            400 VRF_BAD_REQUEST: unknown field `value`, expected one of `keyId`, `publicKey`, `alpha`, `proof`, `min`, `max`, `count` at line 1 column 46
    "#]]).await;
}

#[tokio::test]
async fn the_limits_themselves_are_allowed() {
    let app = replica();
    let bound = crate::range::MAX_BOUND;
    let widest = json!({"min": -bound, "max": bound, "count": 100, "seed": "a".repeat(MAX_SEED_BYTES)});
    assert_eq!(draw_ok(&app, &widest).await["values"].as_array().unwrap().len(), 100);
    assert_eq!(draw_ok(&app, &json!({"min": bound, "max": bound})).await["value"], json!(bound));
}

fn start(config: Value, secrets: &[(&str, Secret)]) -> Start {
    let replica: ReplicaId = "vrf/0".parse().unwrap();
    let secrets: SecretSet =
        secrets.iter().map(|(name, secret)| ((*name).to_owned(), secret.clone())).collect();
    let changes = watch::channel(secrets.clone()).1;
    let (service, version, state) = (replica.service.clone(), "v1".to_owned(), FakeState::new().state());
    Start { service, replica, version, config, configs: Configs::none(), secrets, changes, state }
}

#[tokio::test]
async fn a_running_replica_proves_with_the_newest_key_and_goes_on_with_the_one_before_where_that_is_none() {
    let secrets = |proving: Secret| -> SecretSet {
        [("vrf-key", proving), ("vrf-signing", secret(&[(1, 9)]))].map(|(n, s)| (n.to_owned(), s)).into()
    };
    let changes = watch::Sender::new(secrets(secret(&[(1, 7)])));
    let given = changes.subscribe();
    let first = Start { changes: given, ..start(json!({}), &[]) };
    let first = Start { secrets: changes.borrow().clone(), ..first };
    let app = sdk::router(crate::build(first).await.unwrap());
    let body = |seed: &str| json!({"min": 1, "max": 100, "seed": seed});
    let before = draw_ok(&app, &body("first")).await;
    assert_eq!(before["epoch"], 1);
    let mut short = secret(&[(1, 7), (2, 8)]);
    short.epochs[1].value.pop();
    for (proving, epochs, seed) in
        [(secret(&[(1, 7), (2, 8)]), 2, "a"), (short, 2, "b"), (secret(&[(1, 7), (2, 8), (3, 9)]), 3, "c")]
    {
        changes.send_replace(secrets(proving));
        tokio::task::yield_now().await;
        assert_eq!(draw_ok(&app, &body(seed)).await["epoch"], epochs);
        let (_, keys) = send(&app, "GET", "/v1/random/keys", "default", "").await;
        assert_eq!(keys["keys"].as_array().unwrap().len(), epochs);
    }
    assert_eq!(verdict(&app, &question(&before)).await["valid"], true, "old answers can still be checked");
    assert_eq!(
        draw_ok(&app, &body("first")).await,
        with(before, "replayed", true),
        "and stay what they were"
    );
}

#[tokio::test]
async fn a_replica_starts_with_both_secrets_and_serves() {
    let secrets = [("vrf-key", secret(&[(1, 7)])), ("vrf-signing", secret(&[(1, 9)]))];
    let app = sdk::router(crate::build(start(json!({}), &secrets)).await.unwrap());
    let body = json!({"min": 1, "max": 100, "seed": "lottery-7"});
    let (built, expected) = (draw_ok(&app, &body).await, draw_ok(&replica(), &body).await);
    assert_eq!(built["beta"], expected["beta"]);
    let (status, _) = send(&app, "GET", "/health", "default", "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_replica_without_its_keys_or_with_a_wrong_configuration_says_so() {
    let (key, signing) = (("vrf-key", secret(&[(1, 7)])), ("vrf-signing", secret(&[(1, 9)])));
    let mut short = key.clone();
    short.1.epochs[0].value.pop();
    let starts = [
        start(json!({}), std::slice::from_ref(&signing)),
        start(json!({}), std::slice::from_ref(&key)),
        start(json!({}), &[short, signing.clone()]),
        start(json!({"suite": "p256"}), &[key, signing]),
    ];
    let mut refusals = String::new();
    for start in starts {
        refusals += &format!("{}\n", crate::build(start).await.unwrap_err());
    }
    expect![[r#"
        the secret vrf-key was not handed over
        the secret vrf-signing was not handed over
        VRF_KEY_UNAVAILABLE: epoch 1 of the secret vrf-key must be a seed of 32 bytes, not 31
        suite: expected "ed25519", the one suite that there is, not "p256"
    "#]]
    .assert_eq(&refusals);
}
