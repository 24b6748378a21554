//! A quota for each day in UTC: one number, so that all workers share it without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Allowed, Denied};

const SECONDS_A_DAY: u64 = 86_400;
const HALF_A_DAY: Duration = Duration::from_secs(SECONDS_A_DAY / 2);

/// How many requests a day, and how many were made today.
#[derive(Debug)]
pub struct Daily {
    quota: u32,
    state: AtomicU64,
}

/// A day since 1970, and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    day: u32,
    count: u32,
}

impl Used {
    fn of(state: u64) -> Self {
        let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).expect("it is masked to 32 bits");
        Self { day: low(state >> 32), count: low(state) }
    }

    fn state(self) -> u64 {
        (u64::from(self.day) << 32) | u64::from(self.count)
    }

    /// The same on this day. A clock that was set back begins no day anew.
    fn on(self, day: u32) -> Self {
        if day > self.day { Self { day, count: 0 } } else { self }
    }
}

impl Daily {
    /// A quota of which nothing is used.
    pub fn new(quota: u32) -> Self {
        Self { quota, state: AtomicU64::new(0) }
    }

    /// The same count under another quota.
    pub fn under(&self, quota: u32) -> Self {
        Self { quota, state: AtomicU64::new(self.state.load(Ordering::Relaxed)) }
    }

    /// How many requests a day.
    pub fn quota(&self) -> u32 {
        self.quota
    }

    /// What is left of today. Changes nothing.
    pub fn left(&self, unix: u64) -> Allowed {
        self.left_of(Used::of(self.state.load(Ordering::Relaxed)).on(day(unix)), unix)
    }

    /// Whether nothing of today is used.
    pub(crate) fn is_untouched(&self, unix: u64) -> bool {
        Used::of(self.state.load(Ordering::Relaxed)).on(day(unix)).count == 0
    }

    pub(crate) fn would_admit(&self, unix: u64) -> Result<(), Denied> {
        match self.left(unix).remaining {
            0 => Err(Denied { retry_after: until_tomorrow(unix) }),
            _ => Ok(()),
        }
    }

    /// Takes one, or says when there is more. Only an admitted request is counted.
    pub(crate) fn take(&self, unix: u64) -> Result<Allowed, Denied> {
        let mut before = self.state.load(Ordering::Relaxed);
        loop {
            let used = Used::of(before).on(day(unix));
            if used.count >= self.quota {
                return Err(Denied { retry_after: until_tomorrow(unix) });
            }
            let after = Used { count: used.count + 1, ..used };
            // The number stands for itself and guards no other memory, so no ordering is needed.
            let exchanged =
                self.state.compare_exchange_weak(before, after.state(), Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return Ok(self.left_of(after, unix)),
                Err(other) => before = other,
            }
        }
    }

    /// Takes over what came of a request that somebody else has counted: at least so much of the day is used here from now on.
    pub fn counted_elsewhere(&self, counted: Result<Allowed, Denied>, unix: u64) {
        let (remaining, rest_of_day) = match counted {
            Ok(left) => (left.remaining, left.reset),
            Err(denied) => (0, denied.retry_after),
        };
        // By the other's clock it may still be the day before, or the next one already.
        if rest_of_day.abs_diff(until_tomorrow(unix)) > HALF_A_DAY {
            return;
        }
        let used = Used { day: day(unix), count: self.quota.saturating_sub(remaining) };
        // The day stands before the count, so that the greater number is the later day, or the same with more used.
        self.state.fetch_max(used.state(), Ordering::Relaxed);
    }

    /// Takes a request of this day back.
    pub(crate) fn give_back(&self, unix: u64) {
        let less = |state: u64| {
            let used = Used::of(state);
            let today = used.day == day(unix) && used.count > 0;
            today.then(|| Used { count: used.count - 1, ..used }.state())
        };
        let _nothing_on_another_day =
            self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err();
    }

    fn left_of(&self, used: Used, unix: u64) -> Allowed {
        Allowed { remaining: self.quota.saturating_sub(used.count), reset: until_tomorrow(unix) }
    }
}

fn day(unix: u64) -> u32 {
    u32::try_from(unix / SECONDS_A_DAY).unwrap_or(u32::MAX)
}

fn until_tomorrow(unix: u64) -> Duration {
    Duration::from_secs(SECONDS_A_DAY - unix % SECONDS_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * SECONDS_A_DAY + SECONDS_A_DAY / 2;

    #[test]
    fn a_quota_is_for_a_day_in_utc_and_a_denial_counts_nothing() {
        let daily = Daily::new(2);
        assert_eq!(daily.take(NOON).unwrap(), Allowed { remaining: 1, reset: Duration::from_secs(43_200) });
        assert_eq!(daily.take(NOON).unwrap().remaining, 0);
        let denied = Denied { retry_after: Duration::from_secs(43_199) };
        assert_eq!((daily.take(NOON + 1), daily.would_admit(NOON + 1)), (Err(denied), Err(denied)));
        daily.give_back(NOON + 1);
        assert_eq!(daily.take(NOON + 2).unwrap().remaining, 0);
        assert_eq!(daily.left(NOON + 43_200).remaining, 2);
        assert_eq!(daily.take(NOON + 43_200).unwrap().remaining, 1);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_no_day_anew_and_gives_nothing_back() {
        let daily = Daily::new(1);
        assert!(daily.take(NOON).is_ok());
        assert!(daily.take(NOON - SECONDS_A_DAY).is_err());
        daily.give_back(NOON - SECONDS_A_DAY);
        assert!(daily.take(NOON).is_err());
    }

    #[test]
    fn what_was_counted_elsewhere_is_used_here_too_and_gives_nothing_back() {
        let (daily, evening) = (Daily::new(10), NOON + SECONDS_A_DAY / 2 - 1);
        let left = |remaining, seconds| Ok(Allowed { remaining, reset: Duration::from_secs(seconds) });
        daily.counted_elsewhere(left(6, 2), evening);
        daily.counted_elsewhere(left(8, 1), evening);
        assert_eq!((daily.left(evening).remaining, daily.take(evening).unwrap().remaining), (6, 5));
        let tomorrow = evening + 1;
        daily.counted_elsewhere(Err(Denied { retry_after: Duration::from_secs(1) }), tomorrow);
        assert_eq!(daily.left(tomorrow).remaining, 10, "by the other's clock it was the day before");
        daily.counted_elsewhere(left(9, 86_400), evening);
        assert_eq!(daily.left(evening).remaining, 5, "by the other's clock it was the next one");
        daily.counted_elsewhere(Err(Denied { retry_after: Duration::from_secs(86_400) }), tomorrow);
        assert!(daily.take(tomorrow).is_err());
    }

    #[test]
    fn another_quota_keeps_what_was_used() {
        let daily = Daily::new(3);
        assert!((0..3).all(|_| daily.take(NOON).is_ok()));
        assert_eq!(daily.under(10).left(NOON).remaining, 7);
        assert_eq!(daily.under(2).left(NOON).remaining, 0);
    }
}
