//! What time does: history goes, and leases end, also across a start.

use super::*;

fn kept(revisions: u64) -> Kept {
    Kept { revisions, ..Kept::default() }
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_go_back_as_far_as_history_is_kept() {
    let place = Place::new();
    let (store, shared) = place.open_keeping(kept(10));
    let mut slow = store.watch("", 3);
    for step in 0..25u8 {
        committed(&store, Transaction::new().put("k", [step])).await;
        assert_whole(&shared);
    }
    for (after, oldest) in [(0, 16), (14, 16)] {
        let gone = store.watch("", after).next().await;
        assert!(matches!(gone, Err(StoreError::Compacted { oldest: said }) if said == oldest), "{gone:?}");
    }
    let mut watch = store.watch("", 15);
    for revision in 16..=25 {
        assert_eq!(changes(&mut watch).await.revision, revision);
    }
    let overtaken = slow.next().await;
    assert!(matches!(overtaken, Err(StoreError::Compacted { oldest: 16 })), "{overtaken:?}");
    drop((store, shared));
    let (store, _) = place.open_keeping(kept(10));
    assert_eq!(changes(&mut store.watch("", 15)).await.revision, 16, "also after a start");
}

#[tokio::test(start_paused = true)]
async fn of_large_values_less_history_is_kept() {
    let place = Place::new();
    let (store, shared) = place.open_keeping(Kept { bytes: 10_000, ..Kept::default() });
    for _ in 0..10 {
        committed(&store, Transaction::new().put("k", vec![1; 3_000])).await;
    }
    assert!(matches!(store.watch("", 6).next().await, Err(StoreError::Compacted { oldest: 8 })));
    assert_whole(&shared);
    committed(&store, Transaction::new().put("k", vec![1; 30_000])).await;
    assert_eq!(changes(&mut store.watch("", 10)).await.revision, 11, "the last one whatever its size");
    assert_whole(&shared);
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_its_whole_time_again_after_a_start() {
    let place = Place::new();
    let ttl = Duration::from_secs(10);
    let store = place.open();
    let lease = store.grant(ttl).await.unwrap();
    committed(&store, Transaction::new().put_leased("k", "1", lease)).await;
    tokio::time::sleep(ttl * 8 / 10).await;
    drop(store);
    let (store, shared) = place.open_keeping(Kept::default());
    tokio::time::sleep(ttl * 8 / 10).await;
    assert_eq!(store.get("k").await.unwrap().unwrap().lease, Some(lease));
    let again = tokio::time::Instant::now();
    store.keep_alive(lease).await.unwrap();
    let mut watch = store.watch("", 1);
    assert_eq!(changes(&mut watch).await.changes, [Change::Deleted(b"k".to_vec())]);
    assert!(again.elapsed() >= ttl && again.elapsed() < ttl + Duration::from_millis(10));
    assert_whole(&shared);
}

#[tokio::test(start_paused = true)]
async fn many_leases_that_end_at_once_are_ended_at_once() {
    let place = Place::new();
    let (store, shared) = place.open_keeping(Kept::default());
    for number in 0..50 {
        let lease = store.grant(Duration::from_secs(10)).await.unwrap();
        committed(&store, Transaction::new().put_leased(format!("k/{number}"), "", lease)).await;
    }
    let mut watch = store.watch("", 50);
    for revision in 51..=100 {
        let seen = changes(&mut watch).await;
        assert_eq!((seen.revision, seen.changes.len()), (revision, 1), "each in a revision of its own");
    }
    assert!(shared.leases.first_end().is_none());
    assert_whole(&shared);
}

#[test]
fn leases_end_also_when_the_runtime_that_began_them_is_gone() {
    let place = Place::new();
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let store = place.open();
    runtime().block_on(async {
        let lease = store.grant(Duration::from_secs(10)).await.unwrap();
        committed(&store, Transaction::new().put_leased("k", "1", lease)).await;
    });
    runtime().block_on(async {
        assert_eq!(changes(&mut store.watch("", 1)).await.changes, [Change::Deleted(b"k".to_vec())]);
    });
}
