//! How calls to one service are made: what the configuration says, in this crate's words.

use std::time::Duration;

use crate::balance;
use crate::connect::TlsClient;

/// The policy of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterPolicy {
    /// What is spoken to its replicas.
    pub protocol: UpstreamProtocol,
    /// What TLS is made with, for instances that are reached by it.
    pub tls: Option<TlsClient>,
    /// Additional tries.
    pub attempts: u32,
    /// How long a try may take while another is still allowed.
    pub per_try_timeout: Duration,
    /// What another try may hide.
    pub retry_on: RetryOn,
    /// How many calls may be tried again at once, in percent of those in flight.
    pub budget_percent: u32,
    /// Calls that fail in a row until the health owner is told; 0 for never.
    pub failures_in_a_row: u32,
    /// How calls are spread over the replicas.
    pub balancing: Balancing,
}

/// What is spoken to replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which gRPC uses too.
    Http2,
}

/// What another try may hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// A connection that cannot be made.
    pub connect: bool,
    /// A connection that ends before the answer, or a try that takes too long.
    pub reset: bool,
    /// Answers of these statuses.
    pub statuses: Vec<u16>,
}

/// How a replica is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalancingPolicy {
    /// The cheaper of two, by latency and calls in flight.
    PeakEwma,
    /// One after the other.
    RoundRobin,
    /// The one of two that has fewer calls.
    LeastRequest,
    /// Always the same for the same hash.
    Maglev,
    /// Any.
    Random,
}

/// How calls are spread over the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancing {
    /// How a replica is chosen.
    pub policy: BalancingPolicy,
    /// How long a new replica's share grows.
    pub slow_start: Duration,
    /// The share of healthy replicas, in percent, below which health is ignored; 0 for never.
    pub panic_threshold_percent: u8,
    /// The share of each version, where traffic is split.
    pub version_weights: Vec<(String, u32)>,
}

impl Balancing {
    /// In the words of the balancer, which knows versions by the numbers that `number_of` gives them.
    pub(crate) fn settings(&self, mut number_of: impl FnMut(&str) -> u32) -> balance::Settings {
        let mut version_weights = Vec::new();
        for (version, weight) in &self.version_weights {
            let number = number_of(version) as usize;
            version_weights.resize(version_weights.len().max(number + 1), 0);
            version_weights[number] = *weight;
        }
        balance::Settings {
            policy: match self.policy {
                BalancingPolicy::PeakEwma => balance::Policy::PeakEwma,
                BalancingPolicy::RoundRobin => balance::Policy::RoundRobin,
                BalancingPolicy::LeastRequest => balance::Policy::LeastRequest,
                BalancingPolicy::Maglev => balance::Policy::Maglev,
                BalancingPolicy::Random => balance::Policy::Random,
            },
            slow_start: self.slow_start,
            panic_threshold_percent: self.panic_threshold_percent,
            version_weights,
            apart: None,
        }
    }
}
