//! Watches whose stream is lost, and what they tell afterwards.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use store::{Changes, Store, StoreError, Transaction, Watch, Watched};
use testkit::Etcd;

use super::{soon, store};
use crate::conformance::{changes_to, committed, keys};

/// A watch that has told of something, so that it has a stream.
async fn running(store: &Store) -> Watch {
    let now = store.range("").await.unwrap().revision;
    let mut watch = store.watch("k", now);
    let written = committed(store, Transaction::new().put("k", "")).await;
    soon(changes_to(&mut watch, written)).await;
    watch
}

/// Writes past the connections that are tested.
fn write_past(etcd: &Etcd, keys: &[&str]) -> u64 {
    let put = |key: &&str| json!({"request_put": {"key": STANDARD.encode(format!("/test/{key}")), "value": "eA=="}});
    let transaction = json!({"success": keys.iter().map(put).collect::<Vec<_>>()});
    let answer = etcd.ask(0, "/v3/kv/txn", &transaction);
    answer["header"]["revision"].as_str().unwrap().parse().unwrap()
}

async fn next_changes(watch: &mut Watch) -> Changes {
    match soon(watch.next()).await.unwrap() {
        Watched::Changes(changes) => changes,
        Watched::Resumed => panic!("it was not away again"),
    }
}

#[tokio::test]
async fn a_watch_that_was_cut_says_so_once_and_goes_on_where_it_was() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    let mut watch = running(&store).await;
    for _ in 0..3 {
        etcd.cut(0);
        let first = write_past(&etcd, &["k/a", "other", "k/b"]);
        write_past(&etcd, &["other"]);
        let second = write_past(&etcd, &["k/a"]);
        etcd.heal(0);
        assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
        let changes = next_changes(&mut watch).await;
        assert_eq!((changes.revision, keys(&changes)), (first, vec!["k/a".to_owned(), "k/b".to_owned()]));
        let changes = next_changes(&mut watch).await;
        assert_eq!((changes.revision, keys(&changes)), (second, vec!["k/a".to_owned()]));
    }
}

#[tokio::test]
async fn a_watch_that_begins_while_etcd_is_away_waits_for_it() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    etcd.cut(0);
    let store = store(&etcd);
    let mut watch = store.watch("k", 0);
    let written = write_past(&etcd, &["k"]);
    let waiting = tokio::spawn(async move { (watch.next().await, watch.next().await) });
    let mut availability = store.availability();
    soon(availability.wait_for(|now| *now != store::Availability::Available)).await.unwrap();
    etcd.heal(0);
    let (resumed, changes) = soon(waiting).await.unwrap();
    assert_eq!(resumed.unwrap(), Watched::Resumed);
    assert!(matches!(changes.unwrap(), Watched::Changes(changes) if changes.revision == written));
}

#[tokio::test]
async fn what_is_compacted_is_not_passed_over() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    let mut watch = running(&store).await;
    let start = store.range("").await.unwrap().revision;
    etcd.cut(0);
    write_past(&etcd, &["k/a"]);
    let last = write_past(&etcd, &["k/a"]);
    etcd.compact(last);
    etcd.heal(0);
    loop {
        match soon(watch.next()).await {
            Ok(Watched::Resumed) => {}
            Ok(Watched::Changes(changes)) => panic!("{changes:?}"),
            Err(StoreError::Compacted { oldest }) => {
                assert_eq!(oldest, last);
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let compacted = soon(store.watch("k", start).next()).await.unwrap_err();
    assert!(matches!(compacted, StoreError::Compacted { oldest } if oldest == last), "{compacted}");
    let mut after = store.watch("k", last - 1);
    assert_eq!(next_changes(&mut after).await.revision, last);
}

#[tokio::test]
async fn a_stream_that_nothing_comes_through_any_more_is_left_for_another() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let store = store(&etcd);
    let mut watch = running(&store).await;
    // Connections stay, and the kernel at the other end confirms all that is sent to it.
    etcd.stall(0);
    let written = write_past(&etcd, &["k/a"]);
    assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
    assert_eq!(next_changes(&mut watch).await.revision, written);
}

#[tokio::test]
async fn a_watch_catches_up_with_many_revisions_each_of_them_whole() {
    const REVISIONS: u64 = 1_500;
    let Some(etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    let start = store.range("").await.unwrap().revision;
    let mut last = 0;
    for revision in 0..REVISIONS {
        let keys = (0..revision % 7 + 1).map(|key| format!("k/{key}"));
        last = committed(&store, keys.fold(Transaction::new(), |all, key| all.put(key, "x"))).await;
    }
    let seen = soon(changes_to(&mut store.watch("k/", start), last)).await;
    let found: Vec<_> = seen.iter().map(|changes| changes.changes.len() as u64).collect();
    assert_eq!(found, (0..REVISIONS).map(|revision| revision % 7 + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_after_a_revision_to_come_waits_though_it_is_silent_for_long() {
    let Some(etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    let now = store.range("").await.unwrap().revision;
    let mut watch = store.watch("k", now + 1);
    let waiting = tokio::spawn(async move { watch.next().await });
    // It is looked after the stream, and after etcd, every five seconds: the fourth request is a look at the stream.
    let before = etcd.passed(0);
    soon(async {
        while etcd.passed(0) < before + 4 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    committed(&store, Transaction::new().put("k", "1")).await;
    let second = committed(&store, Transaction::new().put("k", "2")).await;
    let watched = soon(waiting).await.unwrap().unwrap();
    assert!(matches!(&watched, Watched::Changes(changes) if changes.revision == second), "{watched:?}");
}
