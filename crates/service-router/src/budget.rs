//! How many calls may be tried again: a share of those in flight, and a few a second where there are hardly any. Retries
//! that hide a failing replica must not become the load that makes the next one fail.

use std::cell::Cell;
use std::num::NonZeroUsize;

use tokio::time::Instant;

/// Retries a second of a service, over all workers, that are allowed whatever the share is.
const FLOOR_PER_SECOND: f64 = 10.0;

/// The budget of one service on one worker.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// Calls in flight.
    calls: Cell<u32>,
    /// Those of them that are being tried again.
    retries: Cell<u32>,
    /// This worker's part of the floor, a second.
    floor_per_second: f64,
    /// What is left of the floor.
    floor: Cell<f64>,
    filled: Cell<Instant>,
}

impl RetryBudget {
    /// The budget of one of so many workers.
    pub(crate) fn new(workers: NonZeroUsize, now: Instant) -> Self {
        let floor_per_second = FLOOR_PER_SECOND / workers.get() as f64;
        Self {
            calls: Cell::new(0),
            retries: Cell::new(0),
            floor_per_second,
            // Of more workers than ten each has a whole one at first, and then one in a while.
            floor: Cell::new(floor_per_second.max(1.0)),
            filled: Cell::new(now),
        }
    }

    pub(crate) fn call_begins(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    pub(crate) fn call_ends(&self, retries: u32) {
        self.calls.set(self.calls.get() - 1);
        self.retries.set(self.retries.get() - retries);
    }

    /// Retries that are not over.
    #[cfg(test)]
    pub(crate) fn retries(&self) -> u32 {
        self.retries.get()
    }

    /// Takes one retry, if the budget has one: up to `percent` of the calls in flight, or one of the floor.
    pub(crate) fn take(&self, percent: u32, now: Instant) -> bool {
        let share = f64::from(self.calls.get()) * f64::from(percent) / 100.0;
        if f64::from(self.retries.get()) + 1.0 > share {
            let since = now.saturating_duration_since(self.filled.get()).as_secs_f64();
            let most = self.floor_per_second.max(1.0);
            let floor = (self.floor.get() + since * self.floor_per_second).min(most);
            self.filled.set(now);
            if floor < 1.0 {
                self.floor.set(floor);
                return false;
            }
            self.floor.set(floor - 1.0);
        }
        self.retries.set(self.retries.get() + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_floor_belongs_to_all_workers_together() {
        let now = Instant::now();
        for (workers, first, in_ten_seconds) in [(1, 10, 10), (4, 2, 2), (40, 1, 1)] {
            let budget = RetryBudget::new(NonZeroUsize::new(workers).unwrap(), now);
            let taken = |now| (0..1000).filter(|_| budget.take(0, now)).count();
            assert_eq!((taken(now), taken(now + Duration::from_secs(10))), (first, in_ten_seconds));
        }
        let budget = RetryBudget::new(NonZeroUsize::new(4).unwrap(), now);
        let steps = (0..25).map(|step| now + Duration::from_millis(400) * step);
        let taken: usize = steps.map(|now| (0..1000).filter(|_| budget.take(0, now)).count()).sum();
        assert_eq!(taken, 26, "2 at once, and one with each of the 24 steps");
    }

    #[test]
    fn a_share_of_the_calls_may_be_tried_again_and_ten_a_second_always() {
        let now = Instant::now();
        let budget = RetryBudget::new(NonZeroUsize::MIN, now);
        (0..100).for_each(|_| budget.call_begins());
        let taken = |now| (0..1000).filter(|_| budget.take(20, now)).count();
        assert_eq!(taken(now), 30, "20 of 100 and 10 of the floor");
        assert_eq!(taken(now + Duration::from_millis(500)), 5);
        assert_eq!(taken(now + Duration::from_secs(100)), 10);
        (0..100).for_each(|_| budget.call_ends(0));
        budget.call_begins();
        budget.call_ends(45);
        assert_eq!((budget.calls.get(), budget.retries.get()), (0, 0));
    }
}
