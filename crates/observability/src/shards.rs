//! What one thread counts. Each shard is written by one thread only, and shares no cache line with
//! that of another thread: counting is loads and stores in memory that nobody else writes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::reasons::{
    CircuitLimit, CountersBy, Http2Refused, Refused, RetryDenied, TlsHandshake, UpstreamFailure,
};
use crate::{Counter, Gauge, Histogram};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 500;

/// A method as a label: one of those that are common, or `other`. Made once, so that counting compares no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodLabel(usize);

/// How a request was served, beyond what its status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// As its status says.
    AsAnswered,
    /// The replica failed it: its answer broke off, or has the status of a failure in gRPC.
    Failed,
}

/// What one worker counts of the gateway itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct GatewayShard {
    /// Open client connections.
    pub client_connections: Gauge,
    /// Client connections refused because of the limit.
    pub connections_refused: Counter,
    /// Requests refused because of the limit on requests in flight.
    pub requests_shed: Counter,
    /// Requests refused because of anything else.
    pub requests_refused: CountersBy<Refused>,
    /// Times that the limits which gateways share could not be counted.
    pub shared_limits_failed: Counter,
    /// HTTP/2 connections refused or ended.
    pub http2_refused: CountersBy<Http2Refused>,
    /// TLS handshakes with clients.
    pub tls_handshakes: CountersBy<TlsHandshake>,
    /// Access log lines dropped because the writer could not keep up.
    pub log_lines_dropped: Counter,
    /// Access log lines that could not be written. The writer's thread counts them, so they have an allocation of their own.
    pub log_lines_unwritten: Arc<Counter>,
}

/// What one worker counts of one service.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServiceShard {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    /// Open connections to its replicas.
    pub connections: Gauge,
    /// Connections to its replicas that were made.
    pub connects: Counter,
    /// Calls that were tried again on another connection or replica.
    pub retries: Counter,
    /// Failed calls that were not tried again.
    pub retries_denied: CountersBy<RetryDenied>,
    /// Calls that met a limit of the circuit: they waited for a connection, or were refused.
    pub circuit_open: CountersBy<CircuitLimit>,
    /// Tries at a replica that failed.
    pub upstream_failures: CountersBy<UpstreamFailure>,
}

/// What the health owner counts of one service.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct HealthShard {
    /// Replicas taken out because their calls failed.
    pub ejections: Counter,
}

/// What one worker counts of one route; it counts for the route's service too. In this order most requests touch two cache
/// lines of it: of many routes, hardly any line is still in the core's caches when the next request comes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RouteShard {
    service: Arc<ServiceShard>,
    /// Made when the first request of the method comes: most routes have one or two methods.
    by_method: [OnceLock<Box<Statuses>>; METHODS.len()],
    latency: Histogram,
}

/// A counter for each status.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Statuses([Counter; STATUSES]);

impl MethodLabel {
    /// The label of a method; names are case-sensitive (RFC 9110 section 9.1).
    pub fn of(name: &str) -> Self {
        Self(METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1))
    }

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        METHODS[self.0]
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..METHODS.len()).map(Self)
    }
}

impl RouteShard {
    pub(crate) fn new(service: Arc<ServiceShard>) -> Self {
        Self { latency: Histogram::default(), service, by_method: Default::default() }
    }

    /// Counts an answered request. Errors are 5xx, and whatever failed under another status.
    pub fn request(&self, method: MethodLabel, status: u16, served: Served, latency: Duration) {
        let statuses = self.by_method[method.0].get_or_init(Box::default);
        if let Some(counter) = statuses.of(status) {
            counter.add_one();
        }
        self.latency.observe(latency);
        self.service.requests.add_one();
        if status >= 500 || served == Served::Failed {
            self.service.errors.add_one();
        }
    }

    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// The statuses that requests of this method were answered with, if there were any.
    pub(crate) fn statuses(&self, method: MethodLabel) -> Option<&Statuses> {
        self.by_method[method.0].get().map(|statuses| &**statuses)
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Statuses {
    /// Every status that has a counter.
    pub(crate) fn all() -> impl Iterator<Item = u16> {
        (FIRST_STATUS..).take(STATUSES)
    }

    /// The counter of a status; none outside of 100 to 599.
    pub(crate) fn of(&self, status: u16) -> Option<&Counter> {
        self.0.get(usize::from(status.wrapping_sub(FIRST_STATUS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_is_not_common_is_other() {
        for name in &METHODS[..METHODS.len() - 1] {
            assert_eq!(MethodLabel::of(name).as_str(), *name);
        }
        for name in ["BREW", "get", "", "other"] {
            assert_eq!(MethodLabel::of(name).as_str(), "other");
        }
    }

    #[test]
    fn a_status_that_is_none_counts_as_a_request_all_the_same() {
        let service = Arc::new(ServiceShard::default());
        let route = RouteShard::new(Arc::clone(&service));
        let get = MethodLabel::of("GET");
        for status in [0, 99, 100, 599, 600, u16::MAX] {
            route.request(get, status, Served::AsAnswered, Duration::ZERO);
        }
        let statuses = route.statuses(get).unwrap();
        let counted: Vec<_> = Statuses::all()
            .filter(|status| statuses.of(*status).is_some_and(|counter| counter.value() > 0))
            .collect();
        assert_eq!(counted, [100, 599]);
        assert_eq!((service.requests.value(), service.errors.value()), (6, 3));
    }

    #[test]
    fn a_request_that_failed_under_a_good_status_is_an_error_and_counts_once() {
        let service = Arc::new(ServiceShard::default());
        let route = RouteShard::new(Arc::clone(&service));
        for (status, served) in [(200, Served::AsAnswered), (200, Served::Failed), (503, Served::Failed)] {
            route.request(MethodLabel::of("POST"), status, served, Duration::ZERO);
        }
        assert_eq!((service.requests.value(), service.errors.value()), (3, 2));
    }
}
