//! `/health` and `/health/detailed`: the seed's words.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use service_registry::{LifecycleState, Replica, Service, Snapshot};

use crate::status::why;
use crate::store_state::StoreState;

/// The state of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// Every service is up.
    Healthy,
    /// Some replica or service is not, yet requests are served.
    Degraded,
    /// A required service is down, or the gateway drains.
    Unhealthy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServiceState {
    Up,
    Degraded,
    Down,
}

/// What is known of the health of all services at one moment.
#[derive(Debug, Clone)]
pub struct HealthReport {
    snapshot: Arc<Snapshot>,
    overall: Overall,
    store: StoreState,
}

impl HealthReport {
    /// The report of a snapshot; while draining the whole is unhealthy, so that balancers in front look elsewhere.
    pub fn new(snapshot: Arc<Snapshot>, draining: bool, store: StoreState) -> Self {
        // A service that is scaled to 0 is down because somebody wants it so.
        let needed = |service: &Service| service.required && !service.replicas.is_empty();
        let states = || snapshot.services.iter().map(|service| (needed(service), state(service)));
        let overall = if draining || states().any(|(needed, state)| needed && state == ServiceState::Down) {
            Overall::Unhealthy
        } else if states().all(|(_, state)| state == ServiceState::Up) {
            Overall::Healthy
        } else {
            Overall::Degraded
        };
        Self { snapshot, overall, store }
    }

    /// The state of everything.
    pub fn overall(&self) -> Overall {
        self.overall
    }

    /// 200 while requests are served, 503 otherwise.
    pub fn http_status(&self) -> u16 {
        if self.overall == Overall::Unhealthy { 503 } else { 200 }
    }

    /// The body of `/health`.
    pub fn brief(&self) -> Value {
        self.render(base)
    }

    /// The body of `/health/detailed`.
    pub fn detailed(&self) -> Value {
        let mut page = self.render(|service| {
            let mut entry = base(service);
            let count = |state| service.replicas.iter().filter(|replica| replica.state == state).count();
            let counts: Map<_, _> = LifecycleState::ALL
                .map(|state| (state.as_str().to_owned(), json!(count(state))))
                .into_iter()
                .collect();
            entry.insert("version".into(), json!(service.version.label()));
            entry.insert("required".into(), json!(service.required));
            entry.insert("replicas".into(), Value::Object(counts));
            entry.insert("instances".into(), service.replicas.iter().map(instance).collect());
            entry
        });
        page["store"] = json!(self.store);
        page
    }

    fn render(&self, entry: impl Fn(&Service) -> Map<String, Value>) -> Value {
        let services = self.snapshot.services.iter();
        let services: Map<_, _> =
            services.map(|service| (service.name.to_string(), Value::Object(entry(service)))).collect();
        json!({"status": self.overall, "services": services})
    }
}

fn state(service: &Service) -> ServiceState {
    match service.selectable().count() {
        0 => ServiceState::Down,
        count if count == service.replicas.len() => ServiceState::Up,
        _ => ServiceState::Degraded,
    }
}

fn base(service: &Service) -> Map<String, Value> {
    let state = match state(service) {
        ServiceState::Up => "up",
        ServiceState::Degraded => "degraded",
        ServiceState::Down => "down",
    };
    let latency = service.median_latency().map(milliseconds);
    Map::from_iter([("status".to_owned(), json!(state)), ("latency_ms".to_owned(), json!(latency))])
}

fn instance(replica: &Replica) -> Value {
    let instance = replica.instance.as_ref();
    let (health, attestation) = (&replica.health, &replica.attestation);
    let expires = attestation.appraised.as_ref().map(|appraised| rfc3339(appraised.expires));
    json!({
        "id": replica.id,
        "state": replica.state.as_str(),
        "reason": why(replica),
        "since": rfc3339(replica.since),
        "health": health.verdict.as_str(),
        "attestation": attestation.value.as_str(),
        "attested": attestation.holds(),
        "attestationExpires": expires,
        "latency_ms": instance.and_then(|instance| instance.last_check.latency()).map(milliseconds),
        "inFlight": instance.map_or(0, |instance| instance.in_flight.count()),
        "restarts": replica.restarts,
        "lastError": instance.and_then(|instance| instance.last_check.error()),
        "selectable": replica.selectable().is_ok(),
    })
}

/// Milliseconds with three decimals.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

