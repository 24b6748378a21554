use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{MAX_OPERATIONS, MAX_VALUE_BYTES, Store};

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that may be full or broken, and that may not take what the kernel has for it.
#[derive(Debug, Default)]
struct Disk {
    failing: [AtomicBool; 4],
    holds: Mutex<Holds>,
}

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
}

/// A file on such a disk.
#[derive(Debug)]
struct Limited {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl Limited {
    fn room(&self) -> io::Result<()> {
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
        self.disk.holds.lock().unwrap().dirty.push(start..start + data.len());
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A store on such a disk.
struct OnDisk {
    folder: tempfile::TempDir,
    disk: Arc<Disk>,
}

impl OnDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        make_whole(&path).unwrap();
        let disk = Arc::<Disk>::default();
        disk.holds.lock().unwrap().bytes = std::fs::read(path).unwrap();
        Self { folder, disk }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }

    fn open(&self) -> Result<Store, StoreError> {
        let (file, disk) = (self.path(), Arc::clone(&self.disk));
        let open = move || -> Result<Box<dyn StorageBackend>, DatabaseError> {
            let file = FileBackend::new(File::options().read(true).write(true).open(&file)?)?;
            Ok(Box::new(Limited { file, disk: Arc::clone(&disk) }))
        };
        Embedded::open_by(&self.path(), Box::new(open)).map(Store::of)
    }
}

#[tokio::test]
async fn once_the_disk_has_room_again_so_has_the_store() {
    let on_disk = OnDisk::new();
    let (disk, store) = (&on_disk.disk, on_disk.open().unwrap());
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
        let (disk, store) = (&on_disk.disk, on_disk.open().unwrap());
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
    let (disk, store) = (&on_disk.disk, on_disk.open().unwrap());
    // Values of that size have pages of their own, so that a later commit does not happen to write them again.
    let large = |byte| vec![byte; 100_000];
    let keys = ["a", "m", "z"];
    store.commit(keys.iter().fold(Transaction::new(), |all, key| all.put(*key, large(1)))).await.unwrap();
    disk.set(Failure::Loses, true);
    store.commit(Transaction::new().put("a", large(2))).await.unwrap_err();
    drop(store);
    disk.set(Failure::Loses, false);

    let store = on_disk.open().unwrap();
    let found = store.get("a").await.unwrap().unwrap().value;
    store.commit(Transaction::new().put("z", large(3))).await.unwrap();
    drop(store);
    disk.loses_power(&on_disk.path());
    let store = on_disk.open().unwrap();
    let value = async |key: &str| store.get(key).await.unwrap().unwrap().value;
    assert!(value("a").await == found && value("z").await == large(3));
}

#[tokio::test]
async fn a_start_needs_no_room_for_the_holes_of_the_file() {
    let on_disk = OnDisk::new();
    let store = on_disk.open().unwrap();
    store.commit(Transaction::new().put("a", vec![1; 300_000])).await.unwrap();
    drop(store);
    on_disk.disk.set(Failure::FullForHoles, true);
    let bytes = std::fs::read(on_disk.path()).unwrap();
    assert!(bytes.chunks(4096).any(|page| page.iter().all(|byte| *byte == 0)), "there is one");
    on_disk.open().unwrap();
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

fn temporary() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    (folder, store)
}

#[tokio::test]
async fn every_write_gets_the_next_revision_and_a_key_remembers_its_first() {
    let (_folder, store) = temporary();
    assert_eq!(
        store.commit(Transaction::new().put("a", "1")).await.unwrap(),
        Outcome::Committed { revision: 1 }
    );
    assert_eq!(
        store.commit(Transaction::new().put("a", "2").put("b", "3")).await.unwrap(),
        Outcome::Committed { revision: 2 }
    );
    let row = store.get("a").await.unwrap().unwrap();
    assert_eq!((row.create_revision, row.mod_revision, row.value.as_slice()), (1, 2, &b"2"[..]));
}

#[tokio::test]
async fn a_comparison_that_does_not_hold_changes_nothing() {
    let (_folder, store) = temporary();
    store.commit(Transaction::new().if_absent("a").put("a", "1")).await.unwrap();
    let conflict = Outcome::Conflict { key: b"a".to_vec() };
    assert_eq!(
        store.commit(Transaction::new().if_absent("a").put("a", "2").put("b", "2")).await.unwrap(),
        conflict
    );
    assert_eq!(store.commit(Transaction::new().if_revision("a", 9).delete("a")).await.unwrap(), conflict);
    assert_eq!(store.get("b").await.unwrap(), None);
    let swap = store.commit(Transaction::new().if_revision("a", 1).put("a", "2")).await.unwrap();
    assert_eq!(swap, Outcome::Committed { revision: 2 }, "a refused transaction takes no revision");
}

#[tokio::test]
async fn a_range_holds_exactly_the_keys_of_its_prefix_in_order() {
    let (_folder, store) = temporary();
    let all = Transaction::new().put("k/b", "2").put("k/a", "1").put("k", "0").put("k0", "3").put("j", "4");
    store.commit(all).await.unwrap();
    let keys: Vec<_> = store.range("k/").await.unwrap().into_iter().map(|row| row.key).collect();
    assert_eq!(keys, [b"k/a".to_vec(), b"k/b".to_vec()]);
}

#[tokio::test]
async fn pages_that_follow_each_other_give_every_key_of_the_prefix_once() {
    let (_folder, store) = temporary();
    let keys: [&[u8]; 7] = [b"j", b"k/", b"k/\x00", b"k/a", b"k/b", b"k/\xff\xff", b"k0"];
    let all = keys.iter().fold(Transaction::new(), |write, key| write.put(*key, "1"));
    store.commit(all).await.unwrap();
    let (mut read, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = store.page("k/", after, 2).await.unwrap();
        assert!(page.rows.len() <= 2);
        let Some(last) = page.rows.last() else { break };
        after = last.key.clone();
        read.extend(page.into_iter().map(|row| row.key));
    }
    assert_eq!(read, keys[1..6]);
    assert_eq!(store.page("k/", "k0", 9).await.unwrap().rows, []);
    assert_eq!(store.page("k/", "a", 1).await.unwrap().rows[0].key, b"k/");
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_a_second_opener_is_told() {
    let (folder, store) = temporary();
    store.commit(Transaction::new().put("a", "1")).await.unwrap();
    let path = folder.path().join("store.redb");
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
    drop(store);
    assert_eq!(Store::open(&path).unwrap().get("a").await.unwrap().unwrap().value, b"1");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    for held in ["not a store, but precious", ""] {
        std::fs::write(&path, held).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Open { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), held);
    }
}

#[tokio::test]
async fn transactions_over_a_limit_are_refused_whole() {
    let (_folder, store) = temporary();
    let many = (0..=MAX_OPERATIONS).fold(Transaction::new(), |all, number| all.put(number.to_string(), "x"));
    for refused in [
        many,
        Transaction::new().put("k", vec![0; MAX_VALUE_BYTES + 1]),
        Transaction::new().delete(vec![b'k'; 1025]),
    ] {
        assert!(matches!(store.commit(refused).await, Err(StoreError::TooLarge(_))));
    }
    assert_eq!(store.range("").await.unwrap().rows, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_agrees_with_a_map(steps in proptest::collection::vec((0..5u8, 0..6u8, any::<bool>()), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_folder, store) = temporary();
            let mut model: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
            let mut revision = 0;
            for (key, value, delete) in steps {
                let key = vec![b'k', key];
                let transaction = match (delete, model.get(&key)) {
                    (true, _) => Transaction::new().delete(key.clone()),
                    (false, None) => Transaction::new().if_absent(key.clone()).put(key.clone(), vec![value]),
                    (false, Some((last, _))) => Transaction::new().if_revision(key.clone(), *last).put(key.clone(), vec![value]),
                };
                revision += 1;
                assert_eq!(store.commit(transaction).await.unwrap(), Outcome::Committed { revision });
                if delete { model.remove(&key); } else { model.insert(key, (revision, vec![value])); }
            }
            let rows = store.range("k").await.unwrap();
            let found: Vec<_> = rows.into_iter().map(|row| (row.key, (row.mod_revision, row.value))).collect();
            assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        });
    }
}
