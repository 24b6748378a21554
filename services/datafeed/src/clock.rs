//! What time it is. A constructor argument, so that a test owns it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time of day.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// A clock that begins at the epoch and goes with tokio's, which a test may pause.
    #[cfg(test)]
    pub(crate) fn paused() -> Self {
        let began = tokio::time::Instant::now();
        Self(Arc::new(move || Timestamp::UNIX_EPOCH + began.elapsed()))
    }
}

/// How long ago a moment was; zero for one that is yet to come.
pub(crate) fn age(now: Timestamp, moment: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(moment)).unwrap_or_default()
}
