//! The clock: ends the leases that were not renewed, and looks whether a disk without room has some again. It is a task, which
//! whoever uses the store begins, so that it keeps the time of their runtime, which tests pause; where there is neither a lease
//! nor a failure, there is none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::writer::{self, Work};
use crate::{Availability, StoreError};

/// How long after a failure of the disk it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The task, if there is one.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<JoinHandle<()>>>);

impl Clock {
    pub(super) fn stop(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.progress.borrow().over.is_some()
    }

    fn is_away(&self) -> bool {
        *self.held.availability().borrow() != Availability::Available
    }

    /// Sees to it that there is a clock if one is needed: the last one may have ended with its runtime.
    pub(super) fn keep_time(self: &Arc<Self>) {
        let mut task = self.clock.task();
        let is_running = task.as_ref().is_some_and(|task| !task.is_finished());
        if !is_running && !self.is_over() && (self.is_away() || self.leases.first_end().is_some()) {
            *task = Some(tokio::spawn(tick(Arc::clone(self))));
        }
    }

    /// When there is something to do.
    fn due(&self, not_before: Instant) -> Option<Instant> {
        if self.is_away() {
            return Some(not_before);
        }
        self.leases.first_end().map(|end| end.max(not_before))
    }

    async fn attend(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut asked = Vec::new();
        if self.is_away() {
            asked.push(self.ask(Work::Nothing).await);
        }
        for lease in self.leases.over() {
            asked.push(self.ask(Work::End(lease)).await);
        }
        for answer in asked {
            self.heard(answer.await.unwrap_or_else(|_| Err(writer::stopped())))?;
        }
        Ok(())
    }
}

async fn tick(shared: Arc<Shared>) {
    let mut availability = shared.held.availability();
    let mut not_before = Instant::now();
    while !shared.is_over() {
        let due = shared.due(not_before);
        tokio::select! {
            () = sleep_until(due.unwrap_or(not_before)), if due.is_some() => {
                if shared.attend().await.is_err() {
                    not_before = Instant::now() + RETRY;
                }
            }
            () = shared.leases.begun.notified() => {}
            _ = availability.changed() => {}
        }
    }
}
