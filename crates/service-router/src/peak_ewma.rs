//! The peak-EWMA latency estimate: rises at once to a higher sample, else decays exponentially, so that a replica that
//! became slow is left alone at once and is tried again after a while. The load of an endpoint is its estimate times one
//! more than the requests that it already has from this worker.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// The time constant of the decay.
const TAU: f64 = 10.0;
/// The estimate of the first endpoint of a service; later ones begin at the median of the others.
pub(crate) const FIRST_ESTIMATE: Duration = Duration::from_millis(30);

/// The estimate of one endpoint on one worker.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    seconds: Cell<f64>,
    stamp: Cell<Instant>,
}

impl PeakEwma {
    pub(crate) fn new(estimate: Duration, now: Instant) -> Self {
        Self { seconds: Cell::new(estimate.as_secs_f64()), stamp: Cell::new(now) }
    }

    /// The estimate in seconds, decayed to now.
    pub(crate) fn estimate(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.stamp.get()).as_secs_f64();
        self.seconds.get() * (-age / TAU).exp()
    }

    /// Takes a measured latency in.
    pub(crate) fn observe(&self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let age = now.saturating_duration_since(self.stamp.get()).as_secs_f64();
        let estimate = self.seconds.get();
        let weight = (-age / TAU).exp();
        let next = if sample > estimate { sample } else { estimate * weight + sample * (1.0 - weight) };
        self.seconds.set(next);
        self.stamp.set(now);
    }
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
        assert!((ewma.estimate(later) - 0.1 / std::f64::consts::E).abs() < 1e-9);
        ewma.observe(Duration::from_millis(10), later);
        let estimate = ewma.estimate(later);
        assert!(0.01 < estimate && estimate < 0.05, "{estimate}");
    }
}
