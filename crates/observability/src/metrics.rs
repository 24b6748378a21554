//! The seed's four metrics: `request_count`, `request_latency_ms`, `error_rate`, `active_connections`.
//!
//! Labels are bounded: routes are templates, a method is one of eight, a status one of five hundred, and all of them are
//! known when the configuration is read. A counter for a method's statuses is made when the first request of that method
//! comes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error_rate::ErrorRates;
use crate::exposition::{Exposition, MetricType};
use crate::{Counter, Gauge, Histogram, LATENCY_BUCKETS_MS};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];
const FIRST_STATUS: usize = 100;
const STATUSES: usize = 500;

/// A route among the metrics. Number 0 is whatever no route matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteIndex(pub usize);

/// A service among the metrics. Number 0 is the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceIndex(pub usize);

/// What a route is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLabels {
    /// Its service.
    pub service: ServiceIndex,
    /// Its template, such as `/v1/random/{*rest}`.
    pub route: String,
}

/// The metrics of the whole process.
#[derive(Debug)]
pub struct Metrics {
    services: Vec<String>,
    routes: Vec<RouteLabels>,
    shards: Vec<Arc<WorkerShard>>,
    error_rates: ErrorRates,
}

/// The counters of one worker.
#[derive(Debug)]
pub struct WorkerShard {
    routes: Box<[RouteShard]>,
    services: Box<[ServiceShard]>,
    /// Open client connections.
    pub client_connections: Gauge,
    /// Client connections refused because of the limit.
    pub connections_refused: Counter,
    /// Requests refused because of the limit on requests in flight.
    pub requests_shed: Counter,
    /// Access log lines dropped because the writer could not keep up.
    pub log_lines_dropped: Counter,
}

/// The counters of one route on one worker.
#[derive(Debug, Default)]
pub struct RouteShard {
    by_method: [OnceLock<Box<[Counter]>>; METHODS.len()],
    latency: Histogram,
}

/// The counters of one service on one worker.
#[derive(Debug, Default)]
pub struct ServiceShard {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    /// Open connections to its replicas.
    pub connections: Gauge,
    /// Calls that were tried again on another connection or replica.
    pub retries: Counter,
}

impl Metrics {
    /// Metrics for these services and routes; the gateway itself and `unmatched` are added in front.
    pub fn new(services: Vec<String>, routes: Vec<RouteLabels>, workers: usize) -> Self {
        let services: Vec<_> = std::iter::once("gateway".to_owned()).chain(services).collect();
        let unmatched = RouteLabels { service: ServiceIndex(0), route: "unmatched".into() };
        let routes: Vec<_> = std::iter::once(unmatched).chain(routes).collect();
        let shard = || WorkerShard {
            routes: routes.iter().map(|_| RouteShard::default()).collect(),
            services: services.iter().map(|_| ServiceShard::default()).collect(),
            client_connections: Gauge::default(),
            connections_refused: Counter::default(),
            requests_shed: Counter::default(),
            log_lines_dropped: Counter::default(),
        };
        let shards = (0..workers).map(|_| Arc::new(shard())).collect();
        let error_rates = ErrorRates::new(services.len());
        Self { services, routes, shards, error_rates }
    }

    /// The counters of a worker. Only that worker writes them.
    pub fn shard(&self, worker: usize) -> Arc<WorkerShard> {
        Arc::clone(&self.shards[worker])
    }

    /// Takes a sample for `error_rate`; called once a second.
    pub fn sample_error_rates(&self) {
        self.error_rates.sample((0..self.services.len()).map(|service| {
            let shards = self.shards.iter().map(|shard| &shard.services[service]);
            shards.fold((0, 0), |(requests, errors), shard| {
                (requests + shard.requests.value(), errors + shard.errors.value())
            })
        }));
    }

