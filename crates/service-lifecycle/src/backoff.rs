//! How long to wait before a replica is started again.

use std::time::Duration;

/// Doubles from a first wait to a longest one, with jitter, so that replicas that died together do not start together.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The next wait: between half of the step and the whole step.
    pub(crate) fn wait(&mut self, random: &mut fastrand::Rng) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(0.5 + random.f64() / 2.0)
    }

    /// Begins at the first wait again.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_half_a_step() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let mut random = fastrand::Rng::with_seed(1);
        for step in [100, 200, 400, 500, 500] {
            let wait = backoff.wait(&mut random);
            let step = Duration::from_millis(step);
            assert!(step / 2 <= wait && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.wait(&mut random) <= Duration::from_millis(100));
    }
}
