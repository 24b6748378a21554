//! What is asked for reaches whoever applies it, and what is refused says why.

use std::future::ready;

use axum::body::Body;
use axum::http::Request;
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::admin::on_socket;

/// Revision 7 is in force, 6 was, and what is asked for is judged by its text.
pub(in crate::admin) struct OneRevision;

fn revision(number: u64) -> ConfigRevision {
    ConfigRevision {
        revision: number,
        author: "configuration file".into(),
        origin: "file".into(),
        time: "2027-01-15T08:00:00.000Z".into(),
        digest: "00".repeat(32),
        in_force: number == 7,
        changes: vec!["services.vrf.replicas: 1 -> 2".into()],
        changed_keys: 1,
        text: Some("services: {vrf: {replicas: 2}}".into()),
    }
}

impl ConfigDesk for OneRevision {
    fn in_force(&self) -> ConfigRevision {
        revision(7)
    }

    fn revision_in_force(&self) -> u64 {
        7
    }

    fn list(&self) -> ConfigAnswer<'_, Vec<ConfigRevision>> {
        let listed = [7, 6].map(|number| ConfigRevision { text: None, ..revision(number) });
        Box::pin(ready(Ok(listed.into())))
    }

    fn revision(&self, number: u64) -> ConfigAnswer<'_, ConfigRevision> {
        Box::pin(ready(if number == 6 { Ok(revision(6)) } else { Err(ConfigRefused::Unknown(number)) }))
    }

    fn change(&self, change: ConfigChange) -> ConfigAnswer<'_, ConfigChanged> {
        let text = match &change.wanted {
            ConfigWanted::Text(text) => String::from_utf8(text.clone()).unwrap(),
            ConfigWanted::Revision(number) => format!("revision {number}"),
            ConfigWanted::Scaled(service, replicas) => format!("{service} {replicas}"),
            ConfigWanted::MeasuredAgain(service) => format!("{service} again"),
        };
        let judged = match text.as_str() {
            _ if change.if_revision.is_some_and(|expected| expected != 7) => {
                Err(ConfigRefused::Conflict { in_force: 7 })
            }
            "needs a start" => Err(ConfigRefused::NewStart(vec!["mode".into(), "secrets".into()])),
            "needs a file" => Err(ConfigRefused::NotApplied("cert.pem: no such file".into())),
            "revision 5" => Err(ConfigRefused::Unknown(5)),
            "audit" => Err(ConfigRefused::Trust(TrustError::Failed)),
            text if text.starts_with("services") => match configuration::meaning(text, "configuration") {
                Ok(_) => Ok(()),
                Err(report) => Err(ConfigRefused::Invalid(report)),
            },
            _ => Ok(()),
        };
        let difference = Difference {
            key: "a".into(),
            before: None,
            after: Some(format!("{change:?}").replace('"', "'")),
        };
        Box::pin(ready(judged.map(|()| ConfigChanged {
            dry_run: change.dry_run,
            ..ConfigChanged::new(8, true, vec![difference])
        })))
    }
}

async fn ask(request: Request<Body>) -> (StatusCode, Option<String>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let state = crate::admin::tests::state(&folder, "127.0.0.1:7070").await;
    let response = on_socket(state).oneshot(request).await.unwrap();
    let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, tag, serde_json::from_slice(&body).unwrap())
}

