//! One of three members is lost, and nothing else is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::{Availability, Change, Outcome, Store, StoreError, Transaction, Watched};
use testkit::Etcd;

use super::{settings, soon, store};
use crate::conformance::{committed, value};

const WRITERS: u64 = 4;

/// What a writer did until it was told to stop.
#[derive(Default)]
struct Written {
    /// The last number that was acknowledged; those up to it were written one after the other.
    acknowledged: u64,
    revisions: Vec<u64>,
    /// The longest time without an acknowledgement.
    gap: Duration,
    undecided: u64,
}

/// Writes 1, 2, 3 … to a key of its own, each on top of the one before. What is undecided is read again.
async fn write(store: Store, key: String, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Written {
    let (mut written, mut revision, mut last) = (Written::default(), None, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let next = written.acknowledged + 1;
        let transaction = match revision {
            None => Transaction::new().if_absent(key.clone()),
            Some(revision) => Transaction::new().if_revision(key.clone(), revision),
        };
        let now = match store.commit(transaction.put(key.clone(), next.to_be_bytes())).await {
            Ok(Outcome::Committed { revision }) => Some(revision),
            Ok(Outcome::Conflict { .. }) => panic!("nobody else writes to {key}"),
            Err(StoreError::Unreachable(_)) => None,
            Err(StoreError::Undecided(_)) => {
                written.undecided += 1;
                decided(&store, &key, next).await
            }
            Err(other) => panic!("{other}"),
        };
        let Some(now) = now else { continue };
        written.gap = written.gap.max(last.elapsed());
        (written.acknowledged, revision, last) = (next, Some(now), Instant::now());
        written.revisions.push(now);
        count.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Whether an undecided write is there; a later one cannot be, since it would fail its comparison.
async fn decided(store: &Store, key: &str, number: u64) -> Option<u64> {
    loop {
        match store.get(key).await {
            Ok(row) => {
                let row = row.filter(|row| row.value == number.to_be_bytes());
                return row.map(|row| row.mod_revision);
            }
            Err(StoreError::Unreachable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// All changes up to one of the key `end`: by revision, the key and its number; and how often it was away.
async fn follow(store: Store, after: u64) -> (BTreeMap<u64, (String, u64)>, u64) {
    let (mut watch, mut seen, mut resumed) = (store.watch("w/", after), BTreeMap::new(), 0);
    loop {
        let changes = match watch.next().await.unwrap() {
            Watched::Resumed => {
                resumed += 1;
                continue;
            }
            Watched::Changes(changes) => changes,
        };
        let [Change::Put(row)] = changes.changes.as_slice() else { panic!("{changes:?}") };
        let key = String::from_utf8(row.key.clone()).unwrap();
        if key == "w/end" {
            return (seen, resumed);
        }
        assert_eq!(row.mod_revision, changes.revision);
        let number = u64::from_be_bytes(row.value.clone().try_into().unwrap());
        assert!(seen.last_key_value().is_none_or(|(last, _)| *last < changes.revision), "in order");
        seen.insert(changes.revision, (key, number));
    }
}

/// Does something with etcd that takes time, while everything else goes on.
async fn beside<T: Send + 'static>(
    mut etcd: Etcd,
    work: impl FnOnce(&mut Etcd) -> T + Send + 'static,
) -> (Etcd, T) {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut etcd);
        (etcd, done)
    });
    done.await.unwrap()
}

async fn reached(count: &AtomicU64, wanted: u64) {
    soon(async {
        while count.load(Ordering::Relaxed) < wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_leader_is_killed_under_load_and_nothing_that_was_acknowledged_is_lost_or_told_twice() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let store = store(&etcd);
    let start = store.range("").await.unwrap().revision;
    let followers: Vec<_> = (0..2).map(|_| tokio::spawn(follow(store.clone(), start))).collect();
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(write(store.clone(), format!("w/{writer}"), Arc::clone(&count), Arc::clone(&stop)))
        })
        .collect();
    reached(&count, 100).await;
    for _ in 0..2 {
        let leader;
        (etcd, leader) = beside(etcd, |etcd| {
            let leader = etcd.leader();
            etcd.kill(leader);
            leader
        })
        .await;
        let before = count.load(Ordering::Relaxed);
        reached(&count, before + 100).await;
        (etcd, ()) = beside(etcd, move |etcd| etcd.restart(leader)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut told, mut values) = (BTreeMap::new(), BTreeMap::new());
    for (writer, written) in writers.into_iter().enumerate() {
        let written = soon(written).await.unwrap();
        println!(
            "writer {writer}: {} writes, {} of them undecided at first, {:?} at most without one",
            written.acknowledged, written.undecided, written.gap
        );
        assert!(written.gap < Duration::from_secs(15), "{:?}", written.gap);
        let key = format!("w/{writer}");
        for (number, revision) in (1..).zip(&written.revisions) {
            told.insert(*revision, (key.clone(), number));
        }
        values.insert(key, written.acknowledged);
    }
    for (key, number) in values {
        assert_eq!(value(&store, &key).await, number.to_be_bytes(), "{key}");
    }
    committed(&store, Transaction::new().put("w/end", "")).await;
    for follower in followers {
        let (seen, resumed) = soon(follower).await.unwrap();
        assert_eq!(seen, told);
        println!("a watch was begun again {resumed} times");
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_answered_and_watches_wait() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let store = store(&etcd);
    let first = committed(&store, Transaction::new().put("a", "1")).await;
    let mut watch = store.watch("a", first);
    let second = committed(&store, Transaction::new().put("a", "2")).await;
    assert!(
        matches!(soon(watch.next()).await.unwrap(), Watched::Changes(changes) if changes.revision == second)
    );
    etcd.kill(1);
    etcd.kill(2);
    let mut availability = store.availability();
    soon(async {
        tokio::select! {
            away = availability.wait_for(|now| *now != Availability::Available) => drop(away.unwrap()),
            watched = watch.next() => panic!("{watched:?}"),
        }
    })
    .await;
    let read = store.get("a").await.unwrap_err();
    assert!(matches!(read, StoreError::Unreachable(_)), "{read}");
    etcd.launch(1);
    etcd.restart(2);
    assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
    soon(availability.wait_for(|now| *now == Availability::Available)).await.unwrap();
    let third = committed(&store, Transaction::new().put("a", "3")).await;
    loop {
        match soon(watch.next()).await.unwrap() {
            Watched::Resumed => {}
            Watched::Changes(changes) => {
                assert_eq!(changes.revision, third);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_member_that_stands_still_is_left_for_another() {
    let Some(etcd) = Etcd::start(3) else { return };
    let store = store(&etcd);
    let first = committed(&store, Transaction::new().put("a", "1")).await;
    let mut watch = store.watch("a", first);
    let second = committed(&store, Transaction::new().put("a", "2")).await;
    assert!(
        matches!(soon(watch.next()).await.unwrap(), Watched::Changes(changes) if changes.revision == second)
    );
    // The first one is that which answers.
    etcd.pause(0);
    assert!(soon(store.get("a")).await.unwrap().is_some());
    let third = committed(&store, Transaction::new().put("a", "3")).await;
    assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
    assert!(
        matches!(soon(watch.next()).await.unwrap(), Watched::Changes(changes) if changes.revision == third)
    );
    etcd.resume(0);
}

#[tokio::test]
async fn a_leader_that_is_parted_from_the_others_tells_nothing_and_is_left_for_another() {
    let Some(etcd) = Etcd::start(3) else { return };
    let (leader, all) = (etcd.leader(), store(&etcd));
    let mut alone = settings(&etcd, "/test/");
    alone.end_points = vec![alone.end_points.swap_remove(leader)];
    let alone = Store::etcd(alone).unwrap();
    committed(&all, Transaction::new().put("a", "1")).await;
    assert_eq!(value(&alone, "a").await, b"1");
    etcd.isolate(leader);
    let (told, others) = soon(async { tokio::join!(alone.get("a"), until_answered(&all)) }).await;
    assert!(matches!(told, Err(StoreError::Unreachable(_))), "{told:?}");
    assert_eq!(others, b"1");
    committed(&all, Transaction::new().put("a", "2")).await;
    etcd.reunite();
    assert_eq!(soon(until_answered(&alone)).await, b"2");
}

/// What the key `a` holds, once somebody says.
async fn until_answered(store: &Store) -> Vec<u8> {
    loop {
        match store.get("a").await {
            Ok(row) => return row.unwrap().value,
            Err(StoreError::Unreachable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
