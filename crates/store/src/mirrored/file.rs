//! The mirror's file: the rows of one namespace of one etcd, whole up to a revision.
//!
//! Its tables are those of the store in a file, without history and leases. What stands in for etcd has to be etcd's: a mirror of
//! another namespace is none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::embedded::database::{failed, make_whole};
use crate::embedded::rows::{self, META, ROWS, Row};
use crate::{Change, Changes, KeyValue, Range, StoreError};

/// What the database keeps in memory of its file, in bytes.
const CACHE_BYTES: usize = 8 << 20;
/// What the rows mean.
const FORMAT: u64 = 1;

/// Beside the revision: the format, the cluster, and when it was written.
const FORMAT_KEY: &str = "format";
const CLUSTER_KEY: &str = "cluster";
const AT_KEY: &str = "at";
const NAMESPACE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("namespace");

/// The file, opened by whoever needs it first.
pub(super) struct MirrorFile {
    path: PathBuf,
    namespace: Vec<u8>,
    opened: Mutex<Option<Database>>,
}

/// What a mirror says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Of which etcd it is.
    pub(super) cluster: u64,
    /// Up to which revision it is whole.
    pub(super) revision: u64,
    /// When it was so.
    pub(super) at: SystemTime,
}

/// What is written at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    from: From,
    /// Up to where it reaches.
    revision: u64,
    /// The last value of each key that has changed; `None` where it is gone.
    rows: BTreeMap<Vec<u8>, Option<KeyValue>>,
    bytes: usize,
}

/// What a batch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Nothing: it is everything that this etcd has.
    Nothing { cluster: u64 },
    /// The state of that revision.
    Revision(u64),
}

impl Batch {
    /// Everything.
    pub(super) fn whole(cluster: u64, range: Range) -> Self {
        let rows = range.rows.into_iter().map(|row| (row.key.clone(), Some(row))).collect();
        Self { from: From::Nothing { cluster }, revision: range.revision, rows, bytes: 0 }
    }

