//! The families of the page: the seed's four metrics, then those of the services and of the gateway. Counts of all workers
//! are added up here, when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use super::{GATEWAY, RouteSeries, ServiceSeries};
use crate::exposition::{Exposition, MetricType};
use crate::reasons::{CountersBy, Reason};
use crate::shards::{GatewayShard, MethodLabel, ServiceShard, Statuses};
use crate::{Counter, LATENCY_BUCKETS_MS};

/// What the page is written from.
pub(super) struct Families<'a> {
    pub(super) gateway: &'a [Arc<GatewayShard>],
    pub(super) services: &'a [Arc<ServiceSeries>],
    pub(super) routes: &'a [Arc<RouteSeries>],
}

impl Families<'_> {
    pub(super) fn expose(&self, out: &mut Exposition) {
        self.expose_requests(out);
        self.expose_latency(out);
        self.expose_error_rates(out);
        self.expose_connections(out);
        self.expose_services(out);
        self.expose_gateway(out);
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.family("request_count", MetricType::Counter, "Total requests per service");
        for series in self.routes {
            for method in MethodLabel::all() {
                series.expose_method(out, method);
            }
        }
    }

    fn expose_latency(&self, out: &mut Exposition) {
        out.family("request_latency_ms", MetricType::Histogram, "Request latency percentiles");
        for series in self.routes {
            series.expose_latency(out);
        }
    }

    fn expose_error_rates(&self, out: &mut Exposition) {
        let help = "Error rate per service: 5xx and upstream failures over 60 s";
        out.family("error_rate", MetricType::Gauge, help);
        for series in self.services {
            out.sample("error_rate", &[("service", &series.name)], series.error_rate().rate());
        }
    }

    fn expose_connections(&self, out: &mut Exposition) {
        out.family("active_connections", MetricType::Gauge, "Current active connections");
        let clients: i64 = self.gateway.iter().map(|shard| shard.client_connections.value()).sum();
        out.sample("active_connections", &[("listener", GATEWAY)], clients);
        for series in self.called_services() {
            let open: i64 = series.shards.iter().map(|shard| shard.connections.value()).sum();
            out.sample("active_connections", &[("service", &series.name)], open);
        }
    }

    fn expose_services(&self, out: &mut Exposition) {
        let name = "serviceos_retries_total";
        out.family(name, MetricType::Counter, "Calls tried again on another connection or replica");
        for series in self.called_services() {
            out.sample(name, &[("service", &series.name)], series.sum(|shard| &shard.retries));
        }
        let name = "serviceos_retries_denied_total";
        let help = "Failed calls that were not tried again, by reason";
        self.expose_service_reasons(out, name, help, "reason", |shard| &shard.retries_denied);
        let name = "serviceos_circuit_open_total";
        let help = "Calls that met a limit of the service's circuit, and waited or were refused";
        self.expose_service_reasons(out, name, help, "limit", |shard| &shard.circuit_open);
        let name = "serviceos_upstream_failures_total";
        let help = "Tries at a replica that failed, by how they failed";
        self.expose_service_reasons(out, name, help, "reason", |shard| &shard.upstream_failures);
        let name = "serviceos_upstream_connects_total";
        let connects = |series: &ServiceSeries| series.sum(|shard| &shard.connects);
        self.expose_service_totals(out, name, "Connections made to replicas", connects);
        let name = "serviceos_outlier_ejections_total";
        let ejections = |series: &ServiceSeries| series.health.ejections.value();
        self.expose_service_totals(out, name, "Replicas taken out because their calls failed", ejections);
    }

    fn expose_gateway(&self, out: &mut Exposition) {
        let name = "serviceos_connections_refused_total";
        self.expose_total(out, name, "Client connections over the limit", |shard| {
            shard.connections_refused.value()
        });
        let name = "serviceos_requests_shed_total";
        self.expose_total(out, name, "Requests over the limit on those in flight", |shard| {
            shard.requests_shed.value()
        });
        let name = "serviceos_access_log_dropped_total";
        self.expose_total(out, name, "Access log lines that were not written", |shard| {
            shard.log_lines_dropped.value() + shard.log_lines_unwritten.value()
        });
        let name = "serviceos_requests_refused_total";
        let help = "Requests that the gateway refused or gave up, by reason";
        self.expose_reasons(out, name, help, "reason", |shard| &shard.requests_refused);
        let name = "serviceos_shared_limits_failed_total";
        self.expose_total(
            out,
            name,
            "Times that the limits shared by gateways could not be counted",
            |shard| shard.shared_limits_failed.value(),
        );
        let name = "serviceos_http2_refused_total";
        let help = "HTTP/2 connections that the gateway ended, by reason";
        self.expose_reasons(out, name, help, "reason", |shard| &shard.http2_refused);
        let name = "serviceos_tls_handshakes_total";
        self.expose_reasons(out, name, "TLS handshakes with clients, by how they ended", "result", |shard| {
            &shard.tls_handshakes
        });
    }

    /// The gateway itself is a service in what it answers, and calls no replicas.
    fn called_services(&self) -> impl Iterator<Item = &ServiceSeries> {
        self.services.iter().map(|series| &**series).filter(|series| series.name != GATEWAY)
    }

    fn expose_service_totals(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        count: impl Fn(&ServiceSeries) -> u64,
    ) {
        out.family(name, MetricType::Counter, help);
        for series in self.services {
            out.count(name, &[("service", &series.name)], count(series));
        }
    }

    fn expose_service_reasons<R: Reason>(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        label: &str,
        counters: impl Fn(&ServiceShard) -> &CountersBy<R>,
    ) {
        out.family(name, MetricType::Counter, help);
        for series in self.services {
            for (place, reason) in R::LABELS.iter().enumerate() {
                let count = series.shards.iter().map(|shard| counters(shard).at(place)).sum();
                out.count(name, &[("service", &series.name), (label, reason)], count);
            }
        }
    }

    fn expose_total(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        value: impl Fn(&GatewayShard) -> u64,
    ) {
        out.family(name, MetricType::Counter, help);
        out.sample(name, &[], self.gateway.iter().map(|shard| value(shard)).sum::<u64>());
    }

    fn expose_reasons<R: Reason>(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        label: &str,
        counters: impl Fn(&GatewayShard) -> &CountersBy<R>,
    ) {
        out.family(name, MetricType::Counter, help);
        for (place, reason) in R::LABELS.iter().enumerate() {
            let count = self.gateway.iter().map(|shard| counters(shard).at(place)).sum();
            out.count(name, &[(label, reason)], count);
        }
    }
}

impl ServiceSeries {
    fn sum(&self, counter: impl Fn(&ServiceShard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(shard).value()).sum()
    }
}

impl RouteSeries {
    fn expose_method(&self, out: &mut Exposition, method: MethodLabel) {
        let shards: Vec<_> = self.shards.iter().filter_map(|shard| shard.statuses(method)).collect();
        if shards.is_empty() {
            return;
        }
        for status in Statuses::all() {
            let count = shards.iter().filter_map(|statuses| statuses.of(status)).map(Counter::value).sum();
            if count > 0 {
                let labels = [
                    ("service", self.service.as_str()),
                    ("route", &self.route),
                    ("method", method.as_str()),
                    ("status", &status.to_string()),
                ];
                out.count("request_count", &labels, count);
            }
        }
    }

    fn expose_latency(&self, out: &mut Exposition) {
        let (mut buckets, mut sum_us) = ([0; 15], 0);
        for shard in &*self.shards {
            let (own, own_sum) = shard.latency().value();
            buckets.iter_mut().zip(own).for_each(|(total, own)| *total += own);
            sum_us += own_sum;
        }
        if buckets.iter().all(|count| *count == 0) {
            return;
        }
        let (service, route) = (self.service.as_str(), self.route.as_str());
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
