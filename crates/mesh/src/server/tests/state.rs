//! Shared state over real connections: who is asked for by its certificate, and what each refusal says.

use std::collections::BTreeSet;

use axum::response::IntoResponse;
use store::StoreError;

use mesh_protocol::MeshCoordinates;
use sdk::{FakeState, Put, Row, State, StateError, StateWrite, Swap, Written};
use tokio::sync::watch;
use tokio::task::JoinSet;

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

/// The state of a replica as its service sees it, and what tells it of another certificate.
fn state(
    authority: &Authority,
    address: SocketAddr,
    own: &OwnIdentity,
) -> (State, watch::Sender<([u8; 32], tokio::time::Instant)>) {
    let mesh = MeshCoordinates {
        address,
        root_spki: Bytes(authority.root_spki().to_vec()),
        trust_domain: TRUST_DOMAIN.into(),
        mode: Mode::Development,
        transition: Bytes(vec![0; 32]),
        evidence_root: None,
        authority_workload: Bytes(vec![0; 32]),
    };
    let certificates = watch::Sender::new(([0; 32], tokio::time::Instant::now()));
    (State::of_identity(mesh, own.identity(), certificates.subscribe()), certificates)
}

impl Member {
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
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

/// What a service relies on, whoever keeps its state.
async fn keeps_its_promises(state: State) {
    let Ok(Put::Created(first)) = state.put_if_absent(b"a", b"1").await else { panic!("it is absent") };
    let present = Row { key: b"a".to_vec(), value: b"1".to_vec(), revision: first };
    assert_eq!(state.put_if_absent(b"a", b"2").await, Ok(Put::Present(present.clone())));
    assert_eq!(state.put_if_absent(b"a", b"1").await, Ok(Put::Present(present.clone())), "nor with the same");
    assert_eq!(state.compare_and_swap(b"a", first + 1, b"2").await, Ok(Swap::Changed(Some(present))));
    let Ok(Swap::Done(second)) = state.compare_and_swap(b"a", first, b"2").await else {
        panic!("it is as read")
    };
    assert!(second > first);
    let create = |key: &str| StateWrite::Create { key: Bytes(key.into()), value: Bytes(vec![0; 60 << 10]) };
    let all = ["b", "c", "d", "e"].map(create).to_vec();
    assert!(matches!(state.write(all.clone()).await, Ok(Written::Done(_))));
    let Ok(Written::Conflict(rows)) = state.write(all).await else { panic!("they are there") };
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.value.len() == 60 << 10), "whatever fits into one answer");
    let read = state.get_all(&["a", "x", "b", "c", "d", "e"]).await.unwrap();
    assert_eq!(read.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true, true, true]);
    let page = state.range(b"", b"a", 2).await.unwrap();
    assert_eq!((page.rows.len(), page.rows[0].key.as_slice(), page.more), (2, &b"b"[..], true));
    assert_eq!(state.usage().await.unwrap().rows, 5);
    assert!(matches!(state.delete(b"a", second).await, Ok(Swap::Done(_))));
    assert_eq!(state.delete(b"a", second).await, Ok(Swap::Changed(None)));
    assert_eq!(state.get(b"a").await, Ok(None));
    assert!(matches!(state.put_if_absent(b"f", &[0; (64 << 10) + 1]).await, Err(StateError::TooLarge(_))));
    assert!(matches!(state.write(Vec::new()).await, Err(StateError::Refused(_))));
}

#[tokio::test]
async fn a_service_can_rely_on_its_state_and_on_the_fake_of_it_alike() {
    keeps_its_promises(FakeState::new().state()).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    keeps_its_promises(state(&authority, address, &own).0).await;
    serving.abort();
}

#[tokio::test]
async fn of_many_that_put_the_same_row_at_once_one_has_created_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let mut puts = JoinSet::new();
    for ordinal in ["0", "1"] {
        let own = OwnIdentity::new(authority.clone(), replica(ordinal)).unwrap();
        let (state, _) = state(&authority, address, &own);
        for number in 0..20 {
            let (state, value) = (state.clone(), format!("{ordinal} {number}"));
            puts.spawn(async move { state.put_if_absent(b"a", value.as_bytes()).await.unwrap() });
        }
    }
    let puts = puts.join_all().await;
    assert_eq!(puts.iter().filter(|put| matches!(put, Put::Created(_))).count(), 1);
    serving.abort();
}

#[tokio::test]
async fn writes_that_wait_go_together_and_each_has_an_answer_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let (state, _certificates) = state(&authority, address, &own);
    for taken in 0..5 {
        state.put_if_absent(format!("{}", taken * 20).as_bytes(), b"taken").await.unwrap();
    }
    let put = |key: usize| {
        let state = state.clone();
        async move { (key, state.put_if_absent(key.to_string().as_bytes(), b"new").await.unwrap()) }
    };
    let mut revisions = BTreeSet::new();
    for (key, put) in (0..100).map(put).collect::<JoinSet<_>>().join_all().await {
        match put {
            Put::Created(revision) => drop(revisions.insert(revision)),
            Put::Present(row) => assert_eq!((row.value.as_slice(), key % 20), (&b"taken"[..], 0)),
        }
    }
    assert!(revisions.len() < 20, "{} transactions for 95 rows", revisions.len());
    assert_eq!(state.usage().await.unwrap().rows, 100);
    serving.abort();
}

#[tokio::test]
async fn a_replica_finds_its_state_again_with_another_certificate_and_after_the_mesh_api_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, &folder).await;
    let own = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let (state, certificates) = state(&authority, address, &own);
    assert!(matches!(state.put_if_absent(b"a", b"1").await, Ok(Put::Created(_))));
    certificates.send_replace(([1; 32], tokio::time::Instant::now()));
    assert!(state.get(b"a").await.unwrap().is_some());
    serving.abort();
    let _it_was_aborted = serving.await;
    assert!(matches!(state.get(b"a").await, Err(StateError::Unavailable(_))));
    assert!(matches!(state.put_if_absent(b"b", b"1").await, Err(StateError::Unavailable(_))));

    let shown = OwnIdentity::new(authority.clone(), Subject::Authority("n1".into())).unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let store = Store::open(&folder.path().join("state.redb")).unwrap();
    let api = MeshApi::new(listener, authority.clone(), shown.identity(), shown.spki()).unwrap();
    let serving = tokio::spawn(api.with_state(store).serve(std::future::pending()));
    assert!(state.get(b"a").await.unwrap().is_some(), "what was acknowledged is there");
    assert_eq!(state.get(b"b").await, Ok(None));
    serving.abort();
}
