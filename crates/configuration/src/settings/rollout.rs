//! How a service is brought from one version to another.

use std::time::Duration;

use super::Percent;

/// How replicas of a new version take the place of those of the old one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// In which order.
    pub strategy: RolloutStrategy,
    /// How many more replicas there may be meanwhile than are wanted, 0 to 1,000.
    pub max_surge: u32,
    /// How many fewer may be available meanwhile, 0 to 1,000. One of both is at least 1.
    pub max_unavailable: u32,
    /// For how long a replica must have been selectable to count; shorter than the deadline.
    pub min_ready: Duration,
    /// For how long nothing may come forward.
    pub progress_deadline: Duration,
}

/// In which order replicas and calls change over.
#[derive(Debug, Clone, PartialEq)]
pub enum RolloutStrategy {
    /// Replica by replica.
    Rolling,
    /// A part of the calls first, and more of them step by step.
    Canary {
        /// From 1 to 20, each with a larger weight than the one before.
        steps: Vec<CanaryStep>,
        /// What the new version has to hold.
        gate: CanaryGate,
    },
    /// All replicas beside the old ones, and then all calls at once.
    BlueGreen {
        /// How long the new version stands ready before it has the calls; `None` until somebody promotes it.
        auto_promote: Option<Duration>,
        /// How long the replicas of the old version are kept after that.
        keep: Duration,
    },
}

/// A step of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryStep {
    /// The part of the calls, 1 to 100 percent.
    pub weight: Percent,
    /// How long it lasts at least; `None` until somebody promotes it.
    pub pause: Option<Duration>,
}

/// What the new version has to hold beside the old one.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryGate {
    /// By how much its part of failed calls may be larger.
    pub error_rate: Percent,
    /// How many times the old version's 99th percentile its own may be, 1 to 100.
    pub latency_ratio: f64,
    /// Below so many calls nothing is said of a version; 1 to 1,000,000.
    pub min_requests: u32,
}
