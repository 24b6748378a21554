//! The writer: of all who ask for a write, one begins it on a blocking thread, and that thread goes on for as long as others
//! ask. It takes everything that waits, carries it out in one write transaction of the file, has the disk confirm it once, and
//! then answers all.
//!
//! It is no thread that waits for work: where nothing is written there is nothing to end, and while something is, a paused clock
//! stands still.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::database::failed;
use super::history::Kept;
use super::tables::{Left, Tables};
use crate::{LeaseId, Operation, Outcome, StoreError, Transaction};

/// Writes that wait for the writer; whoever comes after them waits for room.
const QUEUED_WRITES: usize = 1_024;
/// Writes that the disk confirms at once.
const BATCH_WRITES: usize = 256;
/// Keys and values of them together, in bytes, but for one that is larger by itself.
const BATCH_BYTES: usize = 4 << 20;

pub(super) type Answer = oneshot::Receiver<Result<Outcome, StoreError>>;

/// What is to be written.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Transaction),
    Grant(LeaseId, Duration),
    End(LeaseId),
    /// Nothing, but the disk has to confirm it.
    Nothing,
}

/// What waits to be written.
pub(super) struct Writer {
    queue: Mutex<Queue>,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether somebody is at it.
    is_written: bool,
}

struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
    _room: OwnedSemaphorePermit,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), room: Arc::new(Semaphore::new(QUEUED_WRITES)) }
    }
}

impl Writer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn bytes(&self) -> usize {
        let Self::Commit(transaction) = self else { return 0 };
        transaction.operations.iter().map(Operation::bytes).sum()
    }

    /// What is refused by itself is an `Ok(Err(…))`; an `Err` concerns everything that is written at once.
    fn carry_out(&self, tables: &mut Tables<'_>) -> Result<Result<Outcome, StoreError>, StoreError> {
        let done = match self {
            Self::Commit(transaction) => tables.commit(transaction),
            Self::Grant(lease, ttl) => tables.grant(*lease, *ttl),
            Self::End(lease) => tables.end(*lease),
            Self::Nothing => Ok(tables.touch()),
        };
        match done {
            Err(refused @ (StoreError::LeaseEnded(_) | StoreError::Damaged(_))) => Ok(Err(refused)),
            Err(other) => Err(other),
            Ok(outcome) => Ok(Ok(outcome)),
        }
    }
}

/// The answer of a write that nobody carries out.
pub(super) fn stopped() -> StoreError {
    StoreError::Failed("it was stopped before it came to this".to_owned())
}

impl Shared {
    /// Puts something in the queue, once there is room.
    pub(super) async fn ask(self: &Arc<Self>, work: Work) -> Answer {
        let room = Arc::clone(&self.writer.room).acquire_owned().await.expect("it is never closed");
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.writer.queue();
            queue.jobs.push_back(Job { work, answer, _room: room });
            !std::mem::replace(&mut queue.is_written, true)
        };
        if begins {
            let writing = Writing { shared: Arc::clone(self), is_done: false };
            tokio::task::spawn_blocking(move || writing.write_all());
        }
        answered
    }

    /// Blocks.
    fn write_batch(&self, batch: Vec<Job>) {
        let kept = self.kept;
        let done = self.held.carry_out(|database| write(database, &batch, kept));
        let answers = match done {
            Ok((answers, left)) => {
                self.written(&batch, &answers, left);
                answers
            }
            Err(error) => {
                if let StoreError::Unconfirmed { .. } = error {
                    self.ended(&error);
                }
                vec![Err(error); batch.len()]
            }
        };
        for (job, answer) in batch.into_iter().zip(answers) {
            let _nobody_waits = job.answer.send(answer);
        }
    }

    /// Makes known what is on the disk, before anybody is answered.
    fn written(&self, batch: &[Job], answers: &[Result<Outcome, StoreError>], left: Left) {
        for (job, _) in batch.iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
            match job.work {
                Work::Grant(lease, ttl) => self.leases.begin(lease, ttl),
                Work::End(lease) => self.leases.forget(lease),
                Work::Commit(_) | Work::Nothing => {}
            }
        }
        if left.is_changed {
            self.held.is_well();
        }
        self.progress.send_if_modified(|progress| {
            let is_new = progress.revision < left.revision;
            progress.revision = progress.revision.max(left.revision);
            is_new
        });
    }
}

/// Whoever is writing. However it ends, somebody else can begin.
struct Writing {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Writing {
    fn write_all(mut self) {
        while let Some(batch) = self.next() {
            self.shared.write_batch(batch);
        }
    }

    /// What waits, as much as is written at once; once nothing does, the next to ask begins anew.
    fn next(&mut self) -> Option<Vec<Job>> {
        let mut queue = self.shared.writer.queue();
        let (mut bytes, mut count) = (0, 0);
        for job in queue.jobs.iter().take(BATCH_WRITES) {
            bytes += job.work.bytes();
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        self.is_done = count == 0;
        queue.is_written = !self.is_done;
        (!self.is_done).then(|| queue.jobs.drain(..count).collect())
    }
}

impl Drop for Writing {
    /// It was not let begin, or not to its end: its runtime is no more. Whoever waits learns of it by the answer being dropped.
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = self.shared.writer.queue();
            queue.jobs.clear();
            queue.is_written = false;
        }
    }
}

type Written = (Vec<Result<Outcome, StoreError>>, Left);

fn write(database: &Database, batch: &[Job], kept: Kept) -> Result<Written, StoreError> {
    let write = database.begin_write().map_err(failed)?;
    let mut tables = Tables::open(&write)?;
    let answers = batch.iter().map(|job| job.work.carry_out(&mut tables));
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    let left = tables.finish(kept)?;
    if left.is_changed {
        write.commit().map_err(failed)?;
    }
    Ok((answers, left))
}
