//! `/metrics`: the gateway's counters, and the facts about replicas at the moment of the question.

use std::collections::BTreeMap;
use std::fmt::Display;

use jiff::Timestamp;
use observability::{Exposition, MetricType, Metrics};
use service_registry::{Attestation, Attested, LifecycleState, Replica, Snapshot};
use types::ServiceName;

use crate::store_state::StoreState;

/// The page in Prometheus text format 0.0.4.
pub(crate) fn render(
    metrics: &Metrics,
    snapshot: &Snapshot,
    store: &StoreState,
    revision: u64,
    dropped: &BTreeMap<ServiceName, u64>,
    now: Timestamp,
) -> String {
    let mut out = Exposition::default();
    metrics.expose(&mut out);
    let name = "serviceos_store_available";
    out.family(name, MetricType::Gauge, "1 while the store answers");
    out.sample(name, &[("kind", store.kind.as_str())], u64::from(store.available));
    let name = "serviceos_store_stale";
    out.family(name, MetricType::Gauge, "1 from a start without the store until it answers");
    out.sample(name, &[("kind", store.kind.as_str())], u64::from(store.stale.is_some()));
    let help = "The revision of the configuration that is in force";
    out.family("serviceos_config_revision", MetricType::Gauge, help);
    out.sample("serviceos_config_revision", &[], revision);
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
    let selectable = |replica: &Replica| Some(u64::from(replica.selectable().is_ok()));
    let help = "1 while requests may reach the replica";
    each_replica(&mut out, snapshot, "serviceos_replica_selectable", MetricType::Gauge, help, selectable);
    let expiry = |replica: &Replica| {
        let Attestation { value: Attested::Valid | Attested::Expired, appraised: Some(appraised), .. } =
            &replica.attestation
        else {
            return None;
        };
        Some(appraised.expires.duration_since(now).as_secs())
    };
    let help = "Seconds until the identity of the replica expires, negative once it has";
    let name = "serviceos_replica_attestation_expiry_seconds";
    each_replica(&mut out, snapshot, name, MetricType::Gauge, help, expiry);
    let restarts = |replica: &Replica| Some(replica.restarts);
    let help = "Starts of the replica after its first";
    each_replica(&mut out, snapshot, "serviceos_replica_restarts_total", MetricType::Counter, help, restarts);
    let requests =
        |replica: &Replica| Some(replica.instance.as_ref().map_or(0, |instance| instance.in_flight.count()));
    let help = "Requests that the replica has";
    let name = "serviceos_replica_requests_in_flight";
    each_replica(&mut out, snapshot, name, MetricType::Gauge, help, requests);
    let name = "serviceos_replica_output_dropped_bytes_total";
    out.family(name, MetricType::Counter, "Bytes that replicas wrote and that were not passed on to the log");
    for (service, bytes) in dropped {
        out.sample(name, &[("service", service.as_str())], bytes);
    }
    out.finish()
}

/// A family with a sample of each replica that has one.
fn each_replica<T: Display>(
    out: &mut Exposition,
    snapshot: &Snapshot,
    name: &str,
    kind: MetricType,
    help: &str,
    value: impl Fn(&Replica) -> Option<T>,
) {
    out.family(name, kind, help);
    for replica in snapshot.services.iter().flat_map(|service| &service.replicas) {
        if let Some(value) = value(replica) {
            let labels = [("service", replica.id.service.as_str()), ("replica", &replica.id.to_string())];
            out.sample(name, &labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::health::tests::service;

    #[test]
    fn replicas_have_their_facts_on_the_page_and_those_without_an_identity_no_expiry() {
        let snapshot = Snapshot::new(1, vec![service("vrf", "rpe", true)]);
        let at = Timestamp::from_second(5).unwrap();
        let page = render(
            &Metrics::new(1),
            &snapshot,
            &StoreState::of_test(),
            7,
            &[("vrf".parse().unwrap(), 9)].into(),
            at,
        );
        let facts = [
            "serviceos_store_available",
            "serviceos_store_stale",
            "serviceos_config_revision",
            "serviceos_replica_selectable",
            "serviceos_replica_attestation_expiry_seconds",
            "serviceos_replica_output_dropped_bytes_total",
        ];
        let shown = page.lines().filter(|line| facts.iter().any(|fact| line.contains(fact)));
        expect![[r##"
            # HELP serviceos_store_available 1 while the store answers
            # TYPE serviceos_store_available gauge
            serviceos_store_available{kind="embedded"} 1
            # HELP serviceos_store_stale 1 from a start without the store until it answers
            # TYPE serviceos_store_stale gauge
            serviceos_store_stale{kind="embedded"} 0
            # HELP serviceos_config_revision The revision of the configuration that is in force
            # TYPE serviceos_config_revision gauge
            serviceos_config_revision 7
            # HELP serviceos_replica_selectable 1 while requests may reach the replica
            # TYPE serviceos_replica_selectable gauge
            serviceos_replica_selectable{service="vrf",replica="vrf/0"} 1
            serviceos_replica_selectable{service="vrf",replica="vrf/1"} 0
            serviceos_replica_selectable{service="vrf",replica="vrf/2"} 0
            # HELP serviceos_replica_attestation_expiry_seconds Seconds until the identity of the replica expires, negative once it has
            # TYPE serviceos_replica_attestation_expiry_seconds gauge
            serviceos_replica_attestation_expiry_seconds{service="vrf",replica="vrf/0"} 3595
            # HELP serviceos_replica_output_dropped_bytes_total Bytes that replicas wrote and that were not passed on to the log
            # TYPE serviceos_replica_output_dropped_bytes_total counter
            serviceos_replica_output_dropped_bytes_total{service="vrf"} 9
        "##]].assert_eq(&shown.map(|line| format!("{line}\n")).collect::<String>());
    }
}
