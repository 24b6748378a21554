use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    CircuitLimit, Http2Refused, MethodLabel, Reason, Refused, RetryDenied, Served, TlsHandshake,
    UpstreamFailure,
};

fn page(metrics: &Metrics) -> String {
    let mut out = Exposition::default();
    metrics.expose(&mut out);
    out.finish()
}

/// The page, of the latency buckets one alone.
fn check(metrics: &Metrics, expected: Expect) {
    let page = page(metrics);
    let shown = page.lines().filter(|line| !line.contains("bucket") || line.contains("le=\"2.5\""));
    expected.assert_eq(&shown.collect::<Vec<_>>().join("\n"));
}

/// The samples of one family.
fn samples(metrics: &Metrics, family: &str) -> Vec<String> {
    page(metrics).lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    pairs.iter().map(|(service, route)| (service.to_string(), route.to_string())).collect()
}

fn get(route: &RouteShard, status: u16) {
    route.request(MethodLabel::of("GET"), status, Served::AsAnswered, Duration::from_millis(1));
}

#[test]
fn the_four_metrics_have_the_names_and_labels_that_were_promised() {
    let metrics = Metrics::new(2);
    let vrf = metrics.route("vrf", "/v1/random");
    metrics.sample_error_rates();
    for worker in 0..2 {
        metrics.gateway(worker).client_connections.add_one();
        vrf[worker].request(MethodLabel::of("POST"), 200, Served::AsAnswered, Duration::from_millis(2));
    }
    vrf[0].request(MethodLabel::of("BREW"), 502, Served::AsAnswered, Duration::from_secs(60));
    metrics.unmatched()[1].request(MethodLabel::of("GET"), 404, Served::AsAnswered, Duration::from_micros(1));
    metrics.sample_error_rates();
    check(
        &metrics,
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
            # HELP serviceos_access_log_dropped_total Access log lines that were not written
            # TYPE serviceos_access_log_dropped_total counter
            serviceos_access_log_dropped_total 0
            # HELP serviceos_shared_limits_failed_total Times that the limits shared by gateways could not be counted
            # TYPE serviceos_shared_limits_failed_total counter
            serviceos_shared_limits_failed_total 0"##]],
    );
}

/// Metrics in which every family has a sample.
fn all_counted() -> Metrics {
    let metrics = Metrics::new(2);
    get(&metrics.route("vrf", "/v1/random")[0], 200);
    let service = metrics.service("vrf");
    for worker in 0..2 {
        let vrf = service.shard(worker);
        vrf.connections.add_one();
        vrf.connects.add_one();
        vrf.retries.add_one();
        vrf.retries_denied.add_one(RetryDenied::Budget);
        vrf.circuit_open.add_one(CircuitLimit::Pending);
        vrf.upstream_failures.add_one(UpstreamFailure::Reset);
        let gateway = metrics.gateway(worker);
        gateway.requests_refused.add_one(Refused::RateLimited);
        gateway.shared_limits_failed.add_one();
        gateway.http2_refused.add_one(Http2Refused::Flood);
        gateway.tls_handshakes.add_one(TlsHandshake::Resumed);
    }
    metrics.service("vrf").shard(1).upstream_failures.add_one(UpstreamFailure::Tls);
    metrics.gateway(1).requests_refused.add_one(Refused::HeaderBytes);
    metrics.service("vrf").health().ejections.add_one();
    metrics
}

