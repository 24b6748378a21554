//! The clock that expiries are judged by. It is the machine's, as far as that goes on evenly: one that steps back would make
//! what has expired valid again, and one that leaps ahead for a moment would end everything that is valid.
//!
//! What the machine says is compared with how long it has been running. The highest time that was believed is written down, so
//! that a restart forgets nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use appraisal::{Code, Fault};

/// How far the machine's clock may be from where it should be, in milliseconds, before joins stop.
const MAX_STEP_MS: u64 = 60_000;
/// How long a clock that leapt ahead must go on evenly there until it is believed, in milliseconds.
const BELIEVED_AFTER_MS: u64 = 300_000;
/// What counts as evenly, in milliseconds.
const EVEN_MS: u64 = 5_000;

/// Gives milliseconds.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The two clocks of a machine.
#[derive(Clone)]
pub struct Clocks {
    /// The time of day: Unix milliseconds.
    pub wall: Now,
    /// Milliseconds since the machine was started, its sleep included. Nobody can set it.
    pub boot: Now,
}

/// A clock with the highest time that was believed, over restarts too.
pub(crate) struct CheckedClock {
    clocks: Clocks,
    state: Mutex<State>,
}

struct State {
    /// What is believed to be the time of day when the machine was started, in Unix milliseconds.
    start: u64,
    /// Since when, and from which start, the machine's clock is somewhere ahead.
    ahead: Option<(u64, u64)>,
    /// The highest time that was believed.
    watermark: u64,
}

/// How the machine's clock stands to the believed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    There,
    /// By so many milliseconds.
    Behind(u64),
    Ahead(u64),
}

impl CheckedClock {
    pub(crate) fn new(clocks: Clocks, watermark: u64) -> Self {
        let start = (clocks.wall)().max(watermark).saturating_sub((clocks.boot)());
        Self { clocks, state: Mutex::new(State { start, ahead: None, watermark }) }
    }

    /// Unix milliseconds, never less than before.
    ///
    /// # Errors
    /// The machine's clock is more than 60 seconds from where it should be.
    pub(crate) fn checked(&self) -> Result<u64, Fault> {
        let (time, stands) = self.read();
        let (away, direction) = match stands {
            Stands::There => return Ok(time),
            Stands::Behind(away) => (away, "behind the time that it had; set it right"),
            Stands::Ahead(away) => {
                (away, "ahead of where it should be; set it right, or wait 5 minutes if it is right now")
            }
        };
        let away = away / 1000;
        let detail =
            format!("the clock of the authority's machine is {away} s {direction}: until then nobody joins");
        Err(Fault::new(Code::ClockStepped, detail))
    }

    /// The believed time, in Unix milliseconds. It goes on evenly whatever the machine's clock does.
    pub(crate) fn latest(&self) -> u64 {
        self.read().0
    }

    /// From when on something holds that is made now, in Unix milliseconds: never later than the machine's own clock, since
    /// whoever reads it has no other.
    pub(crate) fn holds_from(&self) -> u64 {
        self.latest().min((self.clocks.wall)())
    }

    /// The highest time that was believed, in Unix milliseconds.
    pub(crate) fn watermark(&self) -> u64 {
        self.state().watermark
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> (u64, Stands) {
        let (wall, boot) = ((self.clocks.wall)(), (self.clocks.boot)());
        let mut state = self.state();
        let believed = state.start.saturating_add(boot);
        let mut stands = if wall > believed.saturating_add(MAX_STEP_MS) {
            Stands::Ahead(wall - believed)
        } else if believed > wall.saturating_add(MAX_STEP_MS) {
            Stands::Behind(believed - wall)
        } else {
            Stands::There
        };
        let start = wall.saturating_sub(boot);
        if state.leads_evenly(stands, start, boot) {
            stands = Stands::There;
        }
        if stands == Stands::There {
            state.ahead = None;
            state.start = state.start.max(start);
        }
        let time = state.start.saturating_add(boot).max(state.watermark);
        state.watermark = time;
        (time, stands)
    }
}

impl State {
    /// Whether a clock that leapt ahead has gone on from there for long enough to be believed.
    fn leads_evenly(&mut self, stands: Stands, start: u64, boot: u64) -> bool {
        let Stands::Ahead(_) = stands else {
            self.ahead = None;
            return false;
        };
        match self.ahead {
            Some((since, from)) if from.abs_diff(start) <= EVEN_MS => boot - since >= BELIEVED_AFTER_MS,
            _ => {
                self.ahead = Some((boot, start));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A clock, and what sets the machine's two.
    fn clock(watermark: u64) -> (CheckedClock, impl Fn(u64, u64)) {
        let (wall, boot) = (Arc::new(AtomicU64::new(1_000_000)), Arc::new(AtomicU64::new(0)));
        let read = |clock: &Arc<AtomicU64>| -> Now {
            let clock = Arc::clone(clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        };
        let clocks = Clocks { wall: read(&wall), boot: read(&boot) };
        let set = move |now, since| {
            wall.store(now, Ordering::Relaxed);
            boot.store(since, Ordering::Relaxed);
        };
        (CheckedClock::new(clocks, watermark), set)
    }

    fn checked(clock: &CheckedClock) -> Result<u64, Code> {
        clock.checked().map_err(|fault| fault.code)
    }

    #[test]
    fn small_steps_are_bridged_and_large_ones_stop_joins_until_the_clock_is_right_again() {
        let (clock, set) = clock(0);
        assert_eq!(checked(&clock), Ok(1_000_000));
        set(940_000, 0);
        assert_eq!(checked(&clock), Ok(1_000_000));
        set(939_999, 0);
        assert_eq!(checked(&clock), Err(Code::ClockStepped));
        // What is over does not come back, and what ends meanwhile ends.
        set(949_999, 10_000);
        assert_eq!((checked(&clock), clock.latest()), (Err(Code::ClockStepped), 1_010_000));
        set(1_010_001, 10_000);
        assert_eq!(checked(&clock), Ok(1_010_001));
        set(1_070_001, 10_000);
        assert_eq!(checked(&clock), Ok(1_070_001));
    }

    #[test]
    fn a_leap_ahead_is_not_believed_before_it_has_lasted() {
        let (clock, set) = clock(0);
        set(1_060_001, 0);
        assert_eq!((checked(&clock), clock.latest()), (Err(Code::ClockStepped), 1_000_000));
        // The machine comes back to its senses, and nothing is left of it.
        set(1_001_000, 1_000);
        assert_eq!((checked(&clock), clock.watermark()), (Ok(1_001_000), 1_001_000));
        set(9_000_000, 2_000);
        assert_eq!(checked(&clock), Err(Code::ClockStepped));
        set(9_299_999, 301_999);
        assert_eq!(checked(&clock), Err(Code::ClockStepped));
        set(9_300_000, 302_000);
        assert_eq!((checked(&clock), clock.watermark()), (Ok(9_300_000), 9_300_000));
    }

    #[test]
    fn sleep_of_the_machine_is_no_leap() {
        let (clock, set) = clock(0);
        set(90_000_000, 89_000_000);
        assert_eq!(checked(&clock), Ok(90_000_000));
    }

    #[test]
    fn the_watermark_of_an_earlier_run_counts() {
        let (clock, set) = clock(1_060_001);
        assert_eq!((checked(&clock), clock.watermark()), (Err(Code::ClockStepped), 1_060_001));
        set(1_000_000, 5_000);
        assert_eq!(clock.latest(), 1_065_001);
        assert_eq!(clock.holds_from(), 1_000_000);
    }
}