async fn post(
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> (StatusCode, Option<String>, Value) {
    let mut request = Request::builder().method("POST").uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(request.body(body.into()).unwrap()).await
}

async fn check(path: &str, headers: &[(&str, &str)], body: &str, expected: Expect) {
    let (status, tag, body) = post(path, headers, body.to_owned()).await;
    let said = match body["code"].as_str() {
        Some(code) => format!("{} {code}: {}", status.as_u16(), body["detail"]),
        None => format!("{} {} {}", status.as_u16(), tag.unwrap_or_default(), body["diff"][0]["after"]),
    };
    expected.assert_eq(&said);
}

#[tokio::test]
async fn what_is_asked_for_arrives_with_who_asks_and_under_which_condition() {
    check("/v1/config", &[], "a: b", expect![[r#"200 "8" "ConfigChange { wanted: Text([97, 58, 32, 98]), if_revision: None, dry_run: false, author: 'admin socket' }""#]]).await;
    let yaml = ("content-type", "application/yaml; charset=utf-8");
    check("/v1/config?dryRun=true", &[yaml, ("if-match", "\"7\"")], "a: b", expect![[r#"200 "8" "ConfigChange { wanted: Text([97, 58, 32, 98]), if_revision: Some(7), dry_run: true, author: 'admin socket' }""#]]).await;
    check("/v1/config", &[("content-type", "text/plain"), ("if-match", "*")], "", expect![[r#"200 "8" "ConfigChange { wanted: Text([]), if_revision: None, dry_run: false, author: 'admin socket' }""#]]).await;
    check("/v1/config/rollback", &[("if-match", "7")], r#"{"revision": 6}"#, expect![[r#"200 "8" "ConfigChange { wanted: Revision(6), if_revision: Some(7), dry_run: false, author: 'admin socket' }""#]]).await;
}

#[tokio::test]
async fn what_is_refused_says_why() {
    check("/v1/config", &[("if-match", "\"6\"")], "a: b", expect![[r#"412 CONFIG_CONFLICT: "revision 7 is in force by now; look at it with `serviceos config show`, then try again""#]]).await;
    check(
        "/v1/config",
        &[("if-match", "W/\"7\"")],
        "a: b",
        expect![[r#"400 VALIDATION_FAILED: "If-Match: expected the number of a revision, such as \"7\"""#]],
    )
    .await;
    check(
        "/v1/config",
        &[("content-type", "application/json")],
        "{}",
        expect![[r#"400 VALIDATION_FAILED: "the body is the YAML itself; send it as application/yaml""#]],
    )
    .await;
    check("/v1/config?dry=1", &[], "a: b", expect![[r#"400 VALIDATION_FAILED: "Failed to deserialize query string: dry: unknown field `dry`, expected `dryRun`""#]]).await;
    check("/v1/config", &[], "needs a start", expect![[r#"409 CONFIG_NEEDS_RESTART: "mode, secrets can be changed only by a new start (`serviceos down`, then `serviceos up`); undo that to have the rest applied now""#]]).await;
    check(
        "/v1/config",
        &[],
        "needs a file",
        expect![[r#"409 CONFIG_NOT_APPLIED: "cert.pem: no such file""#]],
    )
    .await;
    check(
        "/v1/config",
        &[],
        "audit",
        expect![[r#"503 AUTHORITY_UNAVAILABLE: "a part of the authority failed; this is a bug""#]],
    )
    .await;
    check("/v1/config/rollback", &[], r#"{"revision": 5}"#, expect![[r#"404 CONFIG_REVISION_UNKNOWN: "there is no revision 5; `serviceos config history` lists those that are kept""#]]).await;
    check(
        "/v1/config/rollback",
        &[],
        r#"{"revision": 5, "force": true}"#,
        expect![[
            r#"400 VALIDATION_FAILED: "unknown field `force`, expected `revision` at line 1 column 23""#
        ]],
    )
    .await;
}

#[tokio::test]
async fn mistakes_are_told_to_people_and_to_programs() {
    let (status, _, body) = post("/v1/config", &[], "services:\n  vrf: {replcas: 3}\n").await;
    assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &"CONFIG_INVALID".into()));
    assert!(
        body["detail"].as_str().unwrap().starts_with("configuration:2:9: unknown key `replcas`"),
        "{body}"
    );
    let error = &body["errors"][0];
    let told = ["line", "column", "message", "nearest"].map(|key| error[key].to_string());
    expect![[r#"2 9 "unknown key `replcas`" "replicas""#]].assert_eq(&told.join(" "));
}

#[tokio::test]
async fn revisions_are_listed_without_their_texts_and_shown_with_it_and_a_tag() {
    let get = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
    let (_, tag, body) = ask(get("/v1/config")).await;
    assert_eq!((tag.as_deref(), &body["text"]), (Some("\"7\""), &"services: {vrf: {replicas: 2}}".into()));
    let (_, tag, body) = ask(get("/v1/config/revisions/6")).await;
    assert_eq!((tag.as_deref(), &body["inForce"]), (Some("\"6\""), &false.into()));
    let (_, _, body) = ask(get("/v1/config/revisions")).await;
    assert_eq!((body[0]["revision"].as_u64(), body[1].get("text")), (Some(7), None));
    for unknown in ["5", "x", "-1", "99999999999999999999", "%ff"] {
        let (status, _, body) = ask(get(&format!("/v1/config/revisions/{unknown}"))).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::NOT_FOUND, &"CONFIG_REVISION_UNKNOWN".into()),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn what_is_applied_may_be_as_large_as_a_file_and_no_larger() {
    let body = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
    assert_eq!(post("/v1/config", &[], body(max_file_bytes())).await.0, StatusCode::OK);
    let (status, _, problem) = post("/v1/config", &[], body(max_file_bytes() + 1)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"BODY_TOO_LARGE".into()));
    assert_eq!(problem["detail"], "the body has more than 1048576 bytes");
}
