use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use service_lifecycle::{FleetHandle, Fleets};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::admin::on_socket;
use crate::admin::tests::{asked, state};

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = state(&folder, "127.0.0.1:7070").await;
    let stopping = Extension(Stopping(watch::channel(false).1));
    let router = on_socket(state.clone()).layer(stopping.clone());
    let (status, elsewhere) = asked(&router, "GET", "/v1/services/vrf/rollout", json!(null)).await;
    assert_eq!((status, &elsewhere["code"]), (StatusCode::CONFLICT, &json!("REPLICAS_ELSEWHERE")));
    let (handle, fleet) = FleetHandle::new("1.0.0".into(), watch::Sender::new(0));
    state.fleets = Fleets::new([("vrf".parse().unwrap(), handle)].into());
    let router = on_socket(state).layer(stopping);
    let expected = json!({"service": "vrf", "wanted": "1.0.0", "rollout": null, "last": null});
    let shown = asked(&router, "GET", "/v1/services/vrf/rollout", json!(null)).await;
    assert_eq!(shown, (StatusCode::OK, expected));
    let history = asked(&router, "GET", "/v1/services/vrf/rollout/history", json!(null)).await;
    assert_eq!(history, (StatusCode::OK, json!({"service": "vrf", "rollouts": []})));
    let (status, unknown) = asked(&router, "POST", "/v1/services/vfr/rollout/pause", json!(null)).await;
    assert_eq!((status, &unknown["code"]), (StatusCode::NOT_FOUND, &json!("SERVICE_UNKNOWN")));
    assert!(unknown["detail"].as_str().unwrap().contains("did you mean vrf?"), "{unknown}");
    let wrong = asked(&router, "GET", "/v1/services/vrf/rollout?watch=1", json!(null)).await;
    assert_eq!(wrong.0, StatusCode::BAD_REQUEST);
    drop(fleet);
    let stopped = asked(&router, "POST", "/v1/services/vrf/rollout/undo", json!(null)).await;
    assert_eq!((stopped.0, &stopped.1["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("DRAINING")));
}

#[tokio::test]
async fn whoever_follows_is_told_at_once_how_things_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = state(&folder, "127.0.0.1:7070").await;
    let (handle, _fleet) = FleetHandle::new("1.0.0".into(), watch::Sender::new(0));
    state.fleets = Fleets::new([("vrf".parse().unwrap(), handle)].into());
    let (_stop, stopped) = watch::channel(false);
    let router = on_socket(state).layer(Extension(Stopping(stopped)));
    let request = Request::builder().uri("/v1/services/vrf/rollout?follow=true").body(Body::empty()).unwrap();
    let mut answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let told = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    let data = told.strip_prefix("event: rollout\ndata: ").unwrap();
    let told: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&told["service"], &told["rollout"]), (&json!("vrf"), &Value::Null));
}

#[tokio::test]
async fn a_rollout_that_is_done_is_taken_back_by_the_revision_before_the_one_that_began_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    let ended = |began: &str| EndedRollout {
        from: "1.0.0".into(),
        to: "1.1.0".into(),
        outcome: Outcome::Done,
        times: (began.parse().unwrap(), began.parse().unwrap()),
    };
    let advice = async |began| {
        let problem = nothing_to_undo(&state, &"vrf".parse().unwrap(), Some(ended(began))).await;
        let body = problem.into_response().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()["detail"].as_str().unwrap().to_owned()
    };
    // Both revisions are of 8:00.
    let said = advice("2027-01-15T08:00:00.001Z").await;
    assert!(said.contains("to have 1.0.0 run again, `serviceos config rollback 6`"), "{said}");
    let said = advice("2027-01-15T07:59:00Z").await;
    assert!(said.contains("`serviceos config history` lists"), "{said}");
}