#[test]
fn what_all_workers_counted_is_added_up_by_reason() {
    let metrics = all_counted();
    let page = page(&metrics);
    let shown = page.lines().filter(|line| line.contains("serviceos_") && !line.starts_with("# HELP"));
    expect![[r##"
        # TYPE serviceos_retries_total counter
        serviceos_retries_total{service="vrf"} 2
        # TYPE serviceos_retries_denied_total counter
        serviceos_retries_denied_total{service="vrf",reason="budget"} 2
        # TYPE serviceos_circuit_open_total counter
        serviceos_circuit_open_total{service="vrf",limit="pending"} 2
        # TYPE serviceos_upstream_failures_total counter
        serviceos_upstream_failures_total{service="vrf",reason="reset"} 2
        serviceos_upstream_failures_total{service="vrf",reason="tls"} 1
        # TYPE serviceos_upstream_connects_total counter
        serviceos_upstream_connects_total{service="vrf"} 2
        # TYPE serviceos_outlier_ejections_total counter
        serviceos_outlier_ejections_total{service="vrf"} 1
        # TYPE serviceos_connections_refused_total counter
        serviceos_connections_refused_total 0
        # TYPE serviceos_requests_shed_total counter
        serviceos_requests_shed_total 0
        # TYPE serviceos_access_log_dropped_total counter
        serviceos_access_log_dropped_total 0
        # TYPE serviceos_requests_refused_total counter
        serviceos_requests_refused_total{reason="header_bytes"} 1
        serviceos_requests_refused_total{reason="rate_limited"} 2
        # TYPE serviceos_shared_limits_failed_total counter
        serviceos_shared_limits_failed_total 2
        # TYPE serviceos_http2_refused_total counter
        serviceos_http2_refused_total{reason="flood"} 2
        # TYPE serviceos_tls_handshakes_total counter
        serviceos_tls_handshakes_total{result="resumed"} 2"##]]
    .assert_eq(&shown.collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_family_and_every_reason_is_documented() {
    let manual = include_str!("../../../../docs/operations.md");
    let page = page(&all_counted());
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let reasons = [
        Refused::LABELS,
        Http2Refused::LABELS,
        TlsHandshake::LABELS,
        RetryDenied::LABELS,
        CircuitLimit::LABELS,
        UpstreamFailure::LABELS,
    ];
    let missing: Vec<_> =
        families.chain(reasons.concat()).filter(|name| !manual.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [""; 0], "docs/operations.md does not name them");
}

#[test]
fn the_same_labels_give_the_same_counters_and_each_worker_has_its_own() {
    let metrics = Metrics::new(2);
    let (route, service) = (metrics.route("vrf", "/v1/random"), metrics.service("vrf"));
    assert!(Arc::ptr_eq(&route, &metrics.route("vrf", "/v1/random")));
    assert!(Arc::ptr_eq(&service, &metrics.service("vrf")));
    assert!(!Arc::ptr_eq(&route, &metrics.route("oracle", "/v1/random")));
    assert!(!std::ptr::eq(&route[0], &route[1]));
    assert!(!Arc::ptr_eq(service.shard(0), service.shard(1)));
}

#[test]
fn what_is_not_retained_disappears_and_the_rest_keeps_its_counts() {
    let metrics = Metrics::new(1);
    for (service, route) in [("vrf", "/a"), ("vrf", "/b"), ("oracle", "/c")] {
        get(&metrics.route(service, route)[0], 200);
    }
    metrics.service("oracle").health().ejections.add_one();
    get(&metrics.unmatched()[0], 404);
    metrics.retain(&names(&["vrf"]), &pairs(&[("vrf", "/b")]));
    get(&metrics.route("vrf", "/b")[0], 200);
    check(
        &metrics,
        expect![[r##"
            # HELP request_count Total requests per service
            # TYPE request_count counter
            request_count{service="gateway",route="unmatched",method="GET",status="404"} 1
            request_count{service="vrf",route="/b",method="GET",status="200"} 2
            # HELP request_latency_ms Request latency percentiles
            # TYPE request_latency_ms histogram
            request_latency_ms_bucket{service="gateway",route="unmatched",le="2.5"} 1
            request_latency_ms_sum{service="gateway",route="unmatched"} 1
            request_latency_ms_count{service="gateway",route="unmatched"} 1
            request_latency_ms_bucket{service="vrf",route="/b",le="2.5"} 2
            request_latency_ms_sum{service="vrf",route="/b"} 2
            request_latency_ms_count{service="vrf",route="/b"} 2
            # HELP error_rate Error rate per service: 5xx and upstream failures over 60 s
            # TYPE error_rate gauge
            error_rate{service="gateway"} 0
            error_rate{service="vrf"} 0
            # HELP active_connections Current active connections
            # TYPE active_connections gauge
            active_connections{listener="gateway"} 0
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
            # HELP serviceos_access_log_dropped_total Access log lines that were not written
            # TYPE serviceos_access_log_dropped_total counter
            serviceos_access_log_dropped_total 0
            # HELP serviceos_shared_limits_failed_total Times that the limits shared by gateways could not be counted
            # TYPE serviceos_shared_limits_failed_total counter
            serviceos_shared_limits_failed_total 0"##]],
    );
}

#[test]
fn a_route_that_stays_keeps_its_service() {
    let metrics = Metrics::new(1);
    let (route, service) = (metrics.route("vrf", "/a"), metrics.service("vrf"));
    metrics.retain(&names(&[]), &pairs(&[("vrf", "/a")]));
    assert!(Arc::ptr_eq(&route, &metrics.route("vrf", "/a")));
    assert!(Arc::ptr_eq(&service, &metrics.service("vrf")));
}

#[test]
fn a_service_that_comes_back_begins_anew_and_late_counts_of_its_former_self_are_unseen() {
    let metrics = Metrics::new(1);
    let before = metrics.route("vrf", "/a");
    (0..10).for_each(|_| get(&before[0], 500));
    metrics.sample_error_rates();
    assert_eq!(samples(&metrics, "error_rate{service=\"vrf\""), ["error_rate{service=\"vrf\"} 1"]);
    metrics.retain(&names(&[]), &pairs(&[]));
    metrics.sample_error_rates();
    assert_eq!(samples(&metrics, "error_rate{service=\"vrf\""), [""; 0]);
    let after = metrics.route("vrf", "/a");
    get(&after[0], 200);
    get(&after[0], 502);
    get(&before[0], 500);
    metrics.sample_error_rates();
    assert_eq!(samples(&metrics, "error_rate{service=\"vrf\""), ["error_rate{service=\"vrf\"} 0.5"]);
    assert_eq!(samples(&metrics, "request_count{service=\"vrf\"").len(), 2);
}

#[test]
fn nothing_is_lost_while_others_reload_sample_and_ask() {
    const REQUESTS: usize = 20_000;
    let metrics = Metrics::new(2);
    let kept = (names(&["vrf"]), pairs(&[("vrf", "/a")]));
    std::thread::scope(|threads| {
        let counting = [0, 1].map(|worker| {
            let route = metrics.route("vrf", "/a");
            threads.spawn(move || (0..REQUESTS).for_each(|_| get(&route[worker], 200)))
        });
        loop {
            metrics.route("oracle", "/b");
            metrics.retain(&kept.0, &kept.1);
            metrics.sample_error_rates();
            page(&metrics);
            if counting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
    });
    let expected = "request_count{service=\"vrf\",route=\"/a\",method=\"GET\",status=\"200\"} 40000";
    assert_eq!(samples(&metrics, "request_count{"), [expected]);
}
