//! Against real etcd.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use tempfile::TempDir;
use testkit::Etcd as Cluster;

use super::*;
use crate::{Change, EndPoint, Transaction, Watched};

/// Everything that a test waits for comes within this.
const LIMIT: Duration = Duration::from_secs(60);

fn settings(addresses: &[std::net::SocketAddr], namespace: &str) -> EtcdSettings {
    let end_point =
        |address: &std::net::SocketAddr| EndPoint::new(address.ip().to_string(), address.port()).unwrap();
    EtcdSettings {
        end_points: addresses.iter().map(end_point).collect(),
        namespace: namespace.as_bytes().to_vec(),
        tls: None,
        login: None,
        random: fastrand::Rng::with_seed(7),
    }
}

/// A store with its mirror, and up to where that is whole.
struct Opened {
    store: Store,
    written: watch::Receiver<u64>,
}

async fn open(etcd: &Cluster, path: &Path) -> Result<Opened, StoreError> {
    open_in(etcd, path, "/test/").await
}

async fn open_in(etcd: &Cluster, path: &Path, namespace: &str) -> Result<Opened, StoreError> {
    let mirrored = Mirrored::open(settings(&etcd.addresses(), namespace), path).await?;
    let written = mirrored.follower.written();
    Ok(Opened { store: Store::of(mirrored), written })
}

impl Opened {
    async fn commit(&self, transaction: Transaction) -> u64 {
        match self.store.commit(transaction).await.unwrap() {
            Outcome::Committed { revision } => revision,
            Outcome::Conflict { .. } => panic!("a comparison does not hold"),
        }
    }

    async fn until_mirrored(&mut self, revision: u64) {
        soon(self.written.wait_for(|written| *written >= revision)).await.unwrap();
    }

    fn stale(&self) -> Option<std::time::SystemTime> {
        match &*self.store.availability().borrow() {
            Availability::Available => None,
            Availability::Away { stale, .. } => *stale,
        }
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it comes within the limit")
}

fn put(key: &str, value: &str) -> Transaction {
    Transaction::new().put(key, value)
}

fn folder() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mirror.redb");
    (folder, path)
}

/// A mirror with two rows, whose etcd is gone.
async fn left(etcd: &mut Cluster, path: &Path) -> Range {
    let mut first = open(etcd, path).await.unwrap();
    first.commit(put("a", "1").put("gone", "1")).await;
    let lease = first.store.grant(Duration::from_secs(3600)).await.unwrap();
    first.commit(Transaction::new().put_leased("b", "1", lease)).await;
    let revision = first.commit(put("a", "2").delete("gone")).await;
    first.until_mirrored(revision).await;
    let range = first.store.range("").await.unwrap();
    drop(first);
    etcd.kill(0);
    range
}

