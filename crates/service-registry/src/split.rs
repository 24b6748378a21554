//! How the calls of a service are divided between a version that comes and those that are there, and how both sides answer.
//!
//! The part is written by whoever rolls a version out. Each worker of the gateway counts its own calls, in memory that nobody
//! else writes, and whoever wants to know adds them up; where nothing is divided nothing is counted here.

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Calls, Version};

/// Steps within each power of two: what is read is at most a sixteenth above what was measured.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2^36 microseconds, 19 hours; no call is longer.
const MAX_BITS: u32 = 36;
const BUCKETS: usize = STEPS * (MAX_BITS - STEP_BITS + 1) as usize;

/// How the calls that name no version are divided.
#[derive(Debug, Clone)]
pub struct Split {
    /// The version that has a part of them.
    pub to: Version,
    /// Its part, 0 to 100 percent. With 0 it is called by nobody who does not name it.
    pub percent: u8,
    /// How both sides have answered since it is this version that has a part.
    pub answered: Arc<Answered>,
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The version that has a part.
    Target,
    /// All others.
    Stable,
}

/// How calls of both sides have ended, over all workers.
#[derive(Default)]
pub struct Answered {
    target: Mutex<Vec<Arc<Tally>>>,
    stable: Mutex<Vec<Arc<Tally>>>,
}

/// What one worker counts of one side. Only that worker writes it.
#[repr(align(64))]
pub struct Tally {
    all: AtomicU64,
    failed: AtomicU64,
    latencies: [AtomicU64; BUCKETS],
}

/// How calls of one side have ended, up to one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Sample {
    /// The calls, and those of them that failed.
    pub calls: Calls,
    latencies: Box<[u64; BUCKETS]>,
}

impl Split {
    /// This version has this part from now on, at most all.
    pub fn new(to: Version, percent: u8) -> Self {
        Self { to, percent: percent.min(100), answered: Arc::default() }
    }

    /// On which side a version is.
    pub fn side(&self, version: &Version) -> Side {
        if *version == self.to { Side::Target } else { Side::Stable }
    }
}

impl Answered {
    /// A tally of its own for a worker; what it has counted stays counted when the worker drops it.
    pub fn begin(&self, side: Side) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.side(side).lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tally));
        tally
    }

    /// Everything so far. What came since an earlier look, [`Sample::since`] says.
    pub fn sample(&self, side: Side) -> Sample {
        let tallies = self.side(side).lock().unwrap_or_else(PoisonError::into_inner);
        let mut sample = Sample::default();
        tallies.iter().for_each(|tally| sample.add(tally));
        sample
    }

    fn side(&self, side: Side) -> &Mutex<Vec<Arc<Tally>>> {
        match side {
            Side::Target => &self.target,
            Side::Stable => &self.stable,
        }
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = |side| self.sample(side).calls;
        let mut shown = formatter.debug_struct("Answered");
        shown.field("target", &calls(Side::Target)).field("stable", &calls(Side::Stable)).finish()
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            all: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latencies: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Tally {
    /// A call is over, or as good as over.
    pub fn add_call(&self) {
        add_one(&self.all);
    }

    /// One of the calls has failed.
    pub fn add_failure(&self) {
        add_one(&self.failed);
    }

    /// A call was answered after this time.
    pub fn add_latency(&self, latency: Duration) {
        add_one(&self.latencies[bucket(latency)]);
    }
}

/// There is one writer, so nothing is lost between the two.
fn add_one(number: &AtomicU64) {
    number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Each microsecond has a bucket of its own at first, and each sixteenth of a power of two later.
fn bucket(latency: Duration) -> usize {
    let longest = (1 << MAX_BITS) - 1;
    let micros = u64::try_from(latency.as_micros()).unwrap_or(longest).min(longest);
    let bits = u64::BITS - micros.leading_zeros();
    let octave = bits.saturating_sub(STEP_BITS + 1);
    STEPS * octave as usize + (micros >> octave) as usize
}

/// The longest latency of a bucket.
fn upper_bound(bucket: usize) -> Duration {
    let octave = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - STEPS * octave) as u64;
    Duration::from_micros(((step + 1) << octave) - 1)
}

impl Default for Sample {
    fn default() -> Self {
        Self { calls: Calls::default(), latencies: Box::new([0; BUCKETS]) }
    }
}

impl Sample {
    /// What came after an earlier look.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        self.calls = self.calls.since(before.calls);
        let pairs = self.latencies.iter_mut().zip(before.latencies.iter());
        pairs.for_each(|(count, before)| *count = count.saturating_sub(*before));
        self
    }

    /// Within this time 99 of 100 of the calls were answered that were; at most a sixteenth too long. `None` where there were
    /// none.
    pub fn p99(&self) -> Option<Duration> {
        let all: u64 = self.latencies.iter().sum();
        let rank = (all * 99).div_ceil(100);
        let mut seen = 0;
        let found = self.latencies.iter().position(|count| {
            seen += count;
            rank > 0 && seen >= rank
        });
        found.map(upper_bound)
    }

    fn add(&mut self, tally: &Tally) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        // A call is counted before it is counted as failed, so they are read the other way round.
        let failed = read(&tally.failed);
        self.calls = self.calls.plus(Calls { failed, all: read(&tally.all) });
        let pairs = self.latencies.iter_mut().zip(&tally.latencies);
        pairs.for_each(|(sum, count)| *sum += read(count));
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sample").field("calls", &self.calls).field("p99", &self.p99()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_has_a_bucket_that_is_at_most_a_sixteenth_too_long() {
        let mut before = 0;
        let exact = (0..4_000).chain((12..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]));
        for micros in exact {
            let found = bucket(Duration::from_micros(micros));
            assert!(found >= before && found < BUCKETS, "{micros}");
            before = found;
            if micros < 1 << MAX_BITS {
                let bound = u64::try_from(upper_bound(found).as_micros()).unwrap();
                assert!(bound >= micros && bound - micros <= micros / 16, "{micros} in {bound}");
            }
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_all_workers_have_counted_is_one_sample_of_each_side() {
        let split = Split::new("1.1.0".into(), 250);
        assert_eq!(split.percent, 100);
        assert_eq!(split.side(&"1.1.0".into()), Side::Target);
        assert_eq!(split.side(&"1.0.0".into()), Side::Stable);
        let sample = |side| split.answered.sample(side);
        assert_eq!((sample(Side::Target).calls, sample(Side::Target).p99()), (Calls::default(), None));
        let (one, two) = (split.answered.begin(Side::Target), split.answered.begin(Side::Target));
        for _ in 0..98 {
            one.add_call();
            one.add_latency(Duration::from_micros(10));
        }
        two.add_call();
        two.add_latency(Duration::from_micros(14));
        assert_eq!(sample(Side::Target).p99(), Some(Duration::from_micros(14)));
        two.add_call();
        two.add_failure();
        drop(two);
        let all = sample(Side::Target);
        assert_eq!(all.calls, Calls { all: 100, failed: 1 });
        assert_eq!(sample(Side::Stable).calls, Calls::default());
        // From a later moment on only what comes then.
        one.add_call();
        one.add_latency(Duration::from_secs(1));
        let later = sample(Side::Target).since(&all);
        assert_eq!(later.calls, Calls { all: 1, failed: 0 });
        let p99 = later.p99().unwrap();
        assert!(p99 >= Duration::from_secs(1) && p99 < Duration::from_millis(1_063), "{p99:?}");
    }
}
