//! How many joins are appraised at the same time, and how many may wait for that.

use std::sync::atomic::{AtomicUsize, Ordering};

use appraisal::{Code, Fault};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns for a number of joins at a time.
pub(crate) struct Quota {
    turns: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Quota {
    /// So many turns at a time, and so many that may wait for one.
    pub(crate) fn new((turns, most_waiting): (usize, usize)) -> Self {
        Self { turns: Semaphore::new(turns), waiting: AtomicUsize::new(0), most_waiting }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// Too many wait already.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let _waits = Waits::begin(self)?;
        self.turns.acquire().await.map_err(|_| full())
    }
}

/// One that waits, counted until this is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(quota: &'a Quota) -> Result<Self, Fault> {
        let waits = Self(&quota.waiting);
        // Counted first, so that it is taken back in either case.
        if quota.waiting.fetch_add(1, Ordering::Relaxed) >= quota.most_waiting {
            Err(full())
        } else {
            Ok(waits)
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn full() -> Fault {
    Fault::new(Code::JoinQuota, "too many joins wait already; try again in a moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_finds_too_many_waiting_is_sent_away_and_turns_come_back() {
        let quota = Quota::new((1, 1));
        let turn = quota.turn().await.unwrap();
        let waits = quota.turn();
        tokio::pin!(waits);
        let nothing_yet =
            tokio::select! { biased; _ = &mut waits => false, () = std::future::ready(()) => true };
        assert!(nothing_yet);
        assert_eq!(quota.turn().await.map(drop).unwrap_err().code, Code::JoinQuota);
        drop(turn);
        drop(waits.await.unwrap());
        assert!(quota.turn().await.is_ok());
    }
}
