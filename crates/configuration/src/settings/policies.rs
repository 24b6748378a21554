//! How the calls of a service are spread, repeated, limited and judged.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How replicas are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What a check asks.
    pub probe: Probe,
    /// Between two checks of a replica whose state does not change.
    pub interval: Duration,
    /// Until a check counts as failed; at most `interval`.
    pub timeout: Duration,
    /// Checks passed in a row that make a replica healthy; at least 1.
    pub healthy_threshold: u32,
    /// Checks failed in a row that make a replica unhealthy; at least 1.
    pub unhealthy_threshold: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET that a healthy replica answers with 2xx.
    Http {
        /// Begins with a slash.
        path: String,
    },
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`; the service speaks HTTP/2.
    Grpc,
}

/// How a replica is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancing {
    /// Among the replicas that may be.
    pub policy: BalancingPolicy,
    /// How long the share of a new replica grows until it is whole, at most an hour; zero when it is whole at once.
    pub slow_start: Duration,
    /// With fewer healthy replicas than this part, all of them are tried; 0% for never.
    pub panic_threshold: Percent,
}

/// A way to choose a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BalancingPolicy {
    /// The better of two random ones, by latency and calls in flight.
    PeakEwma,
    /// One after the other, by weight.
    RoundRobin,
    /// The one of two random ones with fewer calls in flight.
    LeastRequest,
    /// The same one for the same key.
    Maglev(HashOn),
    /// Any.
    Random,
}

/// The key that `maglev` hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The value of this header, its name in lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this parameter, which at least one route of the service has.
    PathParameter(String),
    /// The caller.
    Caller,
}

/// How calls are divided among the versions of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The share of every version that the service has, 0 to 1,000, at least one above 0; empty when nothing is divided.
    pub weights: BTreeMap<String, u32>,
    /// The header with which a request chooses its version, in lower case.
    pub header: String,
    /// What keeps a caller at its version: one that the weights gave it, or a rollout.
    pub sticky: Option<Sticky>,
    /// The version that a caller gets who names none, while it can be selected; at most 1,000 callers.
    pub callers: BTreeMap<CallerName, String>,
}

/// How a caller is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallerName {
    /// The id of its API key, the subject of its token, or the name in its certificate.
    Subject(String),
    /// Whom it acts for.
    Tenant(String),
}

/// The key by which a caller stays at its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// The value of this cookie.
    Cookie(String),
    /// The value of this header, its name in lower case.
    Header(String),
    /// The caller.
    Caller,
}

/// Additional tries of a call on another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Additional tries after a failure that a retry may hide, 0 to 5.
    pub attempts: u32,
    /// How long a try may take while another is still allowed.
    pub per_try_timeout: Duration,
    /// Which failures.
    pub on: RetryOn,
    /// The most additional tries, as a part of the requests in flight.
    pub budget: Percent,
}

/// The failures after which another try is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection was made.
    pub connect: bool,
    /// The connection ended before the response head, or the try took too long.
    pub reset: bool,
    /// These statuses, 500 to 599, in their order and each once.
    pub statuses: Vec<u16>,
}

/// How much goes to a service at the same time; each from 1 to 1,000,000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    /// Connections to its replicas.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests in flight.
    pub requests: u32,
}

/// When failed calls take a replica out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// After so many in a row; never when there is no number.
    pub consecutive_failures: Option<NonZeroU32>,
    /// For how long the first time; longer each time that follows.
    pub ejection: Duration,
    /// The most replicas that are out at the same time.
    pub max_ejected: Percent,
}

/// A whole percentage from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// Nothing of the whole.
    pub const ZERO: Self = Self(0);

    /// `None` above 100.
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// From 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.0)
    }
}