#[tokio::test]
async fn a_start_without_etcd_reads_what_was_so_last_with_revisions_and_leases_and_changes_nothing() {
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (_folder, path) = folder();
    let range = left(&mut etcd, &path).await;
    assert_eq!(range.rows.iter().map(|row| row.key.as_slice()).collect::<Vec<_>>(), [b"a", b"b"]);
    assert!(range.rows[1].lease.is_some());

    let again = open(&etcd, &path).await.unwrap();
    assert_eq!(again.store.range("").await.unwrap(), range);
    assert_eq!(again.store.get("a").await.unwrap().as_ref(), range.rows.first());
    assert_eq!(again.store.get("gone").await.unwrap(), None);
    assert!(again.stale().is_some());
    let address = etcd.addresses()[0].to_string();
    let lease = range.rows[1].lease.unwrap();
    for refused in [
        again.store.commit(put("a", "3")).await.map(drop),
        again.store.grant(Duration::from_secs(9)).await.map(drop),
        again.store.keep_alive(lease).await,
        again.store.revoke(lease).await,
    ] {
        let Err(StoreError::Unreachable(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(&address), "{reason}");
    }
}

#[tokio::test]
async fn once_etcd_is_back_watches_go_on_after_what_was_read_and_reads_and_changes_go_to_it() {
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (_folder, path) = folder();
    let range = left(&mut etcd, &path).await;
    let mut again = open(&etcd, &path).await.unwrap();
    let mut watch = again.store.watch("", range.revision);
    etcd.restart(0);
    // What others changed while this one had only its mirror.
    let other = Store::etcd(settings(&etcd.addresses(), "/test/")).unwrap();
    soon(async { while other.commit(put("c", "1")).await.is_err() {} }).await;
    let mut availability = again.store.availability();
    soon(availability.wait_for(|now| *now == Availability::Available)).await.unwrap();
    let next = again.commit(put("c", "2")).await;
    assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
    let mut told = Vec::new();
    while told.last().is_none_or(|(revision, _)| *revision < next) {
        let Watched::Changes(changes) = soon(watch.next()).await.unwrap() else { continue };
        for change in changes.changes {
            let Change::Put(row) = change else { panic!("nothing was deleted: {change:?}") };
            told.push((changes.revision, row.value));
        }
    }
    assert_eq!(told, [(range.revision + 1, b"1".to_vec()), (next, b"2".to_vec())], "no gap and no repeat");
    assert_eq!(again.store.get("c").await.unwrap().unwrap().value, b"2");
    again.until_mirrored(next).await;

    // It does not fall back to its mirror.
    etcd.kill(0);
    let read = again.store.get("c").await.unwrap_err();
    assert!(matches!(read, StoreError::Unreachable(_)), "{read}");
    soon(availability.wait_for(|now| *now != Availability::Available)).await.unwrap();
    assert_eq!(again.stale(), None);
    drop(again);
    let third = open(&etcd, &path).await.unwrap();
    assert_eq!(third.store.get("c").await.unwrap().unwrap().value, b"2");
}

#[tokio::test]
async fn a_watch_whose_history_was_compacted_while_etcd_was_away_says_so() {
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (_folder, path) = folder();
    let range = left(&mut etcd, &path).await;
    let again = open(&etcd, &path).await.unwrap();
    let mut watch = again.store.watch("", range.revision);
    etcd.launch(0);
    etcd.cut(0);
    etcd.wait_until_ready(0);
    let code = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for value in ["1", "2"] {
        etcd.ask(0, "/v3/kv/put", &serde_json::json!({"key": code("/test/c"), "value": code(value)}));
    }
    etcd.compact(range.revision + 2);
    etcd.heal(0);
    assert_eq!(soon(watch.next()).await.unwrap(), Watched::Resumed);
    let ended = soon(watch.next()).await.unwrap_err();
    assert!(matches!(ended, StoreError::Compacted { oldest } if oldest == range.revision + 2), "{ended}");
}

#[tokio::test]
async fn what_is_no_mirror_of_this_etcd_is_not_used_and_is_made_anew() {
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (folder, path) = folder();
    let range = left(&mut etcd, &path).await;
    let refused = async |path: &Path, namespace: &str| {
        let refused = open_in(&etcd, path, namespace).await.err().unwrap();
        let StoreError::Unreachable(reason) = refused else { panic!("{refused}") };
        reason
    };
    let reason = refused(&folder.path().join("none.redb"), "/test/").await;
    assert!(reason.contains("refused") && reason.ends_with("is no use: there is none"), "{reason}");
    let reason = refused(&path, "/other/").await;
    assert!(reason.ends_with("that of another trust domain"), "{reason}");
    let bytes = std::fs::read(&path).unwrap();
    for damaged in [Vec::new(), bytes[..bytes.len() / 2].to_vec(), vec![7; 5000]] {
        std::fs::write(&path, damaged).unwrap();
        let reason = refused(&path, "/test/").await;
        assert!(reason.contains("is no use"), "{reason}");
    }
    etcd.restart(0);
    let mut live = open(&etcd, &path).await.unwrap();
    live.until_mirrored(range.revision).await;
    drop(live);
    etcd.kill(0);
    assert_eq!(open(&etcd, &path).await.unwrap().store.range("").await.unwrap().rows, range.rows);
}

#[tokio::test]
async fn another_cluster_is_no_etcd_for_who_has_started_from_the_mirror() {
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (_folder, path) = folder();
    let range = left(&mut etcd, &path).await;
    let again = open(&etcd, &path).await.unwrap();
    etcd.begin_anew(0);
    let mut availability = again.store.availability();
    let is_other = |now: &Availability| matches!(now, Availability::Away { reason, .. } if reason.contains("is the cluster"));
    soon(availability.wait_for(is_other)).await.unwrap();
    assert_eq!(again.store.range("").await.unwrap(), range);
    let refused = again.store.commit(put("a", "9")).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unreachable(reason) if reason.contains("start serviceos again")),
        "{refused}"
    );
    drop(again);
    let mut fresh = open(&etcd, &path).await.unwrap();
    assert_eq!(fresh.store.get("a").await.unwrap(), None);
    fresh.until_mirrored(1).await;
}

/// Names to the process that is killed, which is this test again, where etcd is and where its mirror is to be.
const CHILD: &str = "STORE_MIRROR_CHILD";
const KILLS: u64 = 20;

fn begin(etcd: &Cluster, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mirrored::tests::a_mirror_that_is_killed_is_whole_up_to_some_revision"])
        .env(CHILD, format!("{} {}", etcd.addresses()[0], path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn follow_until_killed(told: &str) {
    let (address, path) = told.split_once(' ').unwrap();
    let settings = settings(&[address.parse().unwrap()], "/test/");
    let _store = Store::etcd_mirrored(settings, Path::new(path)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_mirror_that_is_killed_is_whole_up_to_some_revision() {
    if let Ok(told) = std::env::var(CHILD) {
        return follow_until_killed(&told).await;
    }
    let Some(mut etcd) = Cluster::start(1) else { return };
    let (_folder, path) = folder();
    let writer = Store::etcd(settings(&etcd.addresses(), "/test/")).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut step = 0_u64;
    for _kill in 0..KILLS {
        let mut child = begin(&etcd, &path);
        let until = tokio::time::Instant::now() + Duration::from_millis(random.u64(100..1500));
        while tokio::time::Instant::now() < until {
            step += 1;
            let value = step.to_string();
            let written =
                put("a", &value).put("z", value.as_str()).put(format!("n/{}", step % 50), value.as_str());
            writer.commit(written).await.unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    etcd.kill(0);
    let left = open(&etcd, &path).await.unwrap();
    let range = left.store.range("").await.unwrap();
    let value = |key: &str| {
        let row = range.rows.iter().find(|row| row.key == key.as_bytes()).unwrap();
        String::from_utf8(row.value.clone()).unwrap().parse::<u64>().unwrap()
    };
    let reached = value("a");
    assert_eq!(value("z"), reached, "never half a revision");
    for place in 0..50.min(reached) {
        let expected = (1..=reached).rev().find(|step| step % 50 == place);
        assert_eq!(expected.map(|_| value(&format!("n/{place}"))), expected, "n/{place} of {reached}");
    }
    // Revision 1 is that of an empty etcd, and each step took one.
    assert_eq!(range.revision, reached + 1);
}
