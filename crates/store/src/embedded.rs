//! The store in one redb file.

mod confirmed;

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition,
};
use tokio::sync::watch;
use types::wire::{Message, Reader};

use self::confirmed::{Confirmed, Unconfirmed, is_full};
use crate::backend::{Answer, Backend, Watching};
use crate::{Availability, Compare, KeyValue, LeaseId, Operation, Outcome, Range, StoreError, Transaction};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// An open store. Clones share it.
#[derive(Clone)]
pub(crate) struct Embedded(Arc<Held>);

/// The database, and how to open it again: after an error of the disk redb refuses everything until it is.
struct Held {
    /// `None` from such an error on until somebody asks for something.
    database: Mutex<Option<Arc<Database>>>,
    /// Why it is not opened again: what the disk did not confirm may be in memory alone ([`Confirmed::write_anew`]).
    unconfirmed: Unconfirmed,
    open: Box<Open>,
    path: PathBuf,
}

type Open = dyn Fn() -> Result<Box<dyn StorageBackend>, DatabaseError> + Send + Sync;

impl Embedded {
    /// Opens the file, or makes it. Blocks; an interrupted earlier run is repaired here.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Disk`] or [`StoreError::Unconfirmed`] when its disk
    /// fails, [`StoreError::Open`] otherwise.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        make_whole(path).map_err(|error| failed(error.to_string()))?;
        let file = path.to_owned();
        let open = move || -> Result<Box<dyn StorageBackend>, DatabaseError> {
            Ok(Box::new(FileBackend::new(File::options().read(true).write(true).open(&file)?)?))
        };
        Self::open_by(path, Box::new(open))
    }

    fn open_by(path: &Path, open: Box<Open>) -> Result<Self, StoreError> {
        let unconfirmed = Unconfirmed::default();
        let database = first_opening(&*open, &unconfirmed).map_err(|error| {
            let path = path.to_owned();
            match (error, unconfirmed.get().cloned()) {
                (redb::Error::DatabaseAlreadyOpen, _) => StoreError::InUse(path),
                (_, Some(reason)) => StoreError::Unconfirmed { path, reason },
                (redb::Error::Io(error), None) if is_full(&error) => StoreError::Disk(format!(
                    "{}: {error}; make room on it, then start serviceos again",
                    path.display()
                )),
                (other, None) => StoreError::Open { path, reason: other.to_string() },
            }
        })?;
        let database = Mutex::new(Some(Arc::new(database)));
        Ok(Self(Arc::new(Held { database, unconfirmed, open, path: path.to_owned() })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let held = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || held.carry_out(work)).await;
        done.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

impl Backend for Embedded {
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<KeyValue>> {
        Box::pin(self.blocking(move |database| {
            let rows = database.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)?;
            let row = rows.get(key.as_slice()).map_err(failed)?;
            row.map(|row| decode(&key, row.value())).transpose()
        }))
    }

    fn range(&self, prefix: Vec<u8>) -> Answer<'_, Range> {
        self.page(prefix, Vec::new(), usize::MAX)
    }

    fn page(&self, prefix: Vec<u8>, after: Vec<u8>, most: usize) -> Answer<'_, Range> {
        Box::pin(self.blocking(move |database| {
            let rows = database.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)?;
            let begin = if after < prefix { Bound::Included(&prefix) } else { Bound::Excluded(&after) };
            let begin = (begin.map(Vec::as_slice), Bound::Unbounded);
            let mut found = Vec::new();
            for row in rows.range::<&[u8]>(begin).map_err(failed)?.take(most) {
                let (key, value) = row.map_err(failed)?;
                if !key.value().starts_with(&prefix) {
                    break;
                }
                found.push(decode(key.value(), value.value())?);
            }
            Ok(Range { revision: 0, rows: found })
        }))
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(self.blocking(move |database| commit(database, &transaction)))
    }

    fn grant(&self, _ttl: Duration) -> Answer<'_, LeaseId> {
        todo!()
    }

    fn keep_alive(&self, _lease: LeaseId) -> Answer<'_, ()> {
        todo!()
    }

    fn revoke(&self, _lease: LeaseId) -> Answer<'_, ()> {
        todo!()
    }

    fn watch(&self, _prefix: Vec<u8>, _after: u64) -> Box<dyn Watching> {
        todo!()
    }

    fn availability(&self) -> watch::Receiver<Availability> {
        todo!()
    }
}

