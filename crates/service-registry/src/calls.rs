//! How many calls an instance got and how many of them failed. Each worker counts its own, and whoever wants to know adds
//! them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A number of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// All of them.
    pub all: u64,
    /// Those that failed.
    pub failed: u64,
}

/// What one worker counts of its calls to an instance. Only that worker writes it, in memory that nobody else writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CallCount {
    all: AtomicU64,
    failed: AtomicU64,
}

/// The counts of all workers.
#[derive(Debug, Default)]
pub struct CallCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    counting: Vec<Arc<CallCount>>,
    /// Of those that count no more.
    ended: Calls,
}

impl CallCount {
    /// A call is over, or as good as over.
    pub fn add_call(&self) {
        add_one(&self.all);
    }

    /// One of the calls has failed.
    pub fn add_failure(&self) {
        add_one(&self.failed);
    }

    fn value(&self) -> Calls {
        Calls { all: self.all.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }
}

/// There is one writer, so nothing is lost between the two.
fn add_one(number: &AtomicU64) {
    number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl CallCounts {
    /// A count of its own for a worker; what it has counted stays counted when the worker drops it.
    pub fn begin(&self) -> Arc<CallCount> {
        let count = Arc::<CallCount>::default();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.keep_ended();
        counts.counting.push(Arc::clone(&count));
        count
    }

    /// All calls so far.
    pub fn total(&self) -> Calls {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.counting.iter().fold(counts.ended, |total, count| total.plus(count.value()))
    }
}

impl Counts {
    /// Workers come back to an instance as often as its health changes, so what they have left is not kept apart.
    fn keep_ended(&mut self) {
        let Self { counting, ended } = self;
        counting.retain(|count| {
            let goes_on = Arc::strong_count(count) > 1;
            if !goes_on {
                *ended = ended.plus(count.value());
            }
            goes_on
        });
    }
}

impl Calls {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { all: self.all + other.all, failed: self.failed + other.failed }
    }

    /// Those that came after an earlier look.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let Self { all, failed } = before;
        Self { all: self.all.saturating_sub(all), failed: self.failed.saturating_sub(failed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_has_counted_stays_counted_when_it_is_gone() {
        let counts = CallCounts::default();
        for _ in 0..100 {
            let (one, two) = (counts.begin(), counts.begin());
            one.add_call();
            two.add_call();
            two.add_failure();
        }
        assert_eq!(counts.total(), Calls { all: 200, failed: 100 });
        let kept = counts.begin();
        assert_eq!(counts.0.lock().unwrap().counting.len(), 1, "the others are not kept apart");
        kept.add_call();
        assert_eq!(counts.total().since(Calls { all: 200, failed: 100 }), Calls { all: 1, failed: 0 });
    }
}
