//! A store on a disk that fails, and what is left when the power does.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};

use super::super::database::make_whole;
use super::*;

/// A disk that may be full or broken, and that may not take what the kernel has for it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    failing: [AtomicBool; 4],
    holds: Mutex<Holds>,
    written: AtomicU32,
    confirmed: AtomicU32,
    /// What it does before the power fails.
    left: Mutex<Option<u32>>,
}

const SECTOR_BYTES: usize = 512;

/// How a disk fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// It has no room.
    Full,
    /// It takes nothing.
    Broken,
    /// It does not keep what it is given.
    Loses,
    /// It has no room for anything but what has its place there already.
    FullForHoles,
}

/// What is on the disk, and what of the file is in memory alone and will be written.
#[derive(Debug, Default)]
struct Holds {
    bytes: Vec<u8>,
    dirty: Vec<Range<usize>>,
}

impl Disk {
    fn set(&self, failure: Failure, on: bool) {
        self.failing[failure as usize].store(on, Ordering::Relaxed);
    }

    fn is(&self, failure: Failure) -> bool {
        self.failing[failure as usize].load(Ordering::Relaxed)
    }

    /// What was in memory alone is gone.
    fn loses_power(&self, path: &Path) {
        std::fs::write(path, &self.holds.lock().unwrap().bytes).unwrap();
    }

    /// The power fails after so many writes and confirmations.
    pub(super) fn loses_power_after(&self, operations: u32) {
        *self.left.lock().unwrap() = Some(operations);
    }

    /// The power is back. Of what was in memory alone some sectors have reached the disk, and others have not.
    pub(super) fn has_power_again(&self, path: &Path, rng: &mut fastrand::Rng) {
        *self.left.lock().unwrap() = None;
        let mut holds = self.holds.lock().unwrap();
        let file = std::fs::read(path).unwrap();
        let share = [0.0, 0.5, 0.9, 1.0][rng.usize(..4)];
        for range in std::mem::take(&mut holds.dirty) {
            for start in range.clone().step_by(SECTOR_BYTES) {
                if rng.f64() < share {
                    let sector = start..range.end.min(start + SECTOR_BYTES);
                    holds.bytes[sector.clone()].copy_from_slice(&file[sector]);
                }
            }
        }
        std::fs::write(path, &holds.bytes).unwrap();
    }

