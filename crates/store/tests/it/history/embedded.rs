//! Histories of the store in a file. Every third is interrupted: its clients are dropped in the middle of what they ask, the store
//! with them, and others go on with the one that is opened then.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use store::Store;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clients::{LIMIT, Log, Tally, client, end, follow, give_way, must_be_linearizable};
use super::count;

const HISTORIES: usize = 900;
/// Histories after which a store is given up for an empty one.
const OF_ONE_STORE: usize = 40;
const CLIENTS: usize = 5;
/// What each client asks.
const STEPS: usize = 10;
/// A client lets the others go first up to so many times before it asks.
const PATIENCE: u32 = 60;
const LANES: usize = 2;
/// What a process is told does not depend on the disk, and a file system in memory is a quick one.
const IN_MEMORY: &str = "/dev/shm";

fn clients(log: &Arc<Log>, store: &Store, rng: &mut Rng) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let think = |random: u32| give_way(random % PATIENCE);
        clients.spawn(client(log.clone(), number, store.clone(), rng.fork(), STEPS, think));
    }
    clients
}

/// One history.
async fn history(path: &Path, store: &mut Option<Store>, number: usize) -> super::History {
    let mut rng = Rng::with_seed(u64::try_from(number).unwrap());
    let mut now = store.take().unwrap_or_else(|| Store::open(path).unwrap());
    let log = Log::begin(format!("{number}/"), &now).await;
    if number.is_multiple_of(3) {
        let mut begun = clients(&log, &now, &mut rng);
        begun.spawn(follow(log.clone(), now.clone()));
        let enough = rng.usize(1..CLIENTS * STEPS);
        while log.asked() < enough {
            give_way(1).await;
        }
        begun.shutdown().await;
        drop(now);
        now = Store::open(path).unwrap();
    }
    let watching = tokio::spawn(follow(log.clone(), now.clone()));
    let mut clients = clients(&log, &now, &mut rng);
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    end(&log, &now).await;
    watching.await.unwrap();
    *store = Some(now);
    log.history()
}

/// Every so many-th history, one after the other.
fn lane(first: usize, histories: usize) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut tally = Tally::default();
    let mut numbers = (first..histories).step_by(LANES).peekable();
    while numbers.peek().is_some() {
        let folder = tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir()).unwrap();
        let (path, mut store) = (folder.path().join("store.redb"), None);
        runtime.block_on(async {
            for number in numbers.by_ref().take(OF_ONE_STORE) {
                let made = timeout(LIMIT, history(&path, &mut store, number)).await;
                let made = made.expect("a history ends within the limit");
                must_be_linearizable(&made);
                tally.add(&made);
            }
            drop(store);
        });
    }
    tally
}

#[test]
fn what_clients_of_the_store_in_a_file_are_told_is_linearizable() {
    let (histories, began) = (count(HISTORIES), std::time::Instant::now());
    let lanes: Vec<_> = (0..LANES).map(|first| std::thread::spawn(move || lane(first, histories))).collect();
    let mut tally = Tally::default();
    for lane in lanes {
        tally.add_all(&lane.join().unwrap());
    }
    println!("{tally:?} in {:?}", began.elapsed());
    assert_eq!(tally.histories, histories);
    assert!(
        tally.conflicts > histories && tally.open > histories / 4,
        "too little happened at once: {tally:?}"
    );
    assert!(tally.open_and_done > 0, "no write was done for a client that did not wait for it");
}
