//! How calls to a service are made, checked and limited, in the words of whoever does so.

use configuration::{BalancingPolicy, Probe, Protocol, RolloutStrategy, Runs, ServiceSettings};
use service_lifecycle::{Policy, Terms, rollout};
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
    // What is started here has one version, and while another takes its place the rollout alone says who gets what.
    let has_several = matches!(service.runs, Runs::Endpoints(_));
    let divided = service.traffic.iter().filter(|_| has_several);
    let weights = divided.flat_map(|traffic| &traffic.weights);
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
    Some((service.name.clone(), Terms { policy, plan: rollout_plan(service)? }))
}

/// How another version of a service takes the place of the one that runs; `None` for what is not started here.
fn rollout_plan(service: &ServiceSettings) -> Option<rollout::Plan> {
    let process = service.process()?;
    let settings = &process.rollout;
    let strategy = match &settings.strategy {
        RolloutStrategy::Rolling => rollout::Strategy::Rolling,
        RolloutStrategy::Canary { steps, gate } => rollout::Strategy::Canary {
            steps: steps
                .iter()
                .map(|step| rollout::Step { weight: step.weight.get(), pause: step.pause })
                .collect(),
            gate: rollout::Gate {
                error_rate: f64::from(gate.error_rate.get()) / 100.0,
                latency_ratio: gate.latency_ratio,
                min_requests: u64::from(gate.min_requests),
            },
        },
        RolloutStrategy::BlueGreen { auto_promote, keep } => rollout::Strategy::BlueGreen {
            promotion: auto_promote.map_or(rollout::Promotion::ByHand, rollout::Promotion::After),
            keep: *keep,
        },
    };
    Some(rollout::Plan {
        replicas: process.replicas,
        max_surge: settings.max_surge,
        max_unavailable: settings.max_unavailable,
        min_ready: settings.min_ready,
        progress_deadline: settings.progress_deadline,
        strategy,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn plan(rollout: &str) -> rollout::Plan {
        let text = format!("services: {{vrf: {{replicas: 3, rollout: {rollout}}}}}");
        let (base, cores) = (Path::new("/srv/mesh"), NonZeroUsize::new(1).unwrap());
        let settings =
            configuration::parse(&text, "serviceos.yaml", base, cores, configuration::any_config).unwrap();
        rollout_plan(&settings.services[0]).unwrap()
    }

    #[test]
    fn a_rollout_goes_as_the_file_says() {
        let minute = Duration::from_secs(60);
        let by_default = rollout::Plan {
            replicas: 3,
            max_surge: 1,
            max_unavailable: 0,
            min_ready: Duration::from_secs(2),
            progress_deadline: 10 * minute,
            strategy: rollout::Strategy::Rolling,
        };
        assert_eq!(plan(""), by_default);
        let strategy = |text: &str| plan(text).strategy;
        assert_eq!(
            strategy(
                "{strategy: canary, steps: [{weight: 5%, pause: 1m}, {weight: 50%}], gate: {errorRate: 2%}}"
            ),
            rollout::Strategy::Canary {
                steps: vec![
                    rollout::Step { weight: 5, pause: Some(minute) },
                    rollout::Step { weight: 50, pause: None }
                ],
                gate: rollout::Gate { error_rate: 0.02, latency_ratio: 2.0, min_requests: 100 },
            }
        );
        assert_eq!(
            strategy("{strategy: blueGreen, keep: 1m}"),
            rollout::Strategy::BlueGreen {
                promotion: rollout::Promotion::After(Duration::ZERO),
                keep: minute
            }
        );
        assert_eq!(
            strategy("{strategy: blueGreen, autoPromote: never}"),
            rollout::Strategy::BlueGreen { promotion: rollout::Promotion::ByHand, keep: 5 * minute }
        );
    }
}
