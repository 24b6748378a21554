//! Slow start: the weight of a new target grows over a window, so that its caches warm up before it gets its full part.

use std::time::Duration;

use tokio::time::Instant;

/// The part of its weight that a target begins with.
const FLOOR: f64 = 0.1;

/// The window, and whom of a level it can still concern.
pub(super) struct SlowStart {
    window: Duration,
    oldest: Instant,
    youngest: Instant,
}

/// How far targets are at one moment, while any is still within its window.
pub(super) struct Ramp {
    now: Instant,
    window: f64,
    /// The greatest part of its weight that any has.
    greatest: f64,
}

impl SlowStart {
    /// For targets that began at these times; `None` without a window, or without targets.
    pub(super) fn new(window: Duration, since: impl Iterator<Item = Instant> + Clone) -> Option<Self> {
        let (oldest, youngest) = (since.clone().min()?, since.max()?);
        (!window.is_zero()).then_some(Self { window, oldest, youngest })
    }

    /// `None` when all have their full weight.
    #[inline]
    pub(super) fn at(&self, now: Instant) -> Option<Ramp> {
        let runs = now.saturating_duration_since(self.youngest) < self.window;
        runs.then(|| {
            let ramp = Ramp { now, window: self.window.as_secs_f64(), greatest: 1.0 };
            Ramp { greatest: ramp.part(self.oldest), ..ramp }
        })
    }
}

impl Ramp {
    /// The part of its weight that a target has which began at `since`, relative to the greatest such part in the level:
    /// while all are new, none holds back for another.
    pub(super) fn part(&self, since: Instant) -> f64 {
        let age = self.now.saturating_duration_since(since).as_secs_f64();
        (age / self.window).clamp(FLOOR, 1.0) / self.greatest
    }
}
