//! What is shown of the `config` of services, and how long somebody is kept waiting for it.

use std::sync::Arc;

use axum::http::StatusCode;
use expect_test::expect;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::admin::on_socket;
use crate::admin::tests::{asked, state};

/// Two services that are handed something, at the start.
fn configured(state: &AdminState) {
    let of = |name: &str| (name.parse().unwrap(), [1; 32], Arc::new(json!({})));
    state.configurations.prepare(7, [of("vrf"), of("oracle")]);
    state.configurations.take_over(9);
}

#[tokio::test]
async fn the_contract_of_config_status_json() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    configured(&state);
    let router = on_socket(state.clone());
    let vrf = "vrf/0".parse().unwrap();
    let reason = "depth: expected at most 9".to_owned();
    state.configurations.said(&vrf, 7, Taken::Rejected(reason), Timestamp::UNIX_EPOCH);
    let (status, answer) = asked(&router, "GET", "/v1/config/status", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    expect![[r#"{"revision":9,"services":[{"name":"vrf","wanted":7,"replicas":[{"id":"vrf/0","applied":null,"outcome":"rejected","reason":"depth: expected at most 9","since":"1970-01-01T00:00:00.000Z"}]}]}"#]]
        .assert_eq(&answer.to_string());
    let (status, _) = asked(&router, "GET", "/v1/config/status?wait=soon", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn whoever_waits_is_answered_when_all_have_said_what_they_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    configured(&state);
    let router = on_socket(state.clone());
    let vrf = "vrf/0".parse().unwrap();
    let says = async {
        tokio::task::yield_now().await;
        state.configurations.said(&vrf, 7, Taken::Applied, Timestamp::UNIX_EPOCH)
    };
    let answered = asked(&router, "GET", "/v1/config/status?wait=5000", Value::Null);
    let begun = std::time::Instant::now();
    let ((_, answer), is_news) = tokio::join!(answered, says);
    assert!(is_news && begun.elapsed() < LONGEST_WAIT_OF_A_TEST, "{:?}", begun.elapsed());
    assert_eq!(answer["services"][0]["replicas"][0]["outcome"], "applied");
    let (_, late) = asked(&router, "GET", "/v1/config/status?wait=0", Value::Null).await;
    assert_eq!(late, answer);
}

/// Far less than an answer may be kept back.
const LONGEST_WAIT_OF_A_TEST: Duration = Duration::from_secs(4);
