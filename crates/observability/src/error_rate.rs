//! Errors per request over the last minute, from cumulative counts sampled once a second: nothing on the request path.

use std::collections::VecDeque;

/// The window in samples, one a second.
const WINDOW: usize = 60;

/// Requests and errors, both cumulative.
type Counts = (u64, u64);

/// The last minute of one service, oldest sample first. A service that comes back after it was forgotten has a new one, so
/// counts never shrink in here.
#[derive(Debug)]
pub(crate) struct ErrorRate(VecDeque<Counts>);

impl ErrorRate {
    /// The rate of a service that was not counted before.
    pub(crate) fn new() -> Self {
        Self(VecDeque::from([(0, 0)]))
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, counts: Counts) {
        if self.0.len() > WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(counts);
    }

    /// Errors per request, 0 when there was no request.
    pub(crate) fn rate(&self) -> f64 {
        let (Some(oldest), Some(newest)) = (self.0.front(), self.0.back()) else { return 0.0 };
        let (requests, errors) = (newest.0 - oldest.0, newest.1 - oldest.1);
        // Both are read while they are written: an error may be seen before its request is.
        if requests == 0 { 0.0 } else { (errors as f64 / requests as f64).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_older_than_a_minute_are_forgotten() {
        let mut rate = ErrorRate::new();
        assert_eq!(rate.rate(), 0.0);
        for _ in 0..WINDOW {
            rate.sample((10, 5));
            assert_eq!(rate.rate(), 0.5);
        }
        rate.sample((10, 5));
        assert_eq!(rate.rate(), 0.0);
    }

    #[test]
    fn what_a_new_service_counts_before_its_first_sample_is_part_of_the_rate() {
        let mut rate = ErrorRate::new();
        rate.sample((4, 1));
        assert_eq!(rate.rate(), 0.25);
    }
}
