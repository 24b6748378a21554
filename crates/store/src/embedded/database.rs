//! The database, and how it is opened again: after an error of the disk redb refuses everything until it is.
//!
//! The database is shut only while nobody reads or writes, so that the file is free at once.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend};
use tokio::sync::watch;

use super::confirmed::{Confirmed, Unconfirmed, is_full};
use super::tables::Tables;
use crate::{Availability, LeaseId, StoreError};

/// What the database keeps in memory of its file, in bytes.
const CACHE_BYTES: usize = 64 << 20;

pub(super) type Open = dyn Fn() -> Result<Box<dyn StorageBackend>, DatabaseError> + Send + Sync;

/// The database, or its absence.
pub(super) struct Held {
    slot: RwLock<Slot>,
    /// Why it is not opened again: what the disk did not confirm may be in memory alone ([`Confirmed::write_anew`]).
    unconfirmed: Unconfirmed,
    open: Box<Open>,
    path: PathBuf,
    availability: watch::Sender<Availability>,
}

enum Slot {
    /// With how often it was opened before.
    Opened(Database, u64),
    /// After an error of the disk, until somebody asks for something.
    Shut(u64),
    /// Nobody has the store any more.
    Closed,
}

/// What a start finds.
pub(super) struct Found {
    pub(super) revision: u64,
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

impl Held {
    pub(super) fn open(path: &Path, open: Box<Open>) -> Result<(Self, Found), StoreError> {
        let unconfirmed = Unconfirmed::default();
        let database =
            first_opening(&*open, &unconfirmed).map_err(|error| at_start(error, path, &unconfirmed))?;
        let found = begin(&database).map_err(|error| match (error, unconfirmed.get().cloned()) {
            (_, Some(reason)) => StoreError::Unconfirmed { path: path.to_owned(), reason },
            (StoreError::Disk(reason), None) => full_at_start(&reason, path),
            (other, None) => StoreError::Open { path: path.to_owned(), reason: other.to_string() },
        })?;
        let slot = RwLock::new(Slot::Opened(database, 0));
        let availability = watch::Sender::new(Availability::Available);
        Ok((Self { slot, unconfirmed, open, path: path.to_owned(), availability }, found))
    }

    pub(super) fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.subscribe()
    }

    /// The disk has confirmed something.
    pub(super) fn is_well(&self) {
        self.set(Availability::Available);
    }

    fn set(&self, now: Availability) {
        self.availability.send_if_modified(|before| {
            let is_new = *before != now;
            *before = now;
            is_new
        });
    }

    pub(super) fn check_confirmed(&self) -> Result<(), StoreError> {
        let Some(reason) = self.unconfirmed.get() else { return Ok(()) };
        Err(StoreError::Unconfirmed { path: self.path.clone(), reason: reason.clone() })
    }

    /// Reads or writes. Blocks.
    pub(super) fn carry_out<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (done, opened) = loop {
            self.check_confirmed()?;
            match &*self.reading() {
                Slot::Opened(database, opened) => break (work(database), *opened),
                Slot::Closed => return Err(closed()),
                Slot::Shut(_) => {}
            }
            self.open_again()?;
        };
        done.map_err(|error| match error {
            StoreError::Disk(reason) => self.given_up(opened, reason),
            other => other,
        })
    }

    /// The database is of no use any more.
    fn given_up(&self, opened: u64, reason: String) -> StoreError {
        if let Err(unconfirmed) = self.check_confirmed() {
            return self.away(unconfirmed);
        }
        let mut slot = self.writing();
        if matches!(&*slot, Slot::Opened(_, now) if *now == opened) {
            *slot = Slot::Shut(opened + 1);
        }
        drop(slot);
        self.away(StoreError::Disk(reason))
    }

    fn away(&self, error: StoreError) -> StoreError {
        self.set(Availability::Away { reason: error.to_string(), stale: None });
        error
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let mut slot = self.writing();
        let Slot::Shut(opened) = *slot else { return Ok(()) };
        match database(&*self.open, &self.unconfirmed) {
            Ok(database) => *slot = Slot::Opened(database, opened),
            Err(error) => {
                let error = self.check_confirmed().err().unwrap_or(StoreError::Disk(error.to_string()));
                return Err(self.away(error));
            }
        }
        Ok(())
    }

    /// Lets go of the file, once nobody reads or writes any more. Blocks. Gives what is said from then on.
    pub(super) fn close(&self) -> StoreError {
        let closed = self.let_go();
        self.away(closed)
    }

    /// The same, but that it is away is not said.
    pub(super) fn let_go(&self) -> StoreError {
        *self.writing() = Slot::Closed;
        closed()
    }

    fn reading(&self) -> RwLockReadGuard<'_, Slot> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Failed("it is closed".to_owned())
}

/// What the file is refused for. `error` is what the machine or the format check said.
fn at_start(error: redb::Error, path: &Path, unconfirmed: &Unconfirmed) -> StoreError {
    let path = path.to_owned();
    match (error, unconfirmed.get().cloned()) {
        (redb::Error::DatabaseAlreadyOpen, _) => StoreError::InUse(path),
        (_, Some(reason)) => StoreError::Unconfirmed { path, reason },
        (redb::Error::Io(error), None) if is_full(&error) => full_at_start(&error, &path),
        (other, None) => StoreError::Open { path, reason: other.to_string() },
    }
}

fn full_at_start(error: &impl fmt::Display, path: &Path) -> StoreError {
    StoreError::Disk(format!("{}: {error}; make room on it, then start serviceos again", path.display()))
}

/// The database of a process that has just begun.
fn first_opening(open: &Open, unconfirmed: &Unconfirmed) -> Result<Database, redb::Error> {
    Confirmed { file: open()?, unconfirmed: Arc::clone(unconfirmed) }.write_anew()?;
    Ok(database(open, unconfirmed)?)
}

/// Makes the tables that are missing, and reads what a start has to know.
fn begin(database: &Database) -> Result<Found, StoreError> {
    let write = database.begin_write().map_err(failed)?;
    let (revision, leases) = Tables::open(&write)?.begin()?;
    write.commit().map_err(failed)?;
    Ok(Found { revision, leases })
}

/// The database in a file that holds one already: redb would make one in an empty file.
fn database(open: &Open, unconfirmed: &Unconfirmed) -> Result<Database, DatabaseError> {
    let file = open()?;
    if file.len()? == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty").into());
    }
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Confirmed { file, unconfirmed: Arc::clone(unconfirmed) })
}

/// How to open the file at a path, which is made where there is none.
pub(super) fn file_at(path: &Path) -> Result<Box<Open>, StoreError> {
    make_whole(path)
        .map_err(|error| StoreError::Open { path: path.to_owned(), reason: error.to_string() })?;
    let file = path.to_owned();
    Ok(Box::new(move || -> Result<Box<dyn StorageBackend>, DatabaseError> {
        Ok(Box::new(FileBackend::new(File::options().read(true).write(true).open(&file)?)?))
    }))
}

/// Makes the file where there is none, under its name only once it is a whole store: a kill in between would otherwise leave
/// one that can never be opened.
pub(crate) fn make_whole(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if path.try_exists()? {
        return Ok(());
    }
    let beside = path.with_extension("new");
    let _left_by_a_kill = std::fs::remove_file(&beside);
    drop(Database::create(&beside)?);
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

pub(crate) fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => StoreError::Disk(error.to_string()),
        redb::Error::PreviousIo => StoreError::Disk("an earlier write failed".to_owned()),
        other => StoreError::Failed(other.to_string()),
    }
}