impl Held {
    fn carry_out<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database()?;
        match work(&database) {
            Err(StoreError::Disk(reason)) => Err(self.given_up(&database, reason)),
            done => done,
        }
    }

    /// The database is of no use any more.
    fn given_up(&self, database: &Arc<Database>, reason: String) -> StoreError {
        if let Err(unconfirmed) = self.check_confirmed() {
            return unconfirmed;
        }
        let mut present = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        present.take_if(|present| Arc::ptr_eq(present, database));
        StoreError::Disk(reason)
    }

    fn check_confirmed(&self) -> Result<(), StoreError> {
        let Some(reason) = self.unconfirmed.get() else { return Ok(()) };
        Err(StoreError::Unconfirmed { path: self.path.clone(), reason: reason.clone() })
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.check_confirmed()?;
        let mut present = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*present {
            return Ok(Arc::clone(database));
        }
        let opened = database(&*self.open, &self.unconfirmed);
        let opened = opened.or_else(|error| {
            self.check_confirmed()?;
            Err(StoreError::Disk(error.to_string()))
        })?;
        Ok(Arc::clone(present.insert(Arc::new(opened))))
    }
}

/// The database of a process that has just begun, with all of its tables.
fn first_opening(open: &Open, unconfirmed: &Unconfirmed) -> Result<Database, redb::Error> {
    Confirmed { file: open()?, unconfirmed: Arc::clone(unconfirmed) }.write_anew()?;
    let database = database(open, unconfirmed)?;
    let write = database.begin_write()?;
    write.open_table(ROWS)?;
    write.open_table(META)?;
    write.commit()?;
    Ok(database)
}

/// The database in a file that holds one already: redb would make one in an empty file.
fn database(open: &Open, unconfirmed: &Unconfirmed) -> Result<Database, DatabaseError> {
    let file = open()?;
    if file.len()? == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty").into());
    }
    Database::builder().create_with_backend(Confirmed { file, unconfirmed: Arc::clone(unconfirmed) })
}

/// Makes the file where there is none, under its name only once it is a whole store: a kill in between would otherwise leave
/// one that can never be opened.
fn make_whole(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
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

fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => StoreError::Disk(error.to_string()),
        redb::Error::PreviousIo => StoreError::Disk("an earlier write failed".to_owned()),
        other => StoreError::Failed(other.to_string()),
    }
}

fn commit(database: &Database, transaction: &Transaction) -> Result<Outcome, StoreError> {
    let write = database.begin_write().map_err(failed)?;
    let revision = {
        let mut rows = write.open_table(ROWS).map_err(failed)?;
        for compare in &transaction.compares {
            if let Some(key) = unmet(&rows, compare)? {
                return Ok(Outcome::Conflict { key });
            }
        }
        let mut meta = write.open_table(META).map_err(failed)?;
        let revision = meta.get(REVISION).map_err(failed)?.map_or(0, |row| row.value()) + 1;
        meta.insert(REVISION, revision).map_err(failed)?;
        for operation in &transaction.operations {
            apply(&mut rows, operation, revision)?;
        }
        revision
    };
    write.commit().map_err(failed)?;
    Ok(Outcome::Committed { revision })
}

fn unmet(rows: &Table<'_, &[u8], &[u8]>, compare: &Compare) -> Result<Option<Vec<u8>>, StoreError> {
    let (key, wanted) = match compare {
        Compare::Absent(key) => (key, None),
        Compare::ModRevision(key, revision) => (key, Some(*revision)),
    };
    let row = rows.get(key.as_slice()).map_err(failed)?;
    let found = row.map(|row| decode(key, row.value())).transpose()?.map(|row| row.mod_revision);
    Ok((found != wanted).then(|| key.clone()))
}

fn apply(rows: &mut Table<'_, &[u8], &[u8]>, operation: &Operation, revision: u64) -> Result<(), StoreError> {
    match operation {
        Operation::Put(key, value, _lease) => {
            let before =
                rows.get(key.as_slice()).map_err(failed)?.map(|row| decode(key, row.value())).transpose()?;
            let create_revision = before.map_or(revision, |row| row.create_revision);
            let row = encode(create_revision, revision, value);
            rows.insert(key.as_slice(), row.as_slice()).map_err(failed)?;
        }
        Operation::Delete(key) => {
            rows.remove(key.as_slice()).map_err(failed)?;
        }
    }
    Ok(())
}

/// A row: format 1, the two revisions, the value.
fn encode(create_revision: u64, mod_revision: u64, value: &[u8]) -> Vec<u8> {
    Message::untagged(&[1])
        .raw(create_revision.to_be_bytes())
        .raw(mod_revision.to_be_bytes())
        .raw(value)
        .finish()
}

fn decode(key: &[u8], row: &[u8]) -> Result<KeyValue, StoreError> {
    let parts = |row| {
        let mut reader = Reader::new(row);
        let [1] = reader.array()? else { return None };
        Some((u64::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?)))
    };
    let (create_revision, mod_revision) =
        parts(row).ok_or_else(|| StoreError::Damaged(String::from_utf8_lossy(key).into_owned()))?;
    Ok(KeyValue { key: key.to_vec(), value: row[17..].to_vec(), create_revision, mod_revision, lease: None })
}

#[cfg(test)]
mod tests;
