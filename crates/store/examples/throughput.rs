//! What the store in a file does on this machine: durable writes a second with many writers at once, how long a watch takes to
//! catch up, and reads a second.
//!
//! `cargo run --release -p store --example throughput [FOLDER]`; the folder, by default the current one, is that of the disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use store::{KEPT_REVISIONS, Outcome, Store, StoreError, Transaction, Watched};

/// How long each number of writers and readers is measured.
const MEASURED: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 100;
const WATCHES: u32 = 100;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let place = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let folder = tempfile::tempdir_in(place)?;
    let store = Store::open(&folder.path().join("store.redb"))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(store))
}

async fn measure(store: Store) -> Result<(), Failure> {
    for writers in [1, 16, 64, 256] {
        let written = during(&store, writers, write).await?;
        println!("{writers:>3} writers: {written:>9.0} durable writes/s");
    }
    let watches: Vec<_> = (0..WATCHES).map(|_| tokio::spawn(wait_for_others(store.clone()))).collect();
    let written = during(&store, 256, write).await?;
    println!("256 writers: {written:>9.0} durable writes/s beside {WATCHES} watches of other keys");
    watches.iter().for_each(tokio::task::JoinHandle::abort);
    let (changes, took) = catch_up(&store).await?;
    println!("a watch {changes} revisions behind: {:.3} s", took.as_secs_f64());
    for readers in [1, 64] {
        let read = during(&store, readers, read).await?;
        println!("{readers:>3} readers: {read:>9.0} reads/s");
    }
    Ok(())
}

/// How often so many at once do something, a second.
async fn during<F>(store: &Store, at_once: u32, step: fn(Store, u32) -> F) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..at_once)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while begun.elapsed() < MEASURED {
                    step(store.clone(), number).await?;
                    count += 1;
                }
                Ok::<u32, StoreError>(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

async fn write(store: Store, number: u32) -> Result<(), StoreError> {
    let outcome = store.commit(Transaction::new().put(format!("k/{number}"), [7; VALUE_BYTES])).await?;
    assert!(matches!(outcome, Outcome::Committed { .. }));
    Ok(())
}

/// A watch that nothing of what is written here concerns.
async fn wait_for_others(store: Store) -> Result<(), StoreError> {
    let mut watch = store.watch("elsewhere/", store.range("elsewhere/").await?.revision);
    watch.next().await.map(drop)
}

async fn read(store: Store, number: u32) -> Result<(), StoreError> {
    store.get(format!("k/{number}")).await?;
    Ok(())
}

/// From as far back as a watch can go to now.
async fn catch_up(store: &Store) -> Result<(u64, Duration), StoreError> {
    let now = store.range("k/").await?.revision;
    let mut watch = store.watch("k/", now.saturating_sub(KEPT_REVISIONS));
    let (begun, mut changes) = (Instant::now(), 0);
    loop {
        if let Watched::Changes(seen) = watch.next().await? {
            changes += 1;
            if seen.revision == now {
                return Ok((changes, begun.elapsed()));
            }
        }
    }
}