    /// Writes the metrics.
    pub fn expose(&self, out: &mut Exposition) {
        self.expose_requests(out);
        self.expose_latency(out);
        out.family(
            "error_rate",
            MetricType::Gauge,
            "Error rate per service: 5xx and upstream failures over 60 s",
        );
        for (name, rate) in self.services.iter().zip(self.error_rates.rates()) {
            out.sample("error_rate", &[("service", name)], rate);
        }
        out.family("active_connections", MetricType::Gauge, "Current active connections");
        let clients = self.shards.iter().map(|shard| shard.client_connections.value()).sum::<i64>();
        out.sample("active_connections", &[("listener", "gateway")], clients);
        for (index, name) in self.services.iter().enumerate().skip(1) {
            let open: i64 = self.shards.iter().map(|shard| shard.services[index].connections.value()).sum();
            out.sample("active_connections", &[("service", name)], open);
        }
        out.family(
            "serviceos_retries_total",
            MetricType::Counter,
            "Calls tried again on another connection or replica",
        );
        for (index, name) in self.services.iter().enumerate().skip(1) {
            let retries: u64 = self.shards.iter().map(|shard| shard.services[index].retries.value()).sum();
            out.sample("serviceos_retries_total", &[("service", name)], retries);
        }
        let refused = |shard: &WorkerShard| shard.connections_refused.value();
        self.expose_total(
            out,
            "serviceos_connections_refused_total",
            "Client connections over the limit",
            refused,
        );
        let shed = |shard: &WorkerShard| shard.requests_shed.value();
        self.expose_total(
            out,
            "serviceos_requests_shed_total",
            "Requests over the limit on those in flight",
            shed,
        );
        let dropped = |shard: &WorkerShard| shard.log_lines_dropped.value();
        self.expose_total(
            out,
            "serviceos_access_log_dropped_total",
            "Access log lines dropped under pressure",
            dropped,
        );
    }

    fn expose_total(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        count: impl Fn(&WorkerShard) -> u64,
    ) {
        out.family(name, MetricType::Counter, help);
        out.sample(name, &[], self.shards.iter().map(|shard| count(shard)).sum::<u64>());
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.family("request_count", MetricType::Counter, "Total requests per service");
        for (index, labels) in self.routes.iter().enumerate() {
            for (method, name) in METHODS.iter().enumerate() {
                let shards: Vec<_> = self
                    .shards
                    .iter()
                    .filter_map(|shard| shard.routes[index].by_method[method].get())
                    .collect();
                if shards.is_empty() {
                    continue;
                }
                for status in 0..STATUSES {
                    let count: u64 = shards.iter().map(|counters| counters[status].value()).sum();
                    if count > 0 {
                        let status = (status + FIRST_STATUS).to_string();
                        let service = &self.services[labels.service.0];
                        let labels = [
                            ("service", service.as_str()),
                            ("route", &labels.route),
                            ("method", name),
                            ("status", &status),
                        ];
                        out.sample("request_count", &labels, count);
                    }
                }
            }
        }
    }

    fn expose_latency(&self, out: &mut Exposition) {
        out.family("request_latency_ms", MetricType::Histogram, "Request latency percentiles");
        for (index, labels) in self.routes.iter().enumerate() {
            let (mut buckets, mut sum_us) = ([0; 15], 0);
            for shard in &self.shards {
                let (own, own_sum) = shard.routes[index].latency.value();
                buckets.iter_mut().zip(own).for_each(|(total, own)| *total += own);
                sum_us += own_sum;
            }
            if buckets.iter().all(|count| *count == 0) {
                continue;
            }
            let (service, route) = (self.services[labels.service.0].as_str(), labels.route.as_str());
            let mut cumulative = 0_u64;
            for (place, count) in buckets.iter().enumerate() {
                cumulative += count;
                let bound = LATENCY_BUCKETS_MS.get(place).map_or("+Inf".to_owned(), ToString::to_string);
                let labels = [("service", service), ("route", route), ("le", &bound)];
                out.sample("request_latency_ms_bucket", &labels, cumulative);
            }
            let labels = [("service", service), ("route", route)];
            out.sample("request_latency_ms_sum", &labels, Duration::from_micros(sum_us).as_secs_f64() * 1e3);
            out.sample("request_latency_ms_count", &labels, cumulative);
        }
    }
}

