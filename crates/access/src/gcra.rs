//! The generic cell rate algorithm (ITU-T I.371, annex A, as virtual scheduling): a bucket as one number, the theoretical
//! arrival time. All of the bucket's room is free again at that moment; each request moves it on by one emission interval.
//!
//! It reads no clock: the caller says what time it is, in nanoseconds since any moment that is the same for all who share
//! the bucket, and less than 292 years ago.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No interval is longer, so that no sum with a time of day overflows: 292 years.
const HORIZON_NS: u64 = u64::MAX / 2;

/// How many requests in which time, in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests, at least 1; 0 counts as 1.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// The time between two requests of a steady stream, in nanoseconds and rounded up: a key gets at most its rate, and less
    /// than a nanosecond a request too little. Nothing is rounded after this, so the error does not grow.
    fn emission_ns(self) -> u64 {
        let interval = self.per.as_nanos().div_ceil(u128::from(self.count.max(1)));
        u64::try_from(interval).unwrap_or(HORIZON_NS).clamp(1, HORIZON_NS)
    }
}

/// A rate and a burst, with the numbers that follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    rate: Rate,
    burst: u32,
    emission_ns: u64,
    /// How far the theoretical arrival time may lie ahead: the time that a whole burst takes to be free again.
    depth_ns: u64,
}

impl Limit {
    /// `burst` is how many requests may come at once, at least 1; 0 counts as 1.
    pub fn new(rate: Rate, burst: u32) -> Self {
        let emission_ns = rate.emission_ns();
        let burst = burst.max(1);
        let depth_ns = emission_ns.saturating_mul(burst.into()).min(HORIZON_NS);
        Self { rate, burst, emission_ns, depth_ns }
    }

    /// The rate in the long run.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How many requests may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// How long an empty bucket takes to be full again.
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.depth_ns)
    }

    /// How long one request takes to be free again.
    pub fn emission(&self) -> Duration {
        Duration::from_nanos(self.emission_ns)
    }

    /// The theoretical arrival time after one request more.
    pub(crate) fn after_one_more(&self, full_at: u64, now_ns: u64) -> Result<u64, Denied> {
        let latest = now_ns.saturating_add(self.depth_ns);
        let next = full_at.max(now_ns).saturating_add(self.emission_ns);
        if next > latest {
            return Err(Denied { retry_after: Duration::from_nanos(next - latest) });
        }
        Ok(next)
    }

    /// A theoretical arrival time that another limit has left, under this one: what was used of the burst stays used, and at most
    /// all of this burst.
    pub(crate) fn converted(&self, full_at: u64, before: &Self, now_ns: u64) -> u64 {
        let owed = u128::from(full_at.saturating_sub(now_ns));
        let owed = owed * u128::from(self.emission_ns) / u128::from(before.emission_ns);
        now_ns.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX).min(self.depth_ns))
    }

    /// What is owed of it, by what came of a request that somebody else has counted, in nanoseconds.
    pub(crate) fn owed_ns(&self, counted: Result<Allowed, Denied>) -> u64 {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let owed = match counted {
            Ok(left) => nanoseconds(left.reset),
            // One more would be more than all of it by just that time.
            Err(denied) => nanoseconds(denied.retry_after).saturating_add(self.depth_ns - self.emission_ns),
        };
        owed.min(self.depth_ns)
    }

    /// What is left at a theoretical arrival time.
    pub(crate) fn left(&self, full_at: u64, now_ns: u64) -> Allowed {
        let owed_ns = full_at.saturating_sub(now_ns).min(self.depth_ns);
        let remaining = (self.depth_ns - owed_ns) / self.emission_ns;
        Allowed {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(owed_ns),
        }
    }
}

/// One bucket, shared by all workers.
///
/// In any stretch of time no more than the burst and the rate's share of that time is admitted, whichever threads ask.
#[derive(Debug)]
pub struct Gcra {
    limit: Limit,
    /// The theoretical arrival time.
    full_at_ns: AtomicU64,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// How many more requests are admitted at this very moment.
    pub remaining: u32,
    /// After which time without a request all of it is there again.
    pub reset: Duration,
}

/// A refused request. It used nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// After which time the next request is admitted, if no other comes first. Never zero.
    pub retry_after: Duration,
}

/// What was taken from a bucket, to be given back if another limit refuses the request after all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    full_at_ns: u64,
    pub(crate) left: Allowed,
}

impl Gcra {
    /// A full bucket.
    pub fn new(limit: Limit) -> Self {
        Self { limit, full_at_ns: AtomicU64::new(0) }
    }

    /// This bucket under another limit: what was used of the burst stays used, and at most all of the new burst. A key that
    /// is raised to a better tier need not wait for what it owes by the old one; changing a tier refills nothing.
    pub fn under(&self, limit: Limit, now_ns: u64) -> Self {
        let full_at_ns = limit.converted(self.full_at_ns.load(Ordering::Relaxed), &self.limit, now_ns);
        Self { limit, full_at_ns: AtomicU64::new(full_at_ns) }
    }

    /// How much it admits.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// What is left of it. Changes nothing.
    pub fn left(&self, now_ns: u64) -> Allowed {
        self.limit.left(self.full_at_ns.load(Ordering::Relaxed), now_ns)
    }

    /// Whether all of it is there.
    pub(crate) fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= now_ns
    }

    /// Whether a request would be admitted. Changes nothing.
    pub(crate) fn would_admit(&self, now_ns: u64) -> Result<(), Denied> {
        self.limit.after_one_more(self.full_at_ns.load(Ordering::Relaxed), now_ns).map(drop)
    }

    /// Admits one request, or says when to come again. Only an admitted one changes the bucket.
    pub fn check(&self, now_ns: u64) -> Result<Allowed, Denied> {
        self.take(now_ns).map(|taken| taken.left)
    }

    /// Takes over what came of a request that somebody else has counted: at least so much is used here from now on.
    pub fn counted_elsewhere(&self, counted: Result<Allowed, Denied>, now_ns: u64) {
        let full_at_ns = now_ns.saturating_add(self.limit.owed_ns(counted));
        self.full_at_ns.fetch_max(full_at_ns, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, now_ns: u64) -> Result<Taken, Denied> {
        let mut before = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let full_at_ns = self.limit.after_one_more(before, now_ns)?;
            // The number stands for itself and guards no other memory, so no ordering is needed.
            let exchanged = self.full_at_ns.compare_exchange_weak(
                before,
                full_at_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => return Ok(Taken { full_at_ns, left: self.limit.left(full_at_ns, now_ns) }),
                Err(other) => before = other,
            }
        }
    }

    /// Takes a request back. If another one came meanwhile it stays counted: rather one too few than one too many.
    pub(crate) fn give_back(&self, taken: Taken) {
        let before = taken.full_at_ns - self.limit.emission_ns;
        let _stays_counted = self
            .full_at_ns
            .compare_exchange(taken.full_at_ns, before, Ordering::Relaxed, Ordering::Relaxed)
            .is_err();
    }
}

#[cfg(test)]
mod tests;
