//! The file under the database: written anew at a start, and it remembers when its disk failed. What follows from that is not
//! decided here.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use redb::{BackendError, DatabaseError, StorageBackend};

/// What the disk said when it failed, the first time; nothing as long as it has confirmed everything.
pub(super) type Unconfirmed = Arc<OnceLock<String>>;

/// A file of which it is known whether everything that was written has reached the disk.
#[derive(Debug)]
pub(super) struct Confirmed {
    pub(super) file: Box<dyn StorageBackend>,
    pub(super) unconfirmed: Unconfirmed,
}

/// What is read and written at once while the file is written anew, in bytes: a page of the kernel's, and of redb's.
const PAGE_BYTES: usize = 4096;
const WHOLE: (Bound<u64>, Bound<u64>) = (Bound::Unbounded, Bound::Unbounded);

impl Confirmed {
    /// Writes what the file holds over itself and has the disk confirm it.
    ///
    /// A process before this one may have ended because its disk did not confirm what it wrote. The kernel then takes that for
    /// written, hands it out to every reader for as long as it has it in memory, and never writes it again, whatever later
    /// confirmations say (fsync(2)). What is built on has to be on the disk first.
    pub(super) fn write_anew(&self) -> Result<(), DatabaseError> {
        match self.file.try_lock_range(WHOLE.0, WHOLE.1) {
            Ok(true) | Err(BackendError::Unsupported) => {}
            Ok(false) => return Err(DatabaseError::DatabaseAlreadyOpen),
            Err(error) => return Err(io::Error::other(error).into()),
        }
        let written = self.write_pages();
        self.file.close()?;
        Ok(written?)
    }

    fn write_pages(&self) -> io::Result<()> {
        let (mut page, end) = ([0; PAGE_BYTES], self.file.len()?);
        for at in (0..end).step_by(PAGE_BYTES) {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let page = &mut page[..left.min(PAGE_BYTES)];
            self.read(at, page)?;
            let is_empty = page.iter().all(|byte| *byte == 0);
            match self.write(at, page) {
                // A hole of the file, which holds nothing that could be lost; what is on the disk has its place there.
                Err(error) if is_empty && is_full(&error) => {}
                written => written?,
            }
        }
        self.sync_data()
    }

    /// Notes every failure of the disk but that it has no room: then it takes nothing of a write, and says so before the commit.
    /// That the file ends too early is no failure of the disk.
    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if !is_full(error) && error.kind() != io::ErrorKind::UnexpectedEof {
                self.note(error);
            }
        })
    }

    fn note(&self, error: &io::Error) {
        self.unconfirmed.get_or_init(|| error.to_string());
    }
}

/// Whether a disk has no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StorageBackend for Confirmed {
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|error| self.note(error))
    }

    fn len(&self) -> io::Result<u64> {
        self.noted(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.file.set_len(len))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
