//! The store in one redb file: every read on a blocking thread, every write through one writer at a time.
//!
//! What is written goes from [`writer`] to the disk and, with it, into the [`history`] that [`watching`] pulls from. How a
//! failing disk is met is decided in [`database`], and what it may have kept in [`confirmed`].

mod clock;
mod confirmed;
pub(crate) mod database;
mod history;
mod leases;
pub(crate) mod rows;
mod tables;
mod watching;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::clock::Clock;
use self::database::{Held, Open};
use self::history::Kept;
use self::leases::Leases;
use self::watching::EmbeddedWatch;
use self::writer::{Work, Writer};
use crate::backend::{Answer, Backend, Watching};
use crate::{Availability, KeyValue, LeaseId, Outcome, Range, StoreError, Transaction};

/// An open store. When it is dropped, so is all that is not written yet; it waits for what is, and lets go of the file.
pub(crate) struct Embedded(Arc<Shared>);

/// What reads, writes, watches and the clock of the leases share.
struct Shared {
    held: Held,
    writer: Writer,
    leases: Leases,
    clock: Clock,
    progress: watch::Sender<Progress>,
    kept: Kept,
}

/// How far the store is.
#[derive(Debug, Clone)]
struct Progress {
    /// The last revision that is on the disk.
    revision: u64,
    /// Why nothing comes after it any more.
    over: Option<StoreError>,
}

impl Embedded {
    /// Opens the file, or makes it. Blocks; an interrupted earlier run is repaired here.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Disk`] or [`StoreError::Unconfirmed`] when its disk
    /// fails, [`StoreError::Open`] otherwise.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_by(path, database::file_at(path)?, Kept::default())
    }

    fn open_by(path: &Path, open: Box<Open>, kept: Kept) -> Result<Self, StoreError> {
        let (held, found) = Held::open(path, open)?;
        let shared = Arc::new(Shared {
            held,
            writer: Writer::default(),
            leases: Leases::beginning_now(found.leases),
            clock: Clock::default(),
            progress: watch::Sender::new(Progress { revision: found.revision, over: None }),
            kept,
        });
        if Handle::try_current().is_ok() {
            shared.keep_time();
        }
        Ok(Self(shared))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.0.clock.stop();
        self.0.ended(&self.0.held.close());
    }
}

impl Shared {
    /// Reads on a blocking thread.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&redb::Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.keep_time();
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || shared.held.carry_out(work)).await;
        self.heard(done.map_err(|error| StoreError::Failed(error.to_string()))?)
    }

    /// Has the writer do something.
    async fn write(self: &Arc<Self>, work: Work) -> Result<Outcome, StoreError> {
        self.keep_time();
        let answer = self.ask(work).await.await;
        self.heard(answer.unwrap_or_else(|_| Err(writer::stopped())))
    }

    /// After a failure somebody has to look whether the disk is well again, or has to be told that it will not be.
    fn heard<T>(self: &Arc<Self>, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match &done {
            Err(StoreError::Disk(_)) => self.keep_time(),
            Err(over @ StoreError::Unconfirmed { .. }) => self.ended(over),
            _ => {}
        }
        done
    }

    /// Nothing comes after this any more.
    fn ended(&self, over: &StoreError) {
        self.progress.send_if_modified(|progress| {
            let first = progress.over.is_none();
            progress.over.get_or_insert_with(|| over.clone());
            first
        });
    }
}

impl Backend for Embedded {
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<KeyValue>> {
        Box::pin(self.0.read(move |database| Ok(rows::get_all(database, &[key])?.pop().flatten())))
    }

    fn get_all(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<KeyValue>>> {
        Box::pin(self.0.read(move |database| rows::get_all(database, &keys)))
    }

    fn range(&self, prefix: Vec<u8>) -> Answer<'_, Range> {
        self.page(prefix, Vec::new(), usize::MAX)
    }

    fn page(&self, prefix: Vec<u8>, after: Vec<u8>, most: usize) -> Answer<'_, Range> {
        Box::pin(self.0.read(move |database| rows::page(database, &prefix, &after, most)))
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(self.0.write(Work::Commit(transaction)))
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        Box::pin(async move {
            let lease = leases::new_id()?;
            self.0.write(Work::Grant(lease, ttl)).await?;
            self.0.keep_time();
            Ok(lease)
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.0.keep_time();
            self.0.held.check_confirmed()?;
            self.0.leases.renew(lease)
        })
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move { self.0.write(Work::End(lease)).await.map(drop) })
    }

    fn watch(&self, prefix: Vec<u8>, after: u64) -> Box<dyn Watching> {
        Box::new(EmbeddedWatch::new(Arc::clone(&self.0), prefix, after))
    }

    fn availability(&self) -> watch::Receiver<Availability> {
        self.0.held.availability()
    }

    fn let_go(&self) {
        self.0.clock.stop();
        self.0.ended(&self.0.held.let_go());
    }
}

#[cfg(test)]
mod tests;
