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
            out.sample(
                "serviceos_replicas",
                &[("service", service.name.as_str()), ("state", state.as_str())],
                count,
            );
        }
    }
    let selectable = |replica: &Replica| u64::from(replica.selectable().is_ok());
    let help = "1 while requests may reach the replica";
    each_replica(&mut out, snapshot, "serviceos_replica_selectable", MetricType::Gauge, help, selectable);
    let restarts = |replica: &Replica| u64::from(replica.restarts);
    let help = "Starts of the replica after its first";
    each_replica(&mut out, snapshot, "serviceos_replica_restarts_total", MetricType::Counter, help, restarts);
    let requests =
        |replica: &Replica| replica.instance.as_ref().map_or(0, |instance| instance.in_flight.count() as u64);
    let help = "Requests that the replica has";
    each_replica(
        &mut out,
        snapshot,
        "serviceos_replica_requests_in_flight",
        MetricType::Gauge,
        help,
        requests,
    );
    out.finish()
}

fn each_replica(
    out: &mut Exposition,
    snapshot: &Snapshot,
    name: &str,
    kind: MetricType,
    help: &str,
    value: impl Fn(&Replica) -> u64,
) {
    out.family(name, kind, help);
    for replica in snapshot.services.iter().flat_map(|service| &service.replicas) {
        let labels = [("service", replica.id.service.as_str()), ("replica", &replica.id.to_string())];
        out.sample(name, &labels, value(replica));
    }
}
