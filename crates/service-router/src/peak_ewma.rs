//! The peak-EWMA latency estimate: rises at once to a higher sample, else decays exponentially, so that a replica that
//! became slow is left alone at once and is tried again after a while. The load of an endpoint is its estimate times one
//! more than the requests that it already has from this worker.

use std::cell::Cell;
use std::f64::consts::LOG2_E;
use std::time::Duration;

use tokio::time::Instant;

/// The time constant of the decay, in seconds.
const TAU: f64 = 10.0;
/// The estimate of the first endpoint of a service; later ones begin at the median of the others.
pub(crate) const FIRST_ESTIMATE: Duration = Duration::from_millis(30);
/// What a failed call counts for at least: much longer than an answer takes, for a replica that fails fast looks cheap.
const LEAST_PENALTY: f64 = 1.0;
/// How many times the usual load a failed call counts for: as dear as that it is left alone for 23 s.
const PENALTY_FACTOR: f64 = 10.0;

/// The estimate of one endpoint on one worker.
///
/// Failures are held apart from measured latencies. Were a penalty a sample like the others, it could not be relative to
/// what an answer takes without each failure raising the next one's penalty: failures that requests cause, and that all
/// replicas share, would drive the estimates apart and the traffic onto few.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    /// In seconds, at the time of the stamp.
    latency: Cell<f64>,
    /// In seconds, at the time of the stamp.
    penalty: Cell<f64>,
    stamp: Cell<Instant>,
}

impl PeakEwma {
    pub(crate) fn new(estimate: Duration, now: Instant) -> Self {
        Self { latency: Cell::new(estimate.as_secs_f64()), penalty: Cell::new(0.0), stamp: Cell::new(now) }
    }

    /// Forgets what was measured.
    pub(crate) fn begin_anew(&self, estimate: Duration, now: Instant) {
        self.latency.set(estimate.as_secs_f64());
        self.penalty.set(0.0);
        self.stamp.set(now);
    }

    /// The estimate in seconds, decayed to now.
    #[inline]
    pub(crate) fn estimate(&self, now: Instant) -> f64 {
        self.latency.get().max(self.penalty.get()) * self.weight(now)
    }

    /// The estimate in seconds as if no call had failed.
    pub(crate) fn latency(&self, now: Instant) -> f64 {
        self.latency.get() * self.weight(now)
    }

    /// Takes a measured latency in.
    pub(crate) fn observe(&self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let (estimate, weight) = (self.latency.get(), self.weight(now));
        let next = if sample > estimate { sample } else { estimate * weight + sample * (1.0 - weight) };
        self.latency.set(next);
        self.penalty.set(self.penalty.get() * weight);
        self.stamp.set(now);
    }

    /// Takes a failed call in, at ten times the usual load, but at least a second. `usual` is the [`median`] over the
    /// service of [`Self::latency`] times one more than the requests in flight: what the endpoint competes with.
    pub(crate) fn fail(&self, usual: f64, now: Instant) {
        let weight = self.weight(now);
        let penalty = (PENALTY_FACTOR * usual).max(LEAST_PENALTY);
        self.latency.set(self.latency.get() * weight);
        self.penalty.set(penalty.max(self.penalty.get() * weight));
        self.stamp.set(now);
    }

    #[inline]
    fn weight(&self, now: Instant) -> f64 {
        decay(now.saturating_duration_since(self.stamp.get()))
    }
}

/// The middle value, the upper one of two; `None` when there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// e^(-age / τ) with a relative error of at most 1.1e-4, never rising with age, and exact for 0. Two of these are taken
/// for each selection, and this takes half of the time of the library's `exp`.
///
/// It is a power of two: its whole part is the exponent of the result, and for the rest there is a cubic polynomial, the
/// best one in relative error of those that are 1 at 0 and 1/2 at -1.
#[inline]
fn decay(age: Duration) -> f64 {
    /// Beyond this many halvings there is nothing left, and the exponent would not fit.
    const MOST_HALVINGS: f64 = 1000.0;
    let seconds = age.as_secs() as f64 + f64::from(age.subsec_nanos()) * 1e-9;
    let halvings = (seconds * (LOG2_E / TAU)).min(MOST_HALVINGS);
    let whole = halvings as u64;
    let rest = whole as f64 - halvings;
    let power =
        1.0 + rest * (0.691_421_811_290_974 + rest * (0.230_555_796_370_105 + rest * 0.039_133_985_079_131));
    power * f64::from_bits((1023 - whole) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_jumps_up_and_decays_down() {
        let start = Instant::now();
        let ewma = PeakEwma::new(Duration::from_millis(10), start);
        ewma.observe(Duration::from_millis(100), start);
        assert_eq!(ewma.estimate(start), 0.1);
        let later = start + Duration::from_secs(10);
        assert!((ewma.estimate(later) - 0.1 / std::f64::consts::E).abs() < 1e-5);
        ewma.observe(Duration::from_millis(10), later);
        let estimate = ewma.estimate(later);
        assert!(0.01 < estimate && estimate < 0.05, "{estimate}");
    }

    #[test]
    fn the_decay_is_the_exponential_to_four_digits_and_never_rises() {
        let mut before = 1.0;
        for step in 0..700_000_u64 {
            let age = Duration::from_micros(step * 997);
            let (exact, near) = ((-age.as_secs_f64() / TAU).exp(), decay(age));
            assert!((near / exact - 1.0).abs() < 1.1e-4, "{near} for {exact} at {age:?}");
            assert!(near <= before, "it rises at {age:?}");
            before = near;
        }
        assert_eq!(decay(Duration::ZERO), 1.0);
        assert!((0.0..1e-300).contains(&decay(Duration::MAX)));
    }

    #[test]
    fn a_failure_costs_a_second_or_ten_times_what_is_usual_and_so_does_a_second_one() {
        let now = Instant::now();
        for (usual, penalty) in [(0.001, 1.0), (0.5, 5.0), (20.0, 200.0)] {
            let ewma = PeakEwma::new(Duration::from_millis(1), now);
            (0..2).for_each(|_| ewma.fail(usual, now));
            assert_eq!(ewma.estimate(now), penalty);
            assert_eq!(ewma.latency(now), 0.001);
        }
    }

    #[test]
    fn a_success_does_not_end_a_penalty_and_time_does() {
        let start = Instant::now();
        let ewma = PeakEwma::new(Duration::from_millis(1), start);
        ewma.fail(0.001, start);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_millis(100);
            ewma.observe(Duration::from_millis(1), now);
        }
        assert!((ewma.estimate(now) - 1.0 / std::f64::consts::E).abs() < 1e-3, "{}", ewma.estimate(now));
        let later = now + Duration::from_secs(60);
        ewma.observe(Duration::from_millis(2), later);
        assert!(ewma.estimate(later) < 0.01);
    }

    #[test]
    fn the_median_is_the_upper_of_two() {
        let median = |values: &[f64]| median(values.iter().copied());
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    }
}
