//! How much of a replica's output is passed on: a bucket that fills while time passes.

use std::time::Instant;

/// What is passed on of a replica, at most, in bytes a second; as much at once after a quiet second.
pub(super) const BYTES_PER_SECOND: u64 = 1 << 20;

/// What may be passed on now.
pub(super) struct Bucket {
    bytes: u64,
    filled: Option<Instant>,
}

impl Bucket {
    pub(super) fn full() -> Self {
        Self { bytes: BYTES_PER_SECOND, filled: None }
    }

    /// What it holds at this moment, in bytes.
    pub(super) fn fill(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.filled.unwrap_or(now));
        let more = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SECOND)
            / 1_000_000;
        self.bytes = self.bytes.saturating_add(more).min(BYTES_PER_SECOND);
        self.filled = Some(now);
        self.bytes
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_much_a_second_is_passed_on_and_no_more_at_once_after_a_long_time() {
        let began = Instant::now();
        let mut bucket = Bucket::full();
        assert_eq!(bucket.fill(began), BYTES_PER_SECOND);
        bucket.take(BYTES_PER_SECOND);
        assert_eq!(bucket.fill(began), 0);
        let mut passed = 0;
        for tick in 1..=100 {
            let now = bucket.fill(began + Duration::from_millis(100) * tick);
            bucket.take(now);
            passed += now;
        }
        assert!((passed..passed + 100).contains(&(10 * BYTES_PER_SECOND)), "{passed}");
        assert_eq!(bucket.fill(began + Duration::from_secs(3600)), BYTES_PER_SECOND);
    }
}