    fn works(&self) -> io::Result<()> {
        match &mut *self.left.lock().unwrap() {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// A file on such a disk.
#[derive(Debug)]
struct Limited {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl Limited {
    fn room(&self) -> io::Result<()> {
        self.disk.works()?;
        if self.disk.is(Failure::Full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.disk.is(Failure::Broken) {
            return Err(io::Error::other("broken"));
        }
        Ok(())
    }
}

impl StorageBackend for Limited {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)?;
        self.disk.holds.lock().unwrap().bytes.resize(len.try_into().unwrap(), 0);
        Ok(())
    }

    /// What the disk does not take is clean from then on, and still there to read, as with Linux. Where there is nothing to
    /// write, nothing fails.
    fn sync_data(&self) -> io::Result<()> {
        self.disk.works()?;
        self.disk.confirmed.fetch_add(1, Ordering::Relaxed);
        let mut holds = self.disk.holds.lock().unwrap();
        let dirty = std::mem::take(&mut holds.dirty);
        if self.disk.is(Failure::Loses) && !dirty.is_empty() {
            return Err(io::Error::other("lost"));
        }
        for range in dirty {
            self.file.read(range.start as u64, &mut holds.bytes[range])?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        if self.disk.is(Failure::FullForHoles) && data.iter().all(|byte| *byte == 0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        self.disk.written.fetch_add(1, Ordering::Relaxed);
        self.disk.holds.lock().unwrap().dirty.push(start..start + data.len());
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A store on such a disk.
pub(super) struct OnDisk {
    place: Place,
    pub(super) disk: Arc<Disk>,
}

impl OnDisk {
    pub(super) fn new() -> Self {
        let place = Place::new();
        make_whole(&place.path()).unwrap();
        let disk = Arc::<Disk>::default();
        disk.holds.lock().unwrap().bytes = std::fs::read(place.path()).unwrap();
        Self { place, disk }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.place.path()
    }

    pub(super) fn open(&self) -> Result<(Store, Arc<Shared>), StoreError> {
        let (file, disk) = (self.path(), Arc::clone(&self.disk));
        let open = move || -> Result<Box<dyn StorageBackend>, DatabaseError> {
            let file = FileBackend::new(std::fs::File::options().read(true).write(true).open(&file)?)?;
            Ok(Box::new(Limited { file, disk: Arc::clone(&disk) }))
        };
        opened(&self.path(), Box::new(open), Kept::default())
    }

    fn store(&self) -> Store {
        self.open().unwrap().0
    }
}

#[tokio::test]
async fn once_the_disk_has_room_again_so_has_the_store() {
    let on_disk = OnDisk::new();
    let (disk, store) = (&on_disk.disk, on_disk.store());
    store.commit(Transaction::new().put("a", "1")).await.unwrap();
    disk.set(Failure::Full, true);
    for _ in 0..3 {
        let refused = store.commit(Transaction::new().put("a", "2")).await;
        assert!(matches!(refused, Err(StoreError::Disk(_))), "{refused:?}");
    }
    disk.set(Failure::Full, false);
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1");
    store.commit(Transaction::new().put("a", "3")).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"3");
}

#[tokio::test]
async fn nothing_is_built_on_what_the_disk_did_not_confirm() {
    for (failure, said) in [(Failure::Loses, "lost"), (Failure::Broken, "broken")] {
        let on_disk = OnDisk::new();
        let (disk, store) = (&on_disk.disk, on_disk.store());
        store.commit(Transaction::new().put("a", "1")).await.unwrap();
        disk.set(failure, true);
        let refused = store.commit(Transaction::new().put("a", "2")).await.unwrap_err().to_string();
        let expected = format!("store.redb ({said}), so whether what was written last is there is not known");
        assert!(refused.contains(&expected), "{refused}");
        disk.set(failure, false);
        for _ in 0..2 {
            assert_eq!(store.get("a").await.unwrap_err().to_string(), refused);
            let again = store.commit(Transaction::new().put("a", "3")).await;
            assert!(matches!(again, Err(StoreError::Unconfirmed { .. })), "{again:?}");
        }
    }
}

#[tokio::test]
async fn what_a_start_finds_is_on_the_disk_before_anything_is_built_on_it() {
    let on_disk = OnDisk::new();
    let (disk, store) = (&on_disk.disk, on_disk.store());
    // Values of that size have pages of their own, so that a later commit does not happen to write them again.
    let large = |byte| vec![byte; 100_000];
    let keys = ["a", "m", "z"];
    store.commit(keys.iter().fold(Transaction::new(), |all, key| all.put(*key, large(1)))).await.unwrap();
    disk.set(Failure::Loses, true);
    store.commit(Transaction::new().put("a", large(2))).await.unwrap_err();
    drop(store);
    disk.set(Failure::Loses, false);

    let store = on_disk.store();
    let found = store.get("a").await.unwrap().unwrap().value;
    store.commit(Transaction::new().put("z", large(3))).await.unwrap();
    drop(store);
    disk.loses_power(&on_disk.path());
    let store = on_disk.store();
    let value = async |key: &str| store.get(key).await.unwrap().unwrap().value;
    assert!(value("a").await == found && value("z").await == large(3));
}

#[tokio::test]
async fn a_start_needs_no_room_for_the_holes_of_the_file() {
    let on_disk = OnDisk::new();
    let store = on_disk.store();
    store.commit(Transaction::new().put("a", vec![1; 300_000])).await.unwrap();
    drop(store);
    on_disk.disk.set(Failure::FullForHoles, true);
    let bytes = std::fs::read(on_disk.path()).unwrap();
    assert!(bytes.chunks(4096).any(|page| page.iter().all(|byte| *byte == 0)), "there is one");
    on_disk.store();
}

#[test]
fn a_start_whose_disk_does_not_confirm_what_is_there_is_refused() {
    let on_disk = OnDisk::new();
    on_disk.disk.set(Failure::Loses, true);
    let refused = on_disk.open().map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Unconfirmed { .. }), "{refused}");
    on_disk.disk.set(Failure::Loses, false);
    on_disk.disk.set(Failure::Full, true);
    let refused = on_disk.open().map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Disk(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_said_and_looked_after_until_it_has_room() {
    let on_disk = OnDisk::new();
    let (disk, store) = (&on_disk.disk, on_disk.store());
    let mut availability = store.availability();
    let mut watch = store.watch("", 0);
    committed(&store, Transaction::new().put("a", "1")).await;
    disk.set(Failure::Full, true);
    let refused = store.commit(Transaction::new().put("a", "2")).await.unwrap_err().to_string();
    let now = availability.borrow_and_update().clone();
    assert!(
        matches!(&now, Availability::Away { reason, .. } if refused.contains("disk") && reason.contains("disk")),
        "{now:?}"
    );
    let follower = tokio::spawn(async move { [changes(&mut watch).await, changes(&mut watch).await] });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_ne!(*availability.borrow_and_update(), Availability::Available);
    disk.set(Failure::Full, false);
    availability.wait_for(|now| *now == Availability::Available).await.unwrap();
    committed(&store, Transaction::new().put("a", "3")).await;
    let seen = follower.await.unwrap().map(|seen| seen.revision);
    assert_eq!(seen, [1, 2], "what was refused took no revision, and the watch went on");
}

#[tokio::test(start_paused = true)]
async fn leases_that_could_not_be_ended_on_a_full_disk_end_after_it() {
    let on_disk = OnDisk::new();
    let (disk, (store, shared)) = (&on_disk.disk, on_disk.open().unwrap());
    let (left, renewed) = (
        store.grant(Duration::from_secs(10)).await.unwrap(),
        store.grant(Duration::from_secs(60)).await.unwrap(),
    );
    committed(&store, Transaction::new().put_leased("left", "", left).put_leased("renewed", "", renewed))
        .await;
    disk.set(Failure::Full, true);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        store.keep_alive(renewed).await.unwrap();
    }
    assert!(matches!(store.keep_alive(left).await, Err(StoreError::LeaseEnded(_))));
    disk.set(Failure::Full, false);
    assert_eq!(changes(&mut store.watch("", 1)).await.changes, [Change::Deleted(b"left".to_vec())]);
    assert_whole(&shared);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_when_the_disk_did_not_confirm_something() {
    let on_disk = OnDisk::new();
    let (disk, store) = (&on_disk.disk, on_disk.store());
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    let mut watch = store.watch("", 0);
    let follower = tokio::spawn(async move { watch.next().await });
    disk.set(Failure::Loses, true);
    store.commit(Transaction::new().put("a", "1")).await.unwrap_err();
    let unconfirmed = |told: &StoreError| matches!(told, StoreError::Unconfirmed { .. });
    assert!(unconfirmed(&follower.await.unwrap().unwrap_err()));
    assert!(unconfirmed(&store.keep_alive(lease).await.unwrap_err()));
    assert!(unconfirmed(&store.grant(Duration::from_secs(10)).await.unwrap_err()));
    disk.set(Failure::Loses, false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = store.availability().borrow().clone();
    assert!(matches!(&now, Availability::Away { reason, .. } if reason.contains("(lost)")), "{now:?}");
}

/// Many commits at once, each of a key of its own.
async fn at_once(store: &Store, count: u32) -> Vec<Result<Outcome, StoreError>> {
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(Transaction::new().put(format!("k/{number}"), "")).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn what_waits_together_is_confirmed_together() {
    let on_disk = OnDisk::new();
    let store = on_disk.store();
    let before = on_disk.disk.confirmed.load(Ordering::Relaxed);
    let outcomes = at_once(&store, 200).await;
    let confirmed = on_disk.disk.confirmed.load(Ordering::Relaxed) - before;
    assert!(confirmed < 20, "{confirmed}");
    let mut revisions: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Outcome::Committed { revision } => revision,
            Outcome::Conflict { .. } => panic!("nothing is compared"),
        })
        .collect();
    revisions.sort_unstable();
    assert!(revisions.into_iter().eq(1..=200), "each has a revision of its own");
}

#[tokio::test]
async fn what_is_confirmed_together_fails_together() {
    let on_disk = OnDisk::new();
    let store = on_disk.store();
    on_disk.disk.set(Failure::Full, true);
    for outcome in at_once(&store, 8).await {
        assert!(matches!(outcome, Err(StoreError::Disk(_))), "{outcome:?}");
    }
    on_disk.disk.set(Failure::Full, false);
    assert_eq!(store.range("").await.unwrap(), crate::Range { revision: 0, rows: Vec::new() });
    on_disk.disk.set(Failure::Loses, true);
    for outcome in at_once(&store, 8).await {
        assert!(matches!(outcome, Err(StoreError::Unconfirmed { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn to_renew_a_lease_and_to_change_nothing_writes_nothing() {
    let on_disk = OnDisk::new();
    let store = on_disk.store();
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    let before = on_disk.disk.written.load(Ordering::Relaxed);
    for _ in 0..10 {
        store.keep_alive(lease).await.unwrap();
        committed(&store, Transaction::new().delete("gone")).await;
        store.commit(Transaction::new().if_revision("gone", 1).put("k", "")).await.unwrap();
    }
    assert_eq!(on_disk.disk.written.load(Ordering::Relaxed), before);
}
