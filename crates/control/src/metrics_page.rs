//! `/metrics`: the gateway's counters, and the facts about replicas at the moment of the question.

use observability::{Exposition, MetricType, Metrics};
use service_registry::{LifecycleState, Replica, Snapshot};

/// The page in Prometheus text format 0.0.4.
pub(crate) fn render(metrics: &Metrics, snapshot: &Snapshot) -> String {
    let mut out = Exposition::default();
    metrics.expose(&mut out);
    out.family("serviceos_replicas", MetricType::Gauge, "Replicas by lifecycle state");
    for service in &snapshot.services {
        for state in LifecycleState::ALL {
            let count = service.replicas.iter().filter(|replica| replica.state == state).count();
            out.sample("serviceos_replicas", &[("service", service.name.as_str()), ("state", state.as_str())], count);
        }
    }
    let facts: [(&str, MetricType, &str, fn(&Replica) -> u64); 3] = [
        ("serviceos_replica_selectable", MetricType::Gauge, "1 while requests may reach the replica", |replica| {
            u64::from(replica.selectable().is_ok())
        }),
        ("serviceos_replica_restarts_total", MetricType::Counter, "Starts of the replica after its first", |replica| {
            u64::from(replica.restarts)
        }),
        ("serviceos_replica_requests_in_flight", MetricType::Gauge, "Requests that the replica has", |replica| {
            replica.instance.as_ref().map_or(0, |instance| instance.in_flight.count() as u64)
        }),
    ];
    for (name, kind, help, value) in facts {
        out.family(name, kind, help);
        for replica in snapshot.services.iter().flat_map(|service| &service.replicas) {
            let labels = [("service", replica.id.service.as_str()), ("replica", &replica.id.to_string())];
            out.sample(name, &labels, value(replica));
        }
    }
    out.finish()
}
