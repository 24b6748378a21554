//! How long to wait before a replica is started again.

use std::time::Duration;

/// Doubles from a first wait to a longest one, with jitter, so that replicas that died together do not start together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Waits so far.
    waits: u32,
}

impl Backoff {
    /// The next wait: between half of the step and the whole step.
    pub(crate) fn wait(&mut self, min: Duration, max: Duration, random: &mut fastrand::Rng) -> Duration {
        let doubled = 2_u32.checked_pow(self.waits).and_then(|times| min.checked_mul(times));
        self.waits = self.waits.saturating_add(1);
        doubled.map_or(max, |step| step.min(max)).mul_f64(0.5 + random.f64() / 2.0)
    }

    /// Begins at the first wait again.
    pub(crate) fn reset(&mut self) {
        self.waits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_half_a_step() {
        let mut backoff = Backoff::default();
        let mut random = fastrand::Rng::with_seed(1);
        let (min, max) = (Duration::from_millis(100), Duration::from_millis(500));
        for step in [100, 200, 400, 500, 500] {
            let wait = backoff.wait(min, max, &mut random);
            let step = Duration::from_millis(step);
            assert!(step / 2 <= wait && wait <= step, "{wait:?} of {step:?}");
        }
        (0..100).for_each(|_| assert!(backoff.wait(min, max, &mut random) <= max));
        backoff.reset();
        assert!(backoff.wait(min, max, &mut random) <= min);
    }
}
