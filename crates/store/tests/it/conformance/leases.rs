use std::collections::HashSet;
use std::time::Duration;

use store::{Change, LEASE_TTL, LeaseId, Outcome, Store, StoreError, Transaction, Watch};
use tokio::time::Instant;

use super::{changes, committed, keys, value};

const SHORT: Duration = *LEASE_TTL.start();
/// By when a lease that is not renewed has ended for certain, beyond its own time.
const LATE: Duration = Duration::from_secs(20);

async fn watch_from_now(store: &Store) -> Watch {
    store.watch("", store.range("").await.unwrap().revision)
}

async fn ended(store: &Store, lease: LeaseId) -> bool {
    match store.keep_alive(lease).await {
        Ok(()) => false,
        Err(StoreError::LeaseEnded(ended)) if ended == lease => true,
        Err(other) => panic!("{other}"),
    }
}

/// The keys that go in the next revision, all of them deleted.
async fn deleted(watch: &mut Watch) -> Vec<String> {
    let changes = changes(watch).await;
    assert!(changes.changes.iter().all(|change| matches!(change, Change::Deleted(_))), "{changes:?}");
    keys(&changes)
}

pub(crate) async fn what_is_under_a_lease_goes_at_once_when_it_is_not_renewed(store: Store) {
    let granted = Instant::now();
    let lease = store.grant(SHORT).await.unwrap();
    committed(&store, Transaction::new().put("stays", "1").put_leased("a", "1", lease)).await;
    committed(&store, Transaction::new().put_leased("b", "1", lease)).await;
    assert_eq!(store.get("a").await.unwrap().unwrap().lease, Some(lease));
    let mut watch = watch_from_now(&store).await;
    assert_eq!(deleted(&mut watch).await, ["a", "b"], "in one revision");
    assert!(granted.elapsed() >= SHORT && granted.elapsed() < SHORT + LATE, "{:?}", granted.elapsed());
    assert_eq!((store.get("a").await.unwrap(), store.get("b").await.unwrap()), (None, None));
    assert_eq!(value(&store, "stays").await, b"1");
    assert!(ended(&store, lease).await);
}

pub(crate) async fn a_lease_lives_as_long_as_it_is_renewed(store: Store) {
    let (renewed, left) = (store.grant(SHORT).await.unwrap(), store.grant(SHORT).await.unwrap());
    committed(&store, Transaction::new().put_leased("renewed", "", renewed).put_leased("left", "", left))
        .await;
    let mut watch = watch_from_now(&store).await;
    for _ in 0..8 {
        tokio::time::sleep(SHORT / 3).await;
        store.keep_alive(renewed).await.unwrap();
    }
    assert_eq!(deleted(&mut watch).await, ["left"]);
    assert_eq!(store.get("renewed").await.unwrap().unwrap().lease, Some(renewed));
    assert_eq!(deleted(&mut watch).await, ["renewed"]);
    assert!(ended(&store, renewed).await);
}

pub(crate) async fn a_lease_is_given_its_shortest_life_at_least(store: Store) {
    let granted = Instant::now();
    let lease = store.grant(Duration::ZERO).await.unwrap();
    committed(&store, Transaction::new().put_leased("a", "1", lease)).await;
    let mut watch = watch_from_now(&store).await;
    assert_eq!(deleted(&mut watch).await, ["a"]);
    assert!(granted.elapsed() >= SHORT, "{:?}", granted.elapsed());
}

pub(crate) async fn what_is_under_a_lease_that_is_revoked_goes_in_one_revision(store: Store) {
    let (first, second) = (store.grant(LATE).await.unwrap(), store.grant(LATE).await.unwrap());
    for number in 0..5 {
        let keys = [format!("first/{number}"), format!("second/{number}")];
        let [one, two] = keys;
        committed(&store, Transaction::new().put_leased(one, "", first).put_leased(two, "", second)).await;
    }
    let mut watch = watch_from_now(&store).await;
    store.revoke(first).await.unwrap();
    assert_eq!(store.range("first/").await.unwrap().rows, [], "gone once it is acknowledged");
    assert_eq!(store.range("second/").await.unwrap().rows.len(), 5);
    assert_eq!(deleted(&mut watch).await, (0..5).map(|number| format!("first/{number}")).collect::<Vec<_>>());
    store.revoke(first).await.unwrap();
    store.keep_alive(second).await.unwrap();
    store.revoke(second).await.unwrap();
    assert_eq!(deleted(&mut watch).await.len(), 5);
}

pub(crate) async fn a_lease_without_keys_ends_unseen(store: Store) {
    let mut watch = watch_from_now(&store).await;
    let lease = store.grant(LATE).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert!(ended(&store, lease).await);
    committed(&store, Transaction::new().put("a", "1")).await;
    assert_eq!(keys(&changes(&mut watch).await), ["a"]);
}