    /// Nothing yet, after a revision.
    pub(super) fn after(revision: u64) -> Self {
        Self { from: From::Revision(revision), revision, rows: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About how much it has in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All changes of one revision, so that no batch ends within one.
    pub(super) fn take(&mut self, changes: Changes) {
        self.revision = changes.revision;
        for change in changes.changes {
            let (key, row) = match change {
                Change::Put(row) => (row.key.clone(), Some(row)),
                Change::Deleted(key) => (key, None),
            };
            self.bytes += key.len() + row.as_ref().map_or(0, |row| row.value.len());
            self.rows.insert(key, row);
        }
    }
}

/// All of it blocks.
impl MirrorFile {
    pub(super) fn new(path: PathBuf, namespace: Vec<u8>) -> Self {
        Self { path, namespace, opened: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// What it is a mirror of.
    ///
    /// # Errors
    /// Why it can be none.
    pub(super) fn head(&self) -> Result<Head, String> {
        if !self.path.exists() {
            return Err("there is none".to_owned());
        }
        self.read(|database| {
            let read = database.begin_read().map_err(failed)?;
            let meta = read.open_table(META).map_err(failed)?;
            let number = |key| Ok(meta.get(key).map_err(failed)?.map(|row| row.value()));
            let known = (number(FORMAT_KEY)?, number(CLUSTER_KEY)?, number(AT_KEY)?);
            let (Some(FORMAT), Some(cluster), Some(at)) = known else {
                return Err(StoreError::Failed("it is of another version of serviceos".to_owned()));
            };
            let names = read.open_table(NAMESPACE).map_err(failed)?;
            if names.get(()).map_err(failed)?.is_none_or(|name| name.value() != self.namespace) {
                return Err(StoreError::Failed("it is that of another trust domain".to_owned()));
            }
            Ok(Head { cluster, revision: rows::revision(&meta)?, at: UNIX_EPOCH + Duration::from_millis(at) })
        })
        .map_err(|error| error.to_string())
    }

    pub(super) fn get_all(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<KeyValue>>, StoreError> {
        self.read(|database| rows::get_all(database, keys))
    }

    /// The first keys that begin with `prefix` and come behind `after`, at most so many.
    pub(super) fn page(&self, prefix: &[u8], after: &[u8], most: usize) -> Result<Range, StoreError> {
        self.read(|database| rows::page(database, prefix, after, most))
    }

    /// Writes a batch, durably, or nothing.
    ///
    /// # Errors
    /// The batch does not go on where the file ends, or the disk fails.
    pub(super) fn write(&self, batch: &Batch, at: SystemTime) -> Result<(), StoreError> {
        let mut opened = self.opened();
        let database = match opened.take() {
            Some(database) => database,
            None => self.open_or_make()?,
        };
        let write = database.begin_write().map_err(failed)?;
        self.fill(&write, batch, at)?;
        write.commit().map_err(failed)?;
        // After an error it is opened again by whoever needs it next.
        *opened = Some(database);
        Ok(())
    }

    /// Lets go of the file, until somebody needs it again.
    pub(super) fn close(&self) {
        *self.opened() = None;
    }

    /// What is in the file is of no use.
    pub(super) fn discard(&self) {
        let mut opened = self.opened();
        *opened = None;
        let _not_there = std::fs::remove_file(&self.path);
    }

    fn fill(&self, write: &WriteTransaction, batch: &Batch, at: SystemTime) -> Result<(), StoreError> {
        let mut meta = write.open_table(META).map_err(failed)?;
        let mut stored = write.open_table(ROWS).map_err(failed)?;
        match batch.from {
            From::Revision(from) if rows::revision(&meta)? == from => {}
            From::Revision(_) => {
                return Err(StoreError::Failed("the mirror is not at the revision before".to_owned()));
            }
            From::Nothing { cluster } => {
                stored.retain(|key, _| batch.rows.contains_key(key)).map_err(failed)?;
                meta.insert(FORMAT_KEY, FORMAT).map_err(failed)?;
                meta.insert(CLUSTER_KEY, cluster).map_err(failed)?;
                let mut names = write.open_table(NAMESPACE).map_err(failed)?;
                names.insert((), self.namespace.as_slice()).map_err(failed)?;
            }
        }
        for (key, row) in &batch.rows {
            match row.as_ref().map(encoded) {
                // A start finds most of it as it was.
                Some(row)
                    if stored.get(key.as_slice()).map_err(failed)?.is_some_and(|is| is.value() == row) => {}
                Some(row) => drop(stored.insert(key.as_slice(), row.as_slice()).map_err(failed)?),
                None => drop(stored.remove(key.as_slice()).map_err(failed)?),
            }
        }
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        meta.insert(AT_KEY, u64::try_from(at).unwrap_or(u64::MAX)).map_err(failed)?;
        rows::set_revision(&mut meta, batch.revision)
    }

    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut opened = self.opened();
        let database = match opened.take() {
            Some(database) => database,
            None => self.open().map_err(failed)?,
        };
        let read = work(&database);
        *opened = Some(database);
        read
    }

    fn open(&self) -> Result<Database, redb::Error> {
        Ok(Database::builder().set_cache_size(CACHE_BYTES).open(&self.path)?)
    }

    /// A mirror that cannot be opened is made anew: etcd has what was in it.
    fn open_or_make(&self) -> Result<Database, StoreError> {
        if self.path.exists() {
            match self.open() {
                Ok(database) => return Ok(database),
                Err(redb::Error::DatabaseAlreadyOpen) => return Err(StoreError::InUse(self.path.clone())),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the mirror of etcd is damaged and is made anew");
                    std::fs::remove_file(&self.path).map_err(|error| StoreError::Disk(error.to_string()))?;
                }
            }
        }
        make_whole(&self.path).map_err(|error| StoreError::Disk(error.to_string()))?;
        self.open().map_err(failed)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Database>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encoded(row: &KeyValue) -> Vec<u8> {
    let KeyValue { create_revision, mod_revision, lease, value, .. } = row;
    rows::encode(&Row {
        create_revision: *create_revision,
        mod_revision: *mod_revision,
        lease: *lease,
        value,
    })
}
