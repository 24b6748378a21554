//! A process that writes is killed at any moment. What it was told is written is there, nothing is there by half, and history,
//! rows and leases say the same.
//!
//! `STORE_CRASHES=1000` in the environment says how often, instead of [`CRASHES`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use store::{KeyValue, LeaseId, Outcome, Store, StoreError, Transaction};

use crate::conformance::{changes_to, committed, replay};

const CRASHES: u32 = 250;
/// Crashes after which a store is given up for an empty one, so that starts take no longer and longer.
const OF_ONE_STORE: u32 = 25;
/// One of so many kills may come before anything is written.
const EARLY: u32 = 8;
/// Kills come within this time, counted from the first write that was acknowledged, or from the start of the process.
const WITHIN: Duration = Duration::from_millis(25);
const WITHIN_EARLY: Duration = Duration::from_millis(40);
/// A killed process loses nothing that the kernel has, so that a file system in memory serves as well as a disk, and more
/// happens before a kill.
const IN_MEMORY: &str = "/dev/shm";
const WRITERS: usize = 8;
/// Names the store to the process that is killed, which is this test again.
const CHILD: &str = "STORE_CRASH_CHILD";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The number in a row, which fills some of it.
fn number(row: &KeyValue) -> u64 {
    u64::from_be_bytes(row.value[..8].try_into().unwrap())
}

fn value(number: u64) -> Vec<u8> {
    let filled = usize::try_from(number * 37 % 400).unwrap();
    [&number.to_be_bytes()[..], vec![7; filled].as_slice()].concat()
}

/// One writer: each step writes two keys, and one of a third under a lease, which it ends every now and then.
async fn write(store: Store, writer: usize, told: impl Fn(&str)) -> Result<(), StoreError> {
    let [a, z, leased] = [format!("a/{writer}"), format!("z/{writer}"), format!("leased/{writer}")];
    let mut step = store.get(a.clone()).await?.map_or(0, |row| number(&row));
    let mut lease = store.grant(Duration::from_secs(3600)).await?;
    loop {
        step += 1;
        let transaction = Transaction::new().put(a.clone(), value(step)).put(z.clone(), value(step));
        let transaction = match step % 4 {
            0 => transaction.delete(leased.clone()),
            _ => transaction.put_leased(leased.clone(), value(step), lease),
        };
        if let Outcome::Committed { revision } = store.commit(transaction).await? {
            told(&format!("wrote {writer} {step} {revision}"));
        }
        if step.is_multiple_of(7) {
            store.revoke(lease).await?;
            told(&format!("revoked {writer} {}", lease.number()));
            lease = store.grant(Duration::from_secs(3600)).await?;
        }
    }
}

/// The process that is killed.
fn write_until_killed(path: &Path) {
    let store = Store::open(path).unwrap();
    println!();
    let told = |line: &str| std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
    runtime().block_on(async {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, told))).collect();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
    });
}

/// What is known of a store that was killed.
struct Known {
    folder: tempfile::TempDir,
    revision: u64,
    rows: BTreeMap<Vec<u8>, KeyValue>,
}

/// What the killed process was told.
struct Told {
    wrote: Vec<(usize, u64, u64)>,
    revoked: Vec<LeaseId>,
}

impl Told {
    /// The last line may be cut off.
    fn read(text: &str) -> Self {
        let (mut wrote, mut revoked) = (Vec::new(), Vec::new());
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["wrote", writer, step, revision] => {
                    wrote.push((writer.parse().unwrap(), step.parse().unwrap(), revision.parse().unwrap()));
                }
                ["revoked", _, lease] => revoked.push(LeaseId::of(lease.parse().unwrap())),
                _ => {}
            }
        }
        Self { wrote, revoked }
    }
}

