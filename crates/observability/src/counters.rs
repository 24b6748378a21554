//! Counters that one thread writes and any thread reads.
//!
//! One writer means that an increment is a load and a store, not a locked instruction: half a nanosecond.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows. One thread writes it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks. One thread writes it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    pub fn add_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes one off.
    pub fn take_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of the latency buckets, in milliseconds.
pub const LATENCY_BUCKETS_MS: [f64; 14] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// The same bounds in microseconds, as they are compared: filled up to four vectors with bounds that nothing exceeds.
const BOUNDS_US: [i32; 16] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    i32::MAX,
    i32::MAX,
];

/// A latency histogram over [`LATENCY_BUCKETS_MS`]. One thread writes it. The sum stands beside the buckets of short times.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram {
    sum_us: Counter,
    /// Not cumulative; the last one is above the last bound.
    buckets: [Counter; 15],
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, latency: Duration) {
        let whole_seconds = latency.as_secs().saturating_mul(1_000_000);
        let micros = whole_seconds.saturating_add(latency.subsec_micros().into());
        self.buckets[bucket(micros)].add_one();
        self.sum_us.add(micros);
    }

    /// The observations in each bucket, and their sum in microseconds.
    pub fn value(&self) -> ([u64; 15], u64) {
        (self.buckets.each_ref().map(Counter::value), self.sum_us.value())
    }
}

/// The first bucket whose bound is not exceeded. All bounds are compared, since that needs no branch that depends on the
/// latency, which no processor can foresee.
fn bucket(micros: u64) -> usize {
    let micros = i32::try_from(micros).unwrap_or(i32::MAX);
    BOUNDS_US.iter().map(|bound| u32::from(micros > *bound)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_into_the_first_bucket_that_holds_it() {
        let around = |ms: &f64| [-1.0, 0.0, 1.0].map(|micros| (ms * 1e3 + micros) as u64);
        let latencies = LATENCY_BUCKETS_MS.iter().flat_map(around);
        for micros in latencies.chain([0, i32::MAX as u64, i32::MAX as u64 + 1, u64::MAX]) {
            let first = LATENCY_BUCKETS_MS.iter().position(|bound| micros as f64 / 1e3 <= *bound);
            assert_eq!(bucket(micros), first.unwrap_or(LATENCY_BUCKETS_MS.len()), "{micros}");
        }
    }

    #[test]
    fn an_observation_on_a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::default();
        for micros in [500, 501, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (buckets, sum) = histogram.value();
        assert_eq!((buckets[0], buckets[1], buckets[13], buckets[14], sum), (1, 1, 1, 1, 20_001_002));
    }
}