pub(crate) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;
    use service_registry::{Appraised, Attestation, Instance, Verdict};
    use types::ReplicaId;

    use super::*;

    /// What was appraised of every replica of these tests: an hour from the beginning of time.
    pub(crate) fn appraised() -> Arc<Appraised> {
        Arc::new(Appraised {
            kind: "simulated".into(),
            release: "1.0.0".into(),
            measurement: "09".repeat(32),
            tcb: "UpToDate".into(),
            advisories: vec!["INTEL-SA-00001".into()],
            record: "01JD00000000000000000000AA".into(),
            leaf_sha256: "0a".repeat(32),
            spiffe_id: "spiffe://test.dev.invalid/service/vrf/0".into(),
            appraised_at: Timestamp::UNIX_EPOCH,
            expires: Timestamp::from_second(3600).unwrap(),
        })
    }

    /// A service with a replica for each letter: r selectable, p the same but for its attestation, which is awaited, u Ready,
    /// attested and unhealthy, e the same and an endpoint, s Starting, x Stopped.
    pub(crate) fn service(name: &str, replicas: &str, required: bool) -> Arc<Service> {
        let desired = replicas.len();
        let replicas = replicas.chars().zip(0_u32..).map(|(letter, ordinal)| {
            let id = ReplicaId::new(name.parse().unwrap(), ordinal);
            let mut replica = Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH);
            replica.state = match letter {
                's' => LifecycleState::Starting,
                'x' => LifecycleState::Stopped,
                _ => LifecycleState::Ready,
            };
            replica.reason = (letter == 'x').then(|| "exited with code 1".to_owned());
            replica.health.verdict =
                if "rp".contains(letter) { Verdict::Healthy } else { Verdict::Unhealthy };
            let now = Timestamp::UNIX_EPOCH;
            replica.attestation = match letter {
                'r' | 'u' => Attestation::pending(now).valid(appraised(), now),
                'e' => Attestation::exempt(now),
                _ => Attestation::pending(now),
            };
            if "rpue".contains(letter) {
                let instance = Instance::new(id, 1, ([127, 0, 0, 1], 41233).into(), "1.0.0".into());
                instance.last_check.passed(Duration::from_micros(12_345 + 1000 * u64::from(ordinal)));
                (replica.pid, replica.instance) = (Some(4711), Some(Arc::new(instance)));
            }
            replica
        });
        Arc::new(Service {
            name: name.parse().unwrap(),
            version: "1.0.0".into(),
            split: None,
            required,
            desired,
            replicas: replicas.collect(),
        })
    }

    fn brief(services: Vec<Arc<Service>>, draining: bool) -> String {
        let snapshot = Snapshot::new(1, services);
        let report = HealthReport::new(Arc::new(snapshot), draining, StoreState::of_test());
        format!("{} {}\n", report.http_status(), report.brief())
    }

    #[test]
    fn the_whole_follows_from_the_services_in_the_seeds_words() {
        let mut shown = String::new();
        shown += &brief(vec![service("vrf", "rrr", true), service("datafeed", "r", true)], false);
        shown += &brief(vec![service("vrf", "rus", true)], false);
        shown += &brief(vec![service("vrf", "rp", true)], false);
        shown += &brief(vec![service("vrf", "uxp", true)], false);
        shown += &brief(vec![service("vrf", "r", true), service("oracle", "x", false)], false);
        shown += &brief(vec![service("vrf", "r", true)], true);
        shown += &brief(vec![service("vrf", "", true)], false);
        expect![[r#"
            200 {"status":"healthy","services":{"vrf":{"status":"up","latency_ms":13.345},"datafeed":{"status":"up","latency_ms":12.345}}}
            200 {"status":"degraded","services":{"vrf":{"status":"degraded","latency_ms":12.345}}}
            200 {"status":"degraded","services":{"vrf":{"status":"degraded","latency_ms":12.345}}}
            503 {"status":"unhealthy","services":{"vrf":{"status":"down","latency_ms":null}}}
            200 {"status":"degraded","services":{"vrf":{"status":"up","latency_ms":12.345},"oracle":{"status":"down","latency_ms":null}}}
            503 {"status":"unhealthy","services":{"vrf":{"status":"up","latency_ms":12.345}}}
            200 {"status":"degraded","services":{"vrf":{"status":"down","latency_ms":null}}}
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn detailed_says_why() {
        let snapshot = Snapshot::new(1, vec![service("vrf", "rxe", true)]);
        let stale = Some("2026-01-02T03:04:05.678Z".parse().unwrap());
        let store =
            StoreState { kind: "etcd".into(), available: false, reason: Some("no leader".into()), stale };
        let report = HealthReport::new(Arc::new(snapshot), false, store);
        expect![[r#"
            {
              "status": "degraded",
              "services": {
                "vrf": {
                  "status": "degraded",
                  "latency_ms": 12.345,
                  "version": "1.0.0",
                  "required": true,
                  "replicas": {
                    "Starting": 0,
                    "Ready": 2,
                    "Draining": 0,
                    "Stopped": 1
                  },
                  "instances": [
                    {
                      "id": "vrf/0",
                      "state": "Ready",
                      "reason": null,
                      "since": "1970-01-01T00:00:00.000Z",
                      "health": "healthy",
                      "attestation": "valid",
                      "attested": true,
                      "attestationExpires": "1970-01-01T01:00:00.000Z",
                      "latency_ms": 12.345,
                      "inFlight": 0,
                      "restarts": 0,
                      "lastError": null,
                      "selectable": true
                    },
                    {
                      "id": "vrf/1",
                      "state": "Stopped",
                      "reason": "exited with code 1",
                      "since": "1970-01-01T00:00:00.000Z",
                      "health": "unhealthy",
                      "attestation": "pending",
                      "attested": false,
                      "attestationExpires": null,
                      "latency_ms": null,
                      "inFlight": 0,
                      "restarts": 0,
                      "lastError": null,
                      "selectable": false
                    },
                    {
                      "id": "vrf/2",
                      "state": "Ready",
                      "reason": null,
                      "since": "1970-01-01T00:00:00.000Z",
                      "health": "unhealthy",
                      "attestation": "exempt",
                      "attested": true,
                      "attestationExpires": null,
                      "latency_ms": 14.345,
                      "inFlight": 0,
                      "restarts": 0,
                      "lastError": null,
                      "selectable": false
                    }
                  ]
                }
              },
              "store": {
                "kind": "etcd",
                "available": false,
                "reason": "no leader",
                "stale": "2026-01-02T03:04:05.678Z"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&report.detailed()).unwrap());
    }
}
