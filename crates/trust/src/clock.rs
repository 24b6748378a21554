//! The clock that expiries are judged by. It is the machine's, with a watermark: a clock that steps back would make what has
//! expired valid again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use appraisal::{Code, Fault};

/// How far the machine's clock may step back, in milliseconds, before joins stop.
const MAX_STEP_BACK_MS: u64 = 60_000;

/// Gives Unix milliseconds.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A clock with the highest time that was seen, over restarts too.
pub(crate) struct CheckedClock {
    now: Now,
    watermark: AtomicU64,
}

impl CheckedClock {
    pub(crate) fn new(now: Now, watermark_ms: u64) -> Self {
        Self { now, watermark: AtomicU64::new(watermark_ms) }
    }

    /// Unix milliseconds, never less than before but for small steps of the machine's clock.
    ///
    /// # Errors
    /// The machine's clock is more than 60 seconds behind what it was.
    pub(crate) fn checked(&self) -> Result<u64, Fault> {
        let now = (self.now)();
        let highest = self.watermark.fetch_max(now, Ordering::Relaxed).max(now);
        if highest - now > MAX_STEP_BACK_MS {
            let behind = (highest - now) / 1000;
            let detail = format!(
                "the clock of the authority's machine is {behind} s behind the time that it had; set it right: until then nobody joins"
            );
            return Err(Fault::new(Code::ClockStepped, detail));
        }
        Ok(highest)
    }

    /// The time for what is only said, not decided: Unix milliseconds that stand still while the machine's clock is behind.
    pub(crate) fn latest(&self) -> u64 {
        self.checked().unwrap_or_else(|_stepped| self.watermark())
    }

    /// The highest time that was seen, in Unix milliseconds.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_back_are_bridged_and_large_ones_stop_joins_until_the_clock_is_right_again() {
        let machine = Arc::new(AtomicU64::new(1_000_000));
        let shown = Arc::clone(&machine);
        let clock = CheckedClock::new(Arc::new(move || shown.load(Ordering::Relaxed)), 0);
        let at = |now| {
            machine.store(now, Ordering::Relaxed);
            clock.checked().map_err(|fault| fault.code)
        };
        assert_eq!(at(1_000_000), Ok(1_000_000));
        assert_eq!(at(940_000), Ok(1_000_000));
        assert_eq!(at(939_999), Err(Code::ClockStepped));
        assert_eq!(at(1_000_001), Ok(1_000_001));
    }

    #[test]
    fn the_watermark_of_an_earlier_run_counts() {
        let clock = CheckedClock::new(Arc::new(|| 1_000_000), 1_060_001);
        assert_eq!(clock.checked().unwrap_err().code, Code::ClockStepped);
        assert_eq!((clock.watermark(), clock.latest()), (1_060_001, 1_060_001));
    }
}
