//! What is given again: by id, by seed and by `Idempotency-Key`, from any replica, to whoever it belongs to.

use std::collections::BTreeSet;

use axum::http::header;
use tokio::task::JoinSet;

use super::*;

/// Three replicas that share what they keep. Their random bytes are real ones, so that no two ids are the same.
fn replicas(kept: &FakeState) -> [axum::Router; 3] {
    [(), (), ()].map(|()| {
        let keys = Keys::load(&secret(&[(1, 7)]), &secret(&[(1, 9)])).unwrap();
        let random = |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).unwrap();
        let service = Service::new(keys, Box::new(random), Box::new(Timestamp::now), kept.state());
        sdk::router(router(Arc::new(service)))
    })
}

async fn send_with_key(app: &axum::Router, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path).header(IDEMPOTENCY_KEY, key).body(HttpBody::from(body.to_string()));
    let response = app.clone().oneshot(request.unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn refused(app: &axum::Router, path: &str, body: &Value) -> (u16, String) {
    code(post(app, path, body).await)
}

fn code((status, problem): (u16, Value)) -> (u16, String) {
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

fn again(answer: &Value) -> Value {
    with(answer.clone(), "replayed", true)
}

#[tokio::test]
async fn an_answer_is_given_again_by_its_id_to_whoever_it_was_given_to() {
    let kept = FakeState::new();
    let [one, other, _] = replicas(&kept);
    let answer = draw_ok(&one, &json!({"min": 1, "max": 6, "count": 2})).await;
    let path = format!("/v1/random/{}", answer["id"].as_str().unwrap());
    assert_eq!(send(&other, "GET", &path, "default", "").await, (200, again(&answer)));
    let foreign = code(send(&other, "GET", &path, "acme", "").await);
    assert_eq!(foreign, (404, "VRF_UNKNOWN_ID".into()));
    for id in ["rng_01HF7YAT3V0000000000000007", "rng_", "01HF7YAT3V0000000000000007", "%00", "a%2fb"] {
        let unknown = code(send(&one, "GET", &format!("/v1/random/{id}"), "default", "").await);
        assert_eq!(unknown, (404, "VRF_UNKNOWN_ID".into()), "{id}");
    }
}

#[tokio::test]
async fn a_seed_has_one_answer_for_ever_whichever_replica_is_asked() {
    let kept = FakeState::new();
    let [one, other, rest] = replicas(&kept);
    let body = json!({"min": -5, "max": 5, "count": 10, "seed": "s"});
    let first = draw_ok(&one, &body).await;
    assert_eq!(first["replayed"], false);
    assert_eq!(draw_ok(&other, &body).await, again(&first));
    let rotated = replica_of(9, &secret(&[(1, 7), (2, 8)]), &kept);
    assert_eq!(draw_ok(&rotated, &body).await, again(&first), "a new key changes no answer");
    for another in
        [with(body.clone(), "max", 6), with(body.clone(), "count", 9), without(body.clone(), "count")]
    {
        assert_eq!(refused(&rest, "/v1/random", &another).await, (409, "VRF_SEED_REUSED".into()));
    }
    let (_, foreign) = send(&other, "POST", "/v1/random", "acme", body.to_string()).await;
    assert_eq!(foreign["replayed"], false, "a seed is the tenant's own");
    assert_ne!(foreign["beta"], first["beta"]);
}

#[tokio::test]
async fn a_key_has_the_answers_of_its_first_request_and_no_other() {
    let kept = FakeState::new();
    let [one, other, rest] = replicas(&kept);
    let body = json!({"min": 1, "max": 6});
    let (_, first) = send_with_key(&one, "/v1/random", "k", &body).await;
    let same = json!({"count": 1, "seed": null, "max": 6, "min": 1});
    assert_eq!(send_with_key(&other, "/v1/random", "k", &same).await, (200, again(&first)));
    let mismatch = (409, "IDEMPOTENCY_MISMATCH".to_owned());
    for another in [json!({"min": 1, "max": 7}), json!({"min": 1, "max": 6, "seed": ""})] {
        assert_eq!(code(send_with_key(&rest, "/v1/random", "k", &another).await), mismatch);
    }
    let batch = json!({"requests": [body]});
    assert_eq!(code(send_with_key(&rest, "/v1/random/batch", "k", &batch).await), mismatch);
    let (_, second) = send_with_key(&rest, "/v1/random", "k2", &body).await;
    assert_ne!(second["id"], first["id"]);
    for key in [String::new(), "a".repeat(MAX_KEY_BYTES + 1)] {
        assert_eq!(
            code(send_with_key(&one, "/v1/random", &key, &body).await),
            (400, "VRF_BAD_REQUEST".into())
        );
    }
}

#[tokio::test]
async fn a_key_and_a_seed_lead_to_the_same_answer() {
    let kept = FakeState::new();
    let [one, other, rest] = replicas(&kept);
    let body = json!({"min": 1, "max": 6, "seed": "s"});
    let first = draw_ok(&one, &body).await;
    assert_eq!(send_with_key(&other, "/v1/random", "k", &body).await, (200, again(&first)));
    assert_eq!(send_with_key(&rest, "/v1/random", "k", &body).await, (200, again(&first)));
    let reused = code(send_with_key(&rest, "/v1/random", "k2", &with(body, "max", 7)).await);
    assert_eq!(reused, (409, "VRF_SEED_REUSED".into()));
}

#[tokio::test]
async fn of_many_requests_with_one_key_at_the_same_time_one_is_executed() {
    let kept = FakeState::new();
    let replicas = replicas(&kept);
    let mut requests = JoinSet::new();
    for place in 0..32 {
        let app = replicas[place % 3].clone();
        requests
            .spawn(async move { send_with_key(&app, "/v1/random", "k", &json!({"min": 1, "max": 6})).await });
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|(status, answer)| *status == 200 && answer["id"] == answers[0].1["id"]));
    assert_eq!(answers.iter().filter(|(_, answer)| answer["replayed"] == false).count(), 1);
    assert_eq!(kept.rows().len(), 3, "an answer, the key, and when it was used");
}

#[tokio::test]
async fn a_new_answer_takes_one_question_to_the_state_and_one_that_is_given_again_two() {
    let kept = FakeState::new();
    let [one, other, _] = replicas(&kept);
    let (plain, seeded) = (json!({"min": 1, "max": 6}), json!({"min": 1, "max": 6, "seed": "s"}));
    for (body, key) in [(&plain, "k"), (&seeded, "k2")] {
        for (app, questions) in [(&one, 1), (&other, 2)] {
            let before = kept.questions();
            assert_eq!(send_with_key(app, "/v1/random", key, body).await.0, 200);
            assert_eq!(kept.questions() - before, questions, "{body}");
        }
    }
    let before = kept.questions();
    draw_ok(&other, &seeded).await;
    assert_eq!(kept.questions() - before, 2);
}

#[tokio::test]
async fn a_batch_is_kept_whole_in_few_transactions_and_given_again() {
    let kept = FakeState::new();
    let [one, other, rest] = replicas(&kept);
    let plain: Vec<_> = (0..100).map(|_| json!({"min": 0, "max": 1_000_000_000})).collect();
    let body = json!({"requests": plain});
    let (status, first) = send_with_key(&one, "/v1/random/batch", "k", &body).await;
    assert_eq!((status, kept.transactions()), (200, 2), "{first}");
    let ids: Vec<_> =
        first["answers"].as_array().unwrap().iter().map(|answer| answer["id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 100);
    let path = format!("/v1/random/{}", ids[99]);
    assert_eq!(send(&other, "GET", &path, "default", "").await.0, 200);
    let (_, second) = send_with_key(&other, "/v1/random/batch", "k", &body).await;
    let replayed: Vec<_> = first["answers"].as_array().unwrap().iter().map(again).collect();
    assert_eq!((second["answers"].as_array().unwrap(), kept.transactions()), (&replayed, 2));

    let seeded = |first: usize| -> Vec<_> {
        (first..first + 100).map(|seed| json!({"min": 0, "max": 9, "seed": seed.to_string()})).collect()
    };
    let (_, some) = post(&rest, "/v1/random/batch", &json!({"requests": seeded(0)})).await;
    let (status, more) = post(&one, "/v1/random/batch", &json!({"requests": seeded(50)})).await;
    let (some, more) = (some["answers"].as_array().unwrap(), more["answers"].as_array().unwrap());
    assert_eq!(status, 200);
    for place in 0..50 {
        assert_eq!(more[place], again(&some[place + 50]));
        assert_eq!(more[place + 50]["replayed"], false);
    }
}

#[tokio::test]
async fn one_draw_that_cannot_be_refuses_its_batch_and_is_named() {
    let kept = FakeState::new();
    let [app, ..] = replicas(&kept);
    let good = json!({"min": 1, "max": 6, "seed": "s"});
    let batch = |requests: Vec<Value>| json!({"requests": requests});
    for (requests, expected) in [
        (vec![], "VRF_BAD_REQUEST a batch has 1 to 100 requests"),
        (vec![good.clone(); 101], "VRF_BAD_REQUEST a batch has 1 to 100 requests"),
        (
            vec![good.clone(), json!({"min": 2, "max": 1})],
            "VRF_BAD_RANGE requests[1]: min is 2, which is greater than max, 1",
        ),
        (
            vec![good.clone(), with(good.clone(), "max", 7)],
            "VRF_SEED_REUSED requests[1]: this seed was used with another range or count; GET its answer by its id, or choose another seed",
        ),
    ] {
        let (_, problem) = post(&app, "/v1/random/batch", &batch(requests)).await;
        let said = format!("{} {}", problem["code"].as_str().unwrap(), problem["detail"].as_str().unwrap());
        assert_eq!(said, expected);
    }
    assert_eq!(kept.rows().len(), 0);
    let (_, twice) = post(&app, "/v1/random/batch", &batch(vec![good.clone(), good.clone()])).await;
    assert_eq!(twice["answers"][1], again(&twice["answers"][0]));
    let before = kept.rows();
    for others in [1, 99] {
        let mut requests: Vec<_> =
            (0..others).map(|seed| json!({"min": 1, "max": 6, "seed": format!("other {seed}")})).collect();
        requests.push(with(good.clone(), "max", 7));
        let reused = refused(&app, "/v1/random/batch", &batch(requests)).await;
        assert_eq!(reused, (409, "VRF_SEED_REUSED".into()));
        assert_eq!(kept.rows(), before, "nothing of it is kept, however long it is");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_shared_state_nothing_is_drawn_and_what_needs_none_goes_on() {
    let kept = FakeState::new();
    let [app, ..] = replicas(&kept);
    let answer = draw_ok(&app, &json!({"min": 1, "max": 6, "seed": "s"})).await;
    kept.is_away(true);
    let id = format!("/v1/random/{}", answer["id"].as_str().unwrap());
    for (method, path, body) in [
        ("POST", "/v1/random", r#"{"min":1,"max":6}"#),
        ("GET", id.as_str(), ""),
        ("POST", "/v1/random/batch", r#"{"requests":[{"min":1,"max":6}]}"#),
    ] {
        let request = Request::builder().method(method).uri(path).body(HttpBody::from(body)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (503, &HeaderValue::from(1))
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem = serde_json::from_slice::<Value>(&body).unwrap();
        assert_eq!(problem["code"], "STATE_UNAVAILABLE", "{path}");
        assert!(!problem.to_string().contains("it is away"), "why is nothing for callers: {problem}");
    }
    assert_eq!(verdict(&app, &question(&answer)).await["valid"], true);
    assert_eq!(send(&app, "GET", "/v1/random/keys", "default", "").await.0, 200);
    kept.is_away(false);
    assert_eq!(draw_ok(&app, &json!({"min": 1, "max": 6, "seed": "s"})).await, again(&answer));
    kept.has_room_for(0);
    assert_eq!(refused(&app, "/v1/random", &json!({"min": 1, "max": 6})).await, (503, "STATE_FULL".into()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_state_draws_nothing_twice() {
    let kept = FakeState::new();
    let [app, ..] = replicas(&kept);
    kept.lose_answers(1);
    let (_, answer) = send_with_key(&app, "/v1/random", "k", &json!({"min": 1, "max": 6})).await;
    assert_eq!(answer["replayed"], false, "it was this request's own");
    assert_eq!((kept.transactions(), kept.rows().len()), (1, 3));
}

#[tokio::test]
async fn what_is_kept_names_no_tenant_no_seed_of_a_key_and_no_secret() {
    let kept = FakeState::new();
    let [app, ..] = replicas(&kept);
    let body = json!({"min": 1, "max": 6, "seed": "s"}).to_string();
    let request = Request::post("/v1/random")
        .header(types::headers::TENANT, "acme-corporation")
        .header(IDEMPOTENCY_KEY, "order-4711")
        .body(HttpBody::from(body));
    app.clone().oneshot(request.unwrap()).await.unwrap();
    let contains = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    for (key, value) in kept.rows() {
        let key = String::from_utf8(key).unwrap();
        assert!(!key.contains("acme") && !key.contains("4711"), "{key}");
        assert!(!contains(&value, b"4711"), "{key}");
        // The seeds of both secrets.
        assert!(!contains(&value, &[7; 32]) && !contains(&value, &[9; 32]), "{key}");
    }
}
