//! Whether the new version answers as well as the old one.

use std::time::Duration;

/// What the new version has to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// By how much its part of failed calls may be larger, 0 to 1.
    pub error_rate: f64,
    /// How many times the old version's 99th percentile its own may be, at least 1.
    pub latency_ratio: f64,
    /// Below so many calls nothing is said of a version.
    pub min_requests: u64,
}

/// How one version has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// The calls.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Within this time 99 of 100 were answered; `None` where there were none.
    pub p99: Option<Duration>,
}

/// How both versions have answered in the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Samples {
    /// The old one.
    pub stable: Sample,
    /// The new one.
    pub target: Sample,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are too few calls to say anything.
    TooFew,
    Passed,
    Failed(String),
}

/// What the gateway's workers have counted.
impl From<&service_registry::Sample> for Sample {
    fn from(counted: &service_registry::Sample) -> Self {
        Self { requests: counted.calls.all, errors: counted.calls.failed, p99: counted.p99() }
    }
}

impl Sample {
    fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }
}

impl Gate {
    pub(super) fn verdict(&self, samples: &Samples) -> Verdict {
        let Samples { stable, target } = samples;
        if target.requests < self.min_requests {
            return Verdict::TooFew;
        }
        let (found, other) = (target.error_rate(), stable.error_rate());
        if found - other > self.error_rate {
            return Verdict::Failed(format!(
                "{:.1} % of {} calls failed, and {:.1} % of the old version's {}",
                found * 100.0,
                target.requests,
                other * 100.0,
                stable.requests
            ));
        }
        // A percentile of few calls is that of one slow call.
        if stable.requests >= self.min_requests
            && let (Some(found), Some(other)) = (target.p99, stable.p99)
            && found > other.mul_f64(self.latency_ratio)
        {
            return Verdict::Failed(format!(
                "99 of 100 calls were answered within {found:?}, and within {other:?} by the old version"
            ));
        }
        Verdict::Passed
    }
}
