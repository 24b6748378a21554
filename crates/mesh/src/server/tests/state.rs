//! Shared state over real connections: who is asked for by its certificate, and what each refusal says.

use axum::response::IntoResponse;
use store::StoreError;

use super::*;
use crate::state::StateFault;

/// The API with a store for state, which serves until the test ends.
async fn serving(authority: &Authority, folder: &TempDir) -> (SocketAddr, JoinHandle<()>) {
    let own = OwnIdentity::new(authority.clone(), Subject::Authority("n1".into())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = Store::open(&folder.path().join("state.redb")).unwrap();
    let api = MeshApi::new(listener, authority.clone(), own.identity(), own.spki()).unwrap();
    (address, tokio::spawn(api.with_state(store).serve(std::future::pending())))
}

impl Member {
    async fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: mesh\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        self.answer().await.unwrap()
    }

    /// The status, and the code where it is refused.
    async fn refused(&mut self, path: &str, body: &Value) -> (u16, String) {
        let (status, answer) = self.post(path, body).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn b64(text: &str) -> Value {
    json!(Bytes(text.as_bytes().to_vec()))
}

fn create(key: &str, value: &str) -> Value {
    json!({"create": {"key": b64(key), "value": b64(value)}})
}

#[tokio::test]
async fn the_replicas_of_a_service_share_its_state_and_nobody_else_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let connect = async |subject| {
        let identity = OwnIdentity::new(authority.clone(), subject).unwrap().identity();
        Member::connect(&authority, address, identity).await
    };
    let (mut one, mut two) = (connect(replica("0")).await, connect(replica("1")).await);
    let mut other = connect(replica_of("oracle", "0")).await;
    let (status, written) =
        one.post("/v1/state/write", &json!({"writes": [create("a", "1"), create("b", "2")]})).await;
    assert_eq!(status, 200, "{written}");
    let row = json!({"key": b64("a"), "value": b64("1"), "revision": written["revision"]});
    let read = json!({"keys": [b64("a"), b64("c")]});
    assert_eq!(two.post("/v1/state/read", &read).await, (200, json!({"rows": [row, null]})));
    assert_eq!(other.post("/v1/state/read", &read).await, (200, json!({"rows": [null, null]})));
    let range = json!({"prefix": "", "limit": 1});
    assert_eq!(two.post("/v1/state/range", &range).await, (200, json!({"rows": [row], "more": true})));
    assert_eq!(other.post("/v1/state/range", &range).await.1, json!({"rows": [], "more": false}));

    let (status, conflict) = two.post("/v1/state/write", &json!({"writes": [create("a", "x")]})).await;
    assert_eq!(
        (status, &conflict["code"], &conflict["present"]),
        (409, &json!("STATE_CONFLICT"), &json!([row]))
    );
    let swap = json!({"replace": {"key": b64("a"), "value": b64("3"), "revision": written["revision"]}});
    assert_eq!(two.post("/v1/state/write", &json!({"writes": [swap]})).await.0, 200);
    one.ask("/v1/state/usage").await.unwrap();
    let (_, usage) = one.answer().await.unwrap();
    assert_eq!((&usage["rows"], &usage["bytes"]), (&json!(2), &json!(4)));
    serving.abort();
}

#[tokio::test]
async fn whoever_is_no_replica_has_no_state_and_whoever_is_revoked_has_none_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let read = json!({"keys": [b64("a")]});
    let mut stranger = Member::connect(&authority, address, Identity::default()).await;
    assert_eq!(stranger.refused("/v1/state/read", &read).await, (403, "CERTIFICATE_REQUIRED".into()));
    for subject in [Subject::Gateway("n1".into()), Subject::Authority("n1".into())] {
        let own = OwnIdentity::new(authority.clone(), subject).unwrap();
        let mut member = Member::connect(&authority, address, own.identity()).await;
        assert_eq!(member.refused("/v1/state/read", &read).await, (403, "REPLICA_NOT_EXPECTED".into()));
    }
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let mut revoked = Member::connect(&authority, address, own.identity()).await;
    assert_eq!(revoked.post("/v1/state/read", &read).await.0, 200);
    let id = SpiffeId { trust_domain: TRUST_DOMAIN.into(), subject: replica("0") }.to_string();
    authority.revoke(RevokedType::Instance, &id, "a test").await.unwrap();
    assert_eq!(revoked.refused("/v1/state/read", &read).await, (403, "REVOKED".into()));
    serving.abort();
}

#[tokio::test]
async fn what_is_no_request_or_too_large_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let mut member = Member::connect(&authority, address, own.identity()).await;
    let write = |write: Value| json!({"writes": [write]});
    for (body, expected) in [
        (json!({"writes": []}), (400, "STATE_MALFORMED")),
        (write(json!({"put": {"key": b64("a"), "value": b64("1")}})), (400, "STATE_MALFORMED")),
        (write(json!({"replace": {"key": b64("a"), "value": b64("1")}})), (400, "STATE_MALFORMED")),
        (write(create("a", &"1".repeat((64 << 10) + 1))), (413, "STATE_TOO_LARGE")),
        (write(create("a", &"1".repeat(512 << 10))), (413, "STATE_TOO_LARGE")),
    ] {
        let (status, code) = member.refused("/v1/state/write", &body).await;
        assert_eq!((status, code.as_str()), expected);
    }
    serving.abort();
}

#[tokio::test]
async fn a_store_that_is_away_is_worth_another_try() {
    let status = |error| StateFault::Store(error).into_response().status();
    for error in [
        StoreError::Unreachable("no quorum".into()),
        StoreError::Undecided("the connection ended".into()),
        StoreError::Disk("full".into()),
        StoreError::Unconfirmed { path: "store.redb".into(), reason: "EIO".into() },
    ] {
        assert_eq!(status(error), StatusCode::SERVICE_UNAVAILABLE);
    }
    // A mesh API that has none, as one whose store is away.
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = super::serving(&authority, LIMITS).await;
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let mut member = Member::connect(&authority, address, own.identity()).await;
    let refused = member.refused("/v1/state/read", &json!({"keys": [b64("a")]})).await;
    assert_eq!(refused, (503, "STATE_UNAVAILABLE".into()));
    serving.abort();
}