impl Known {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir()).unwrap();
        Self { folder, revision: 0, rows: BTreeMap::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }

    fn kill(&self, is_early: bool, delay: Duration) -> Told {
        let mut child = self.begin();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !is_early && !text.contains("\nwrote") {
            assert_ne!(said.read_line(&mut text).unwrap(), 0, "it ended by itself");
        }
        std::thread::sleep(delay);
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        child.kill().unwrap();
        said.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        Told::read(&text)
    }

    fn begin(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_writer_that_is_killed_loses_nothing", "--nocapture"])
            .env(CHILD, self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Gives how many writes the killed process was told of.
    async fn check(&mut self, told: Told) -> usize {
        let store = Store::open(&self.path()).unwrap();
        let range = store.range("").await.unwrap();
        self.check_history(&store, &told, range.revision).await;
        assert!(self.rows.values().eq(&range.rows), "the history and the rows");
        self.check_rows(&told);
        self.check_leases(&store, &told).await;
        let range = store.range("").await.unwrap();
        self.revision = range.revision;
        self.rows = range.rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        told.wrote.len()
    }

    /// Follows what happened since.
    async fn check_history(&mut self, store: &Store, told: &Told, revision: u64) {
        let mut of_writers = BTreeMap::new();
        if self.revision < revision {
            let seen = changes_to(&mut store.watch("", self.revision), revision).await;
            assert!(
                seen.iter().map(|seen| seen.revision).eq(self.revision + 1..=revision),
                "each revision once"
            );
            for seen in &seen {
                replay(&mut self.rows, std::slice::from_ref(seen));
                for (key, row) in &self.rows {
                    if row.mod_revision == seen.revision && key.starts_with(b"a/") {
                        of_writers.insert(seen.revision, (key.clone(), number(row)));
                    }
                }
            }
        }
        for (writer, step, revision) in &told.wrote {
            let expected = (format!("a/{writer}").into_bytes(), *step);
            assert_eq!(of_writers.get(revision), Some(&expected), "what was acknowledged is in the history");
        }
    }

    fn check_rows(&self, told: &Told) {
        for writer in 0..WRITERS {
            let row = |name: &str| self.rows.get(format!("{name}/{writer}").as_bytes());
            let (a, z) = (row("a"), row("z"));
            let of = |row: &KeyValue| (number(row), row.mod_revision, row.value.clone());
            assert_eq!(a.map(of), z.map(of), "a transaction is there by half");
            let step = a.map_or(0, number);
            let acknowledged =
                told.wrote.iter().filter(|(of, ..)| *of == writer).map(|(_, step, _)| *step).max();
            assert!(
                acknowledged.is_none_or(|acknowledged| (acknowledged..=acknowledged + 1).contains(&step))
            );
            if let Some(leased) = row("leased") {
                assert!(number(leased) == step && !step.is_multiple_of(4) && leased.lease.is_some());
            }
        }
    }

    async fn check_leases(&self, store: &Store, told: &Told) {
        for lease in &told.revoked {
            assert!(matches!(store.keep_alive(*lease).await, Err(StoreError::LeaseEnded(_))));
        }
        for row in self.rows.values() {
            let Some(lease) = row.lease else { continue };
            store.keep_alive(lease).await.unwrap();
            store.revoke(lease).await.unwrap();
            assert_eq!(store.get(row.key.clone()).await.unwrap(), None);
        }
        committed(store, Transaction::new().put("checked", "")).await;
    }
}

#[test]
fn a_writer_that_is_killed_loses_nothing() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&path));
    }
    let crashes = std::env::var("STORE_CRASHES").map_or(CRASHES, |count| count.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut known, mut writes, mut idle) = (Known::new(), 0, 0);
    for crash in 0..crashes {
        if crash % OF_ONE_STORE == 0 {
            known = Known::new();
        }
        let is_early = rng.u32(..EARLY) == 0;
        let within = if is_early { WITHIN_EARLY } else { WITHIN };
        let told = known.kill(is_early, within.mul_f64(rng.f64()));
        if known.path().try_exists().unwrap() {
            let told = runtime().block_on(known.check(told));
            writes += told;
            idle += u32::from(told == 0);
        }
    }
    println!(
        "{crashes} kills, {idle} of them before the first write was acknowledged; {writes} writes were acknowledged"
    );
    assert!(idle < crashes / 2, "hardly a write was acknowledged before a kill");
}
