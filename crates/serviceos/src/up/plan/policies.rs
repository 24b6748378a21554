//! How calls to a service are made, checked and limited, in the words of whoever does so.

use std::time::Duration;

use configuration::{BalancingPolicy, Probe, Protocol, ServiceSettings};
use service_lifecycle::rollout::{Plan as RolloutPlan, Strategy};
use service_lifecycle::{Policy, Terms};
use service_router::{
    Balancing, CheckChannel, CheckPolicy, CircuitLimits, RetryOn, RouterPolicy, TlsClient, UpstreamProtocol,
};
use types::ServiceName;

use crate::up::upstream_tls::UpstreamTls;

pub(super) fn router_policy(service: &ServiceSettings, tls: &UpstreamTls) -> RouterPolicy {
    let protocol = match service.protocol {
        Protocol::Http1 => UpstreamProtocol::Http1,
        Protocol::Http2 | Protocol::Grpc => UpstreamProtocol::Http2,
    };
    let retry = &service.retry;
    RouterPolicy {
        protocol,
        tls: tls.client(service, protocol),
        attempts: retry.attempts,
        per_try_timeout: retry.per_try_timeout,
        retry_on: RetryOn {
            connect: retry.on.connect,
            reset: retry.on.reset,
            statuses: retry.on.statuses.clone(),
        },
        budget_percent: u32::from(retry.budget.get()),
        failures_in_a_row: service.outlier.consecutive_failures.map_or(0, std::num::NonZeroU32::get),
        balancing: balancing(service),
    }
}

fn balancing(service: &ServiceSettings) -> Balancing {
    let settings = &service.load_balancing;
    let policy = match settings.policy {
        BalancingPolicy::PeakEwma => service_router::BalancingPolicy::PeakEwma,
        BalancingPolicy::RoundRobin => service_router::BalancingPolicy::RoundRobin,
        BalancingPolicy::LeastRequest => service_router::BalancingPolicy::LeastRequest,
        BalancingPolicy::Maglev(_) => service_router::BalancingPolicy::Maglev,
        BalancingPolicy::Random => service_router::BalancingPolicy::Random,
    };
    let weights = service.traffic.iter().flat_map(|traffic| &traffic.weights);
    Balancing {
        policy,
        slow_start: settings.slow_start,
        panic_threshold_percent: settings.panic_threshold.get(),
        version_weights: weights.map(|(version, weight)| (version.clone(), *weight)).collect(),
    }
}

pub(super) fn circuit_limits(circuit: &configuration::Circuit) -> CircuitLimits {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    CircuitLimits {
        connections: number(circuit.connections),
        pending: number(circuit.pending),
        requests: number(circuit.requests),
    }
}

pub(super) fn check_policy(
    service: &ServiceSettings,
    protocol: UpstreamProtocol,
    tls: Option<TlsClient>,
) -> CheckPolicy {
    let check = &service.health_check;
    let probe = match &check.probe {
        Probe::Http { path } => service_router::Probe::Http(path.clone()),
        Probe::Tcp => service_router::Probe::Tcp,
        Probe::Grpc => service_router::Probe::Grpc,
    };
    CheckPolicy {
        channel: CheckChannel { probe, protocol, tls },
        interval: check.interval,
        timeout: check.timeout,
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
        ejection: service.outlier.ejection,
        max_ejected_percent: service.outlier.max_ejected.get(),
    }
}

pub(super) fn terms(service: &ServiceSettings) -> Option<(ServiceName, Terms)> {
    let process = service.process()?;
    let policy = Policy {
        start_timeout: process.start_timeout,
        drain_timeout: service.drain_timeout,
        grace: process.grace,
        restart_min: process.restart.min,
        restart_max: process.restart.max,
        restart_reset: process.restart.reset_after,
    };
    let plan = RolloutPlan {
        replicas: process.replicas,
        max_surge: 1,
        max_unavailable: 0,
        min_ready: Duration::from_secs(2),
        progress_deadline: Duration::from_secs(600),
        strategy: Strategy::Rolling,
    };
    Some((service.name.clone(), Terms { policy, plan }))
}