impl WorkerShard {
    /// The counters of a service.
    pub fn service(&self, service: ServiceIndex) -> &ServiceShard {
        &self.services[service.0]
    }

    /// Counts an answered request: 5xx count as errors, upstream failures among them.
    pub fn request(
        &self,
        route: RouteIndex,
        service: ServiceIndex,
        method: &str,
        status: u16,
        latency: Duration,
    ) {
        let shard = &self.routes[route.0];
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let counters =
            shard.by_method[method].get_or_init(|| (0..STATUSES).map(|_| Counter::default()).collect());
        if let Some(counter) =
            usize::from(status).checked_sub(FIRST_STATUS).and_then(|place| counters.get(place))
        {
            counter.add_one();
        }
        shard.latency.observe(latency);
        let service = &self.services[service.0];
        service.requests.add_one();
        if status >= 500 {
            service.errors.add_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_four_metrics_have_the_names_and_labels_that_were_promised() {
        let routes = vec![RouteLabels { service: ServiceIndex(1), route: "/v1/random".into() }];
        let metrics = Metrics::new(vec!["vrf".into()], routes, 2);
        metrics.sample_error_rates();
        for worker in 0..2 {
            let shard = metrics.shard(worker);
            shard.client_connections.add_one();
            shard.request(RouteIndex(1), ServiceIndex(1), "POST", 200, Duration::from_millis(2));
        }
        metrics.shard(0).request(RouteIndex(1), ServiceIndex(1), "BREW", 502, Duration::from_secs(60));
        metrics.shard(1).request(RouteIndex(0), ServiceIndex(0), "GET", 404, Duration::from_micros(1));
        metrics.sample_error_rates();
        let mut out = Exposition::default();
        metrics.expose(&mut out);
        let shown: Vec<_> = out
            .finish()
            .lines()
            .filter(|line| !line.contains("bucket") || line.contains("le=\"2.5\""))
            .map(str::to_owned)
            .collect();
        expect![[r##"
            # HELP request_count Total requests per service
            # TYPE request_count counter
            request_count{service="gateway",route="unmatched",method="GET",status="404"} 1
            request_count{service="vrf",route="/v1/random",method="POST",status="200"} 2
            request_count{service="vrf",route="/v1/random",method="other",status="502"} 1
            # HELP request_latency_ms Request latency percentiles
            # TYPE request_latency_ms histogram
            request_latency_ms_bucket{service="gateway",route="unmatched",le="2.5"} 1
            request_latency_ms_sum{service="gateway",route="unmatched"} 0.001
            request_latency_ms_count{service="gateway",route="unmatched"} 1
            request_latency_ms_bucket{service="vrf",route="/v1/random",le="2.5"} 2
            request_latency_ms_sum{service="vrf",route="/v1/random"} 60004
            request_latency_ms_count{service="vrf",route="/v1/random"} 3
            # HELP error_rate Error rate per service: 5xx and upstream failures over 60 s
            # TYPE error_rate gauge
            error_rate{service="gateway"} 0
            error_rate{service="vrf"} 0.3333333333333333
            # HELP active_connections Current active connections
            # TYPE active_connections gauge
            active_connections{listener="gateway"} 2
            active_connections{service="vrf"} 0
            # HELP serviceos_retries_total Calls tried again on another connection or replica
            # TYPE serviceos_retries_total counter
            serviceos_retries_total{service="vrf"} 0
            # HELP serviceos_connections_refused_total Client connections over the limit
            # TYPE serviceos_connections_refused_total counter
            serviceos_connections_refused_total 0
            # HELP serviceos_requests_shed_total Requests over the limit on those in flight
            # TYPE serviceos_requests_shed_total counter
            serviceos_requests_shed_total 0
            # HELP serviceos_access_log_dropped_total Access log lines dropped under pressure
            # TYPE serviceos_access_log_dropped_total counter
            serviceos_access_log_dropped_total 0"##]]
        .assert_eq(&shown.join("\n"));
    }
}
