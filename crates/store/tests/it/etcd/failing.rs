//! What is said when etcd does not answer, and what is done to have an answer nevertheless.

use std::time::{Duration, Instant};

use store::{Availability, Store, StoreError, Transaction};
use testkit::Etcd;
use tokio::sync::watch;

use super::{soon, store};
use crate::conformance::{committed, value};

async fn until(available: bool, availability: &mut watch::Receiver<Availability>) {
    soon(availability.wait_for(|now| (*now == Availability::Available) == available)).await.unwrap();
}

#[tokio::test]
async fn when_all_members_are_gone_that_is_said_at_once_and_when_they_are_back_it_is_found_without_a_request()
{
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    committed(&store, Transaction::new().put("a", "1")).await;
    let mut availability = store.availability();
    assert_eq!(*availability.borrow_and_update(), Availability::Available);
    etcd.kill(0);
    let began = Instant::now();
    let read = store.get("a").await.unwrap_err();
    assert!(matches!(read, StoreError::Unreachable(_)), "{read}");
    let written = store.commit(Transaction::new().put("a", "2")).await.unwrap_err();
    assert!(matches!(written, StoreError::Unreachable(_)), "{written}");
    let granted = store.grant(Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(granted, StoreError::Unreachable(_)), "{granted}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let Availability::Away { reason, stale: None } = availability.borrow_and_update().clone() else {
        panic!("it is away")
    };
    assert!(reason.contains(&etcd.addresses()[0].to_string()) && reason.contains("refused"), "{reason}");
    etcd.restart(0);
    until(true, &mut availability).await;
    assert_eq!(value(&store, "a").await, b"1");
}

#[tokio::test]
async fn that_etcd_is_gone_is_found_when_nobody_asks() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    etcd.kill(0);
    until(false, &mut store.availability()).await;
}

/// Whether etcd has a value for the key, asked past everything that is tested.
fn has_value(etcd: &Etcd, key: &str, value: &str) -> bool {
    use base64::Engine;
    let code = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let answer = etcd.ask(0, "/v3/kv/range", &serde_json::json!({"key": code(&format!("/test/{key}"))}));
    answer["kvs"][0]["value"] == code(value)
}

#[tokio::test]
async fn a_transaction_whose_answer_is_lost_is_undecided_and_not_sent_again() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    committed(&store, Transaction::new().put("a", "1")).await;
    etcd.hold_answers(0);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(Transaction::new().put("a", "2")).await }
    });
    soon(async {
        while !has_value(&etcd, "a", "2") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    etcd.cut(0);
    let undecided = soon(writing).await.unwrap().unwrap_err();
    assert!(matches!(undecided, StoreError::Undecided(_)), "{undecided}");
    etcd.heal(0);
    let row = store.get("a").await.unwrap().unwrap();
    assert_eq!(row.value, b"2");
    // A second one would have made another revision.
    let next = committed(&store, Transaction::new().put("b", "1")).await;
    assert_eq!(next, row.mod_revision + 1);
}

#[tokio::test]
async fn a_read_or_a_renewal_whose_answer_is_lost_is_asked_again() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    committed(&store, Transaction::new().put_leased("a", "1", lease)).await;
    etcd.hold_answers(0);
    let asked = etcd.passed(0);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { (store.get("a").await, store.keep_alive(lease).await) }
    });
    soon(async {
        while etcd.passed(0) == asked {
            tokio::task::yield_now().await;
        }
    })
    .await;
    etcd.cut(0);
    etcd.heal(0);
    let (read, renewed) = soon(reading).await.unwrap();
    assert_eq!(read.unwrap().unwrap().value, b"1");
    renewed.unwrap();
}

#[tokio::test]
async fn a_member_that_stands_still_is_not_waited_for_without_end() {
    let Some(etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    committed(&store, Transaction::new().put("a", "1")).await;
    etcd.pause(0);
    let (read, written) =
        soon(async { tokio::join!(store.get("a"), store.commit(Transaction::new().put("a", "2"))) }).await;
    etcd.resume(0);
    assert!(matches!(read, Err(StoreError::Unreachable(_))), "{read:?}");
    assert!(matches!(written, Err(StoreError::Undecided(_))), "{written:?}");
    until(true, &mut store.availability()).await;
    assert!(store.get("a").await.unwrap().is_some());
}

async fn refused_of(store: &Store, bytes: usize) -> Option<StoreError> {
    store.commit(Transaction::new().put("a", vec![7; bytes])).await.err()
}

#[tokio::test]
async fn what_etcd_has_no_room_for_is_refused_with_a_reason() {
    let arguments = ["--max-request-bytes=65536", "--quota-backend-bytes=1000000"];
    let Some(etcd) = Etcd::start_with(1, |_| arguments.map(str::to_owned).into()) else { return };
    let store = store(&etcd);
    let refused = refused_of(&store, 700 << 10).await.unwrap();
    assert!(matches!(refused, StoreError::TooLarge(_)), "{refused}");
    let mut full = None;
    for _ in 0..100 {
        full = refused_of(&store, 60_000).await;
        if full.is_some() {
            break;
        }
    }
    let Some(StoreError::Disk(reason)) = full else { panic!("{full:?}") };
    assert!(reason.contains("database space exceeded"), "{reason}");
    assert!(store.get("a").await.unwrap().is_some(), "it can still be read");
    assert_eq!(*store.availability().borrow(), Availability::Available);
}

#[tokio::test]
async fn without_an_end_point_there_is_no_store() {
    let settings = store::EtcdSettings {
        end_points: Vec::new(),
        namespace: Vec::new(),
        tls: None,
        login: None,
        random: fastrand::Rng::with_seed(1),
    };
    assert!(matches!(Store::etcd(settings), Err(StoreError::Failed(_))));
}