async fn takes_nothing(store: &Store, lease: LeaseId) {
    committed(store, Transaction::new().put("b", "old").put("c", "old")).await;
    let mut watch = watch_from_now(store).await;
    let refused = Transaction::new().put("a", "1").put_leased("b", "new", lease).delete("c");
    let refused = store.commit(refused).await;
    assert!(matches!(refused, Err(StoreError::LeaseEnded(ended)) if ended == lease), "{refused:?}");
    assert!(ended(store, lease).await);
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!((value(store, "b").await, value(store, "c").await), (b"old".to_vec(), b"old".to_vec()));
    committed(store, Transaction::new().put("after", "1")).await;
    assert_eq!(keys(&changes(&mut watch).await), ["after"], "nothing of it was seen");
}

pub(crate) async fn a_lease_that_has_ended_takes_nothing(store: Store) {
    let lease = store.grant(LATE).await.unwrap();
    store.revoke(lease).await.unwrap();
    takes_nothing(&store, lease).await;
    let lease = store.grant(SHORT).await.unwrap();
    committed(&store, Transaction::new().put_leased("k", "1", lease)).await;
    let mut watch = store.watch("k", store.range("k").await.unwrap().revision);
    assert_eq!(deleted(&mut watch).await, ["k"]);
    takes_nothing(&store, lease).await;
}

pub(crate) async fn a_lease_that_never_was_takes_nothing(store: Store) {
    let never = LeaseId::of(0x5eed_1e55);
    takes_nothing(&store, never).await;
    store.revoke(never).await.unwrap();
}

pub(crate) async fn a_comparison_is_judged_before_the_lease(store: Store) {
    let never = LeaseId::of(0x5eed_1e55);
    committed(&store, Transaction::new().put("a", "1")).await;
    let refused = store.commit(Transaction::new().if_absent("a").put_leased("a", "2", never)).await;
    assert_eq!(refused.unwrap(), Outcome::Conflict { key: b"a".to_vec() });
}

pub(crate) async fn a_key_that_is_written_without_a_lease_stays(store: Store) {
    let lease = store.grant(LATE).await.unwrap();
    committed(&store, Transaction::new().put_leased("a", "1", lease).put_leased("b", "1", lease)).await;
    committed(&store, Transaction::new().put("a", "2")).await;
    assert_eq!(store.get("a").await.unwrap().unwrap().lease, None);
    let mut watch = watch_from_now(&store).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(deleted(&mut watch).await, ["b"]);
    assert_eq!(value(&store, "a").await, b"2");
}

pub(crate) async fn a_key_that_is_written_under_another_lease_goes_with_that_one(store: Store) {
    let (first, second) = (store.grant(LATE).await.unwrap(), store.grant(LATE).await.unwrap());
    committed(&store, Transaction::new().put_leased("a", "1", first).put("b", "1")).await;
    let row =
        committed(&store, Transaction::new().put_leased("a", "2", second).put_leased("b", "2", second)).await;
    let mut watch = watch_from_now(&store).await;
    store.revoke(first).await.unwrap();
    let found = store.get("a").await.unwrap().unwrap();
    assert_eq!((found.mod_revision, found.lease), (row, Some(second)));
    store.revoke(second).await.unwrap();
    assert_eq!(deleted(&mut watch).await, ["a", "b"]);
}

pub(crate) async fn a_key_that_was_deleted_does_not_go_again(store: Store) {
    let lease = store.grant(LATE).await.unwrap();
    committed(&store, Transaction::new().put_leased("a", "1", lease).put_leased("b", "1", lease)).await;
    committed(&store, Transaction::new().delete("a").delete("b")).await;
    committed(&store, Transaction::new().put("a", "2")).await;
    let mut watch = watch_from_now(&store).await;
    store.revoke(lease).await.unwrap();
    committed(&store, Transaction::new().put("after", "")).await;
    assert_eq!(keys(&changes(&mut watch).await), ["after"]);
    assert_eq!(value(&store, "a").await, b"2");
}

pub(crate) async fn what_is_written_while_a_lease_ends_goes_or_is_refused(store: Store) {
    let lease = store.grant(LATE).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|number| {
            let (store, key) = (store.clone(), format!("k/{number}"));
            tokio::spawn(async move { store.commit(Transaction::new().put_leased(key, "", lease)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.revoke(lease).await.unwrap();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(Outcome::Committed { .. }) | Err(StoreError::LeaseEnded(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.range("k/").await.unwrap().rows, []);
}

pub(crate) async fn every_lease_has_a_number_of_its_own(store: Store) {
    let mut numbers = HashSet::new();
    for _ in 0..32 {
        let lease = store.grant(LATE).await.unwrap();
        assert!(lease.number() > 0);
        assert_eq!(LeaseId::of(lease.number()), lease);
        assert!(numbers.insert(lease.number()));
    }
}
