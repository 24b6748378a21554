//! The end of a store, and of the runtimes that use it.

use std::future::{Future, poll_fn};
use std::task::Poll;

use super::*;

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_a_second_opener_is_told() {
    let place = Place::new();
    let store = place.open();
    committed(&store, Transaction::new().put("a", "1")).await;
    assert!(matches!(Store::open(&place.path()), Err(StoreError::InUse(_))));
    drop(store);
    assert_eq!(place.open().get("a").await.unwrap().unwrap().value, b"1");
}

/// Begins something and does not wait for it.
async fn begun(work: impl Future) {
    let mut work = Box::pin(work);
    poll_fn(|context| {
        let _nobody_waits = work.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn the_file_is_free_once_the_last_store_is_dropped_whatever_was_begun() {
    let place = Place::new();
    for round in 0..30u8 {
        let store = place.open();
        let mut watch = store.watch("", 0);
        begun(watch.next()).await;
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        begun(store.grant(Duration::from_secs(60))).await;
        begun(store.commit(Transaction::new().put("k", vec![round; 100_000]))).await;
        begun(store.range("")).await;
        begun(watch.next()).await;
        drop(store);
        let ended = loop {
            if let Err(ended) = watch.next().await {
                break ended;
            }
        };
        assert_eq!(ended.to_string(), "the store failed: it is closed");
    }
    let (store, shared) = place.open_keeping(Kept::default());
    assert!(store.range("").await.unwrap().revision <= 30);
    assert_whole(&shared);
}

#[test]
fn a_runtime_that_ends_leaves_the_store_to_others() {
    let place = Place::new();
    let store = place.open();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..20u8 {
        runtime().block_on(async {
            begun(store.commit(Transaction::new().put("left", [round]))).await;
            begun(store.commit(Transaction::new().put("left", [round]))).await;
        });
        runtime().block_on(async { committed(&store, Transaction::new().put("k", [round])).await });
    }
}

#[tokio::test]
async fn a_store_that_is_closed_is_no_longer_available() {
    let place = Place::new();
    let store = place.open();
    let mut availability = store.availability();
    assert_eq!(*availability.borrow_and_update(), Availability::Available);
    drop(store);
    let reason = "the store failed: it is closed".to_owned();
    assert_eq!(*availability.borrow_and_update(), Availability::Away { reason, stale: None });
}

#[tokio::test]
async fn a_store_that_has_let_go_leaves_the_file_to_others_and_refuses_however_many_have_it() {
    let place = Place::new();
    let store = place.open();
    let (clone, availability) = (store.clone(), store.availability());
    committed(&store, Transaction::new().put("a", "1")).await;
    store.let_go();
    assert_eq!(place.open().get("a").await.unwrap().unwrap().value, b"1");
    assert_eq!(clone.get("a").await.unwrap_err().to_string(), "the store failed: it is closed");
    assert_eq!(
        *availability.borrow(),
        Availability::Available,
        "it is not away for those who go on elsewhere"
    );
}
