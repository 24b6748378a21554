use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::task::Poll;

use store::{Change, Changes, KeyValue, Store, Transaction, Watch};

use super::{changes, changes_to, committed, keys, replay};

/// A watch of everything from now on.
async fn watch_from_now(store: &Store, prefix: &str) -> Watch {
    store.watch(prefix, store.range(prefix).await.unwrap().revision)
}

pub(crate) async fn a_watch_gives_each_transaction_whole_and_once(store: Store) {
    let mut watch = watch_from_now(&store, "k/").await;
    let first = committed(&store, Transaction::new().put("k/a", "1").put("k/b", "1").put("k/c", "1")).await;
    let second = committed(&store, Transaction::new().put("k/a", "2").delete("k/b")).await;
    let seen = changes_to(&mut watch, second).await;
    assert_eq!(seen.iter().map(|seen| seen.revision).collect::<Vec<_>>(), [first, second]);
    assert_eq!(keys(&seen[0]), ["k/a", "k/b", "k/c"]);
    assert_eq!(keys(&seen[1]), ["k/a", "k/b"]);
    assert!(seen[1].changes.contains(&Change::Deleted(b"k/b".to_vec())));
}

pub(crate) async fn a_watch_gives_only_its_prefix(store: Store) {
    let mut watch = watch_from_now(&store, "k/").await;
    let mut of_all = watch_from_now(&store, "").await;
    let mixed =
        committed(&store, Transaction::new().put("k/a", "1").put("k", "1").put("k0", "1").put("j", "1"))
            .await;
    let elsewhere = committed(&store, Transaction::new().put("j", "2").delete("k0")).await;
    let last = committed(&store, Transaction::new().put("k/b", "1")).await;
    let seen = changes_to(&mut watch, last).await;
    assert_eq!(seen.iter().map(keys).collect::<Vec<_>>(), [["k/a"], ["k/b"]]);
    let seen = changes_to(&mut of_all, last).await;
    let revisions: Vec<_> = seen.iter().map(|seen| seen.revision).collect();
    assert_eq!(revisions, [mixed, elsewhere, last]);
}

pub(crate) async fn a_change_carries_all_that_a_read_would(store: Store) {
    committed(&store, Transaction::new().put("k", "1")).await;
    let mut watch = watch_from_now(&store, "k").await;
    let revision = committed(&store, Transaction::new().put("k", "2")).await;
    let row = store.get("k").await.unwrap().unwrap();
    let expected = Changes { revision, changes: vec![Change::Put(row)] };
    assert_eq!(changes(&mut watch).await, expected);
}

pub(crate) async fn a_deletion_is_shown_where_there_was_something(store: Store) {
    committed(&store, Transaction::new().put("k/a", "1")).await;
    let mut watch = watch_from_now(&store, "k/").await;
    committed(&store, Transaction::new().delete("k/gone")).await;
    let both = committed(&store, Transaction::new().delete("k/a").delete("k/gone")).await;
    let expected = Changes { revision: both, changes: vec![Change::Deleted(b"k/a".to_vec())] };
    assert_eq!(changes(&mut watch).await, expected);
    committed(&store, Transaction::new().delete("k/a")).await;
    committed(&store, Transaction::new().put("k/z", "1")).await;
    assert_eq!(keys(&changes(&mut watch).await), ["k/z"]);
}

pub(crate) async fn a_watch_resumes_at_any_revision_without_gap_or_repeat(store: Store) {
    let start = store.range("").await.unwrap().revision;
    let mut revisions = Vec::new();
    for step in 0..12u8 {
        revisions.push(committed(&store, Transaction::new().put([b'k', step % 3], [step])).await);
    }
    let last = *revisions.last().unwrap();
    let all = changes_to(&mut store.watch("k", start), last).await;
    assert_eq!(all.iter().map(|all| all.revision).collect::<Vec<_>>(), revisions);
    for seen in 0..all.len() - 1 {
        let rest = changes_to(&mut store.watch("k", revisions[seen]), last).await;
        assert_eq!(rest, all[seen + 1..]);
    }
}

