use axum::body::Body;
use axum::http::{Request, StatusCode};
use expect_test::expect;
use http_body_util::BodyExt;
use serde_json::Map;
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::admin::on_socket;
use crate::admin::tests::state;
use crate::{LogLevel, LogLine, Logs};

fn line(replica: &str, message: &str) -> LogLine {
    let replica: ReplicaId = replica.parse().unwrap();
    LogLine {
        timestamp: Timestamp::from_second(5).unwrap(),
        level: LogLevel::Warn,
        service: replica.service.clone(),
        replica,
        version: "1.0.0".into(),
        message: message.to_owned(),
        fields: Map::new(),
    }
}

/// The API over the socket, what it tells of, and what tells it to stop.
async fn served() -> (Router, Logs, watch::Sender<bool>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    let ((stop, stopped), logs) = (watch::channel(false), state.logs.clone());
    (on_socket(state).layer(Extension(Stopping(stopped))), logs, stop, folder)
}

async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_last_lines_are_a_document() {
    let (router, logs, _stop, _folder) = served().await;
    assert_eq!(ask(&router, "/v1/logs").await, (StatusCode::OK, r#"{"lines":[]}"#.into()));
    logs.push(&[line("vrf/0", "a"), line("vrf/3", "of one that is gone")]);
    let all = ask(&router, "/v1/logs?service=vrf&since=1h").await.1;
    expect![[r#"{"lines":[{"timestamp":"1970-01-01T00:00:05Z","level":"WARN","service":"vrf","replica":"vrf/0","version":"1.0.0","message":"a"},{"timestamp":"1970-01-01T00:00:05Z","level":"WARN","service":"vrf","replica":"vrf/3","version":"1.0.0","message":"of one that is gone"}]}"#]].assert_eq(&all);
    assert!(ask(&router, "/v1/logs?replica=vrf/3").await.1.contains("gone"));
    assert_eq!(ask(&router, "/v1/logs?replica=vrf/0&since=0s").await.1, r#"{"lines":[]}"#);
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused() {
    let (router, ..) = served().await;
    let mut refused = String::new();
    for query in
        ["service=oracle", "replica=vrf/9", "replica=x", "service=vrf&replica=vrf/0", "since=1w", "wacth=1"]
    {
        let (status, body) = ask(&router, &format!("/v1/logs?{query}")).await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        refused += &format!("{query}: {status} {}\n", problem["code"].as_str().unwrap());
    }
    expect![[r#"
        service=oracle: 404 Not Found SERVICE_UNKNOWN
        replica=vrf/9: 404 Not Found REPLICA_UNKNOWN
        replica=x: 404 Not Found REPLICA_UNKNOWN
        service=vrf&replica=vrf/0: 400 Bad Request VALIDATION_FAILED
        since=1w: 400 Bad Request VALIDATION_FAILED
        wacth=1: 400 Bad Request VALIDATION_FAILED
    "#]]
    .assert_eq(&refused);
}

#[tokio::test]
async fn a_stream_tells_what_comes_and_ends_with_the_api() {
    let (router, logs, stop, _folder) = served().await;
    logs.push(&[line("vrf/0", "a")]);
    let request = Request::builder().uri("/v1/logs?replica=vrf/0&follow=true").body(Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut next = async || -> Option<String> {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    assert!(
        first.starts_with("event: line\ndata: {") && first.ends_with("\"message\":\"a\"}\n\n"),
        "{first}"
    );
    logs.push(&[line("vrf/0", "the last one")]);
    stop.send_replace(true);
    assert!(next().await.unwrap().contains("the last one"), "what was written before the end is told");
    assert_eq!(next().await, None);
}
