//! Writes into the mirror what changes in etcd: everything at first, and what a watch over the whole namespace tells then.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::file::{Batch, MirrorFile};
use crate::backend::Backend;
use crate::etcd::Etcd;
use crate::{Availability, StoreError, Watched};

/// Between two writes, so that the disk confirms no more than one a second.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is written that nothing has changed.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(60);
/// Changes that wait to be written, in bytes; with more of them it does not wait.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// How soon it is tried again to follow.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows etcd.
pub(super) struct Follower {
    etcd: Arc<Etcd>,
    file: Arc<MirrorFile>,
    /// What is not written yet; nothing before everything was read.
    waiting: Mutex<Option<Batch>>,
    /// Up to which revision the mirror is whole.
    written: watch::Sender<u64>,
}

impl Follower {
    pub(super) fn new(etcd: Arc<Etcd>, file: Arc<MirrorFile>) -> Self {
        Self { etcd, file, waiting: Mutex::new(None), written: watch::Sender::new(0) }
    }

    /// Follows for ever.
    pub(super) async fn follow(&self) {
        let mut failing = false;
        loop {
            let Err(error) = self.follow_until_it_fails(&mut failing).await;
            *self.waiting() = None;
            match error {
                // Everything is read again.
                StoreError::Compacted { .. } => continue,
                // That etcd is away is said elsewhere.
                StoreError::Unreachable(_) => {}
                error => {
                    if !failing {
                        let path = self.file.path().display();
                        tracing::warn!(%path, %error, "the mirror of etcd is not written, so a start without etcd would find an older one");
                    }
                    failing = true;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn follow_until_it_fails(&self, failing: &mut bool) -> Result<Infallible, StoreError> {
        let seen = self.etcd.look().await?;
        let range = self.etcd.range(Vec::new()).await?;
        let mut watch = self.etcd.watch(Vec::new(), range.revision);
        self.write(Batch::whole(seen.cluster, range)).await?;
        *failing = false;
        let mut last = Instant::now();
        loop {
            let interval = match &*self.waiting() {
                Some(waiting) if waiting.bytes() >= MAX_WAITING_BYTES => Duration::ZERO,
                Some(waiting) if !waiting.is_empty() => WRITE_INTERVAL,
                _ => CONFIRM_INTERVAL,
            };
            tokio::select! {
                () = sleep_until(last + interval) => {
                    last = Instant::now();
                    self.write_what_waits().await?;
                }
                watched = watch.next() => if let Watched::Changes(changes) = watched?
                    && let Some(waiting) = &mut *self.waiting()
                {
                    waiting.take(changes);
                },
            }
        }
    }

    async fn write_what_waits(&self) -> Result<(), StoreError> {
        let batch = {
            let mut waiting = self.waiting();
            let Some(revision) = waiting.as_ref().map(Batch::revision) else { return Ok(()) };
            // While nobody answers, nobody says that nothing has changed.
            let is_away = *self.etcd.availability().borrow() != Availability::Available;
            if is_away && waiting.as_ref().is_some_and(Batch::is_empty) {
                return Ok(());
            }
            waiting.replace(Batch::after(revision))
        };
        match batch {
            Some(batch) => self.write(batch).await,
            None => Ok(()),
        }
    }

    async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let (file, revision) = (Arc::clone(&self.file), batch.revision());
        let written = tokio::task::spawn_blocking(move || {
            let written = file.write(&batch, SystemTime::now());
            if matches!(written, Err(StoreError::Failed(_) | StoreError::Damaged(_))) {
                file.discard();
            }
            written
        });
        written.await.map_err(|error| StoreError::Failed(error.to_string()))??;
        self.waiting().get_or_insert_with(|| Batch::after(revision));
        self.written.send_replace(revision);
        Ok(())
    }

    /// Writes what waits, once nobody follows any more, and lets go of the file. Blocks. It is refused where what comes before it
    /// was not written.
    pub(super) fn write_the_rest(&self) {
        let waiting = self.waiting().take();
        if let Some(batch) = waiting.filter(|batch| !batch.is_empty()) {
            let _read_again_at_the_next_start = self.file.write(&batch, SystemTime::now());
        }
        self.file.close();
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Batch>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }
}