pub(crate) async fn a_watch_after_a_revision_to_come_waits_for_it(store: Store) {
    let now = store.range("").await.unwrap().revision;
    let mut watch = store.watch("k", now + 2);
    let mut expected = Vec::new();
    for step in 0..5u8 {
        let revision = committed(&store, Transaction::new().put("k", [step])).await;
        expected.extend((revision > now + 2).then_some(revision));
    }
    let seen = changes_to(&mut watch, *expected.last().unwrap()).await;
    assert_eq!(seen.iter().map(|seen| seen.revision).collect::<Vec<_>>(), expected);
}

/// Asks once, and gives up if there is nothing yet.
async fn at_once(watch: &mut Watch) -> Option<store::Watched> {
    let mut next = Box::pin(watch.next());
    poll_fn(|context| {
        Poll::Ready(match next.as_mut().poll(context) {
            Poll::Ready(watched) => Some(watched.unwrap()),
            Poll::Pending => None,
        })
    })
    .await
}

pub(crate) async fn a_watch_that_is_asked_in_vain_loses_nothing(store: Store) {
    let mut watch = watch_from_now(&store, "k").await;
    let mut written = Vec::new();
    let mut seen = Vec::new();
    for step in 0..20u8 {
        written.push(committed(&store, Transaction::new().put("k", [step])).await);
        for _ in 0..step {
            if let Some(store::Watched::Changes(changes)) = at_once(&mut watch).await {
                seen.push(changes.revision);
            }
            tokio::task::yield_now().await;
        }
    }
    if seen.last() != written.last() {
        let rest = changes_to(&mut watch, *written.last().unwrap()).await;
        seen.extend(rest.iter().map(|rest| rest.revision));
    }
    assert_eq!(seen, written);
}

/// Writes and deletes among four keys of its own and one that is everybody's; gives what it was told.
async fn write_some(store: Store, writer: u8) -> Vec<(u64, Vec<String>)> {
    let mut told = Vec::new();
    let mut present = [false; 4];
    for step in 0..25u8 {
        let at = usize::from(step * 7 % 4);
        let own = format!("k/{writer}/{at}");
        let shared = "k/shared".to_owned();
        let transaction = Transaction::new().put(shared.clone(), [writer, step]);
        let transaction = match present[at] {
            true => transaction.delete(own.clone()),
            false => transaction.put(own.clone(), [step]),
        };
        present[at] = !present[at];
        told.push((committed(&store, transaction).await, vec![own, shared]));
    }
    told
}

pub(crate) async fn every_watch_sees_what_concurrent_writers_did_in_one_order(store: Store) {
    let watches: Vec<_> = {
        let start = store.range("k/").await.unwrap().revision;
        (0..3).map(|_| store.watch("k/", start)).collect()
    };
    let writers: Vec<_> = (0..8).map(|writer| tokio::spawn(write_some(store.clone(), writer))).collect();
    let mut told = BTreeMap::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    let rows = store.range("k/").await.unwrap().rows;
    for mut watch in watches {
        let seen = changes_to(&mut watch, *told.keys().last().unwrap()).await;
        let found: BTreeMap<_, _> = seen.iter().map(|seen| (seen.revision, keys(seen))).collect();
        assert_eq!(found, told);
        let mut replayed = BTreeMap::new();
        replay(&mut replayed, &seen);
        assert_eq!(replayed.into_values().collect::<Vec<_>>(), rows);
    }
}

/// A range, and all changes after it.
async fn follow(store: Store) -> (Vec<KeyValue>, u64) {
    let range = store.range("k/").await.unwrap();
    let mut watch = store.watch("k/", range.revision);
    let mut rows: BTreeMap<_, _> = range.rows.into_iter().map(|row| (row.key.clone(), row)).collect();
    while !rows.contains_key(&b"k/end"[..]) {
        replay(&mut rows, &[changes(&mut watch).await]);
    }
    let end = rows[&b"k/end"[..]].mod_revision;
    (rows.into_values().collect(), end)
}

pub(crate) async fn a_watch_that_begins_among_writers_misses_nothing(store: Store) {
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(write_some(store.clone(), writer))).collect();
    let mut followers = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) && followers.len() < 16 {
        store.get("k/shared").await.unwrap();
        followers.push(tokio::spawn(follow(store.clone())));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let end = committed(&store, Transaction::new().put("k/end", "")).await;
    let rows = store.range("k/").await.unwrap().rows;
    for follower in followers {
        assert_eq!(follower.await.unwrap(), (rows.clone(), end));
    }
}
