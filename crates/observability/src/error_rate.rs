//! Errors per request over the last minute, from cumulative counts sampled once a second: nothing on the request path.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The window in samples, one a second.
const WINDOW: usize = 60;

/// Requests and errors of one service, both cumulative.
type Counts = (u64, u64);

/// The samples of the last minute.
#[derive(Debug)]
pub struct ErrorRates {
    services: usize,
    /// Oldest first; each holds the counts of every service.
    samples: Mutex<VecDeque<Vec<Counts>>>,
}

impl ErrorRates {
    /// No samples yet.
    pub fn new(services: usize) -> Self {
        Self { services, samples: Mutex::default() }
    }

    /// Adds a sample, cumulative counts in the order of the services.
    pub fn sample(&self, counts: impl Iterator<Item = Counts>) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() > WINDOW {
            samples.pop_front();
        }
        samples.push_back(counts.collect());
    }

    /// Errors per request of each service, 0 where there was no request.
    pub fn rates(&self) -> Vec<f64> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(oldest), Some(newest)) = (samples.front(), samples.back()) else {
            return vec![0.0; self.services];
        };
        let rate = |(old, new): (&Counts, &Counts)| {
            let (requests, errors) = (new.0 - old.0, new.1 - old.1);
            if requests == 0 { 0.0 } else { errors as f64 / requests as f64 }
        };
        oldest.iter().zip(newest).map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_older_than_a_minute_are_forgotten() {
        let rates = ErrorRates::new(1);
        assert_eq!(rates.rates(), [0.0]);
        rates.sample([(0, 0)].into_iter());
        rates.sample([(10, 5)].into_iter());
        assert_eq!(rates.rates(), [0.5]);
        for _ in 0..WINDOW {
            rates.sample([(10, 5)].into_iter());
        }
        assert_eq!(rates.rates(), [0.0]);
    }
}
