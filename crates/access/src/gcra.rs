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

/// The bucket of one key, shared by all workers.
///
/// In any stretch of time no more than the burst and the rate's share of that time is admitted, whichever threads ask.
#[derive(Debug)]
pub struct Gcra {
    rate: Rate,
    burst: u32,
    emission_ns: u64,
    /// How far the theoretical arrival time may lie ahead: the time that a whole burst takes to be free again.
    depth_ns: u64,
    /// The theoretical arrival time.
    full_at_ns: AtomicU64,
}

/// An admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// How many more are admitted at this very moment.
    pub remaining: u32,
    /// After which time without a request the whole burst is there again.
    pub reset: Duration,
}

/// A refused request. It used nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// After which time the next request is admitted, if no other comes first. Never zero.
    pub retry_after: Duration,
}

impl Gcra {
    /// A full bucket. `burst` is how many requests may come at once, at least 1; 0 counts as 1.
    pub fn new(rate: Rate, burst: u32) -> Self {
        let emission_ns = rate.emission_ns();
        let burst = burst.max(1);
        let depth_ns = emission_ns.saturating_mul(burst.into()).min(HORIZON_NS);
        Self { rate, burst, emission_ns, depth_ns, full_at_ns: AtomicU64::new(0) }
    }

    /// This bucket under another rate: what was used of the burst stays used, and at most all of the new burst. A key that
    /// is raised to a better tier need not wait for what it owes by the old one; changing a tier refills nothing.
    pub fn at_rate(&self, rate: Rate, burst: u32, now_ns: u64) -> Self {
        let mut changed = Self::new(rate, burst);
        let owed = self.full_at_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let owed = u128::from(owed) * u128::from(changed.emission_ns) / u128::from(self.emission_ns);
        let owed = u64::try_from(owed).unwrap_or(u64::MAX).min(changed.depth_ns);
        *changed.full_at_ns.get_mut() = now_ns.saturating_add(owed);
        changed
    }

    /// The rate in the long run.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How many requests may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Admits one request, or says when to come again. Only an admitted one changes the bucket.
    pub fn check(&self, now_ns: u64) -> Result<Allowed, Denied> {
        let latest = now_ns.saturating_add(self.depth_ns);
        let after_one_more = |full_at: u64| full_at.max(now_ns).saturating_add(self.emission_ns);
        // The number stands for itself and guards no other memory, so no ordering is needed.
        let admitted = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(after_one_more(full_at)).filter(|&full_at| full_at <= latest)
        });
        match admitted {
            Ok(before) => Ok(self.allowed(after_one_more(before) - now_ns)),
            Err(full_at) => {
                Err(Denied { retry_after: Duration::from_nanos(after_one_more(full_at) - latest) })
            }
        }
    }

    fn allowed(&self, owed_ns: u64) -> Allowed {
        let remaining = (self.depth_ns - owed_ns) / self.emission_ns;
        Allowed {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(owed_ns),
        }
    }
}

#[cfg(test)]
mod tests;
