//! `serviceos status --json`, a stable contract.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_registry::{CrashLoop, LifecycleState, NodeFacts, Replica, Service, Snapshot, Verdict};

use crate::health::{HealthReport, rfc3339};
use crate::store_state::StoreState;

/// Everything that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: String,
    /// Where clients connect; the first address, as it is really bound.
    pub gateway: String,
    /// Where the admin API is.
    pub admin: String,
    /// The process of `serviceos up`.
    pub pid: u32,
    /// The store.
    pub store: StoreState,
    /// How what replicas may use is enforced.
    #[serde(default)]
    pub limits: LimitsStatus,
    /// The nodes that share the store, by name; none where there is one without a name. While the store is away they are those
    /// that lived when it was there.
    pub nodes: Vec<NodeStatus>,
    /// The services in the order of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// How what replicas may use is enforced on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsStatus {
    /// Memory: `cgroup`, of all processes of a replica together, or `process`, of each of them.
    pub memory: String,
    /// Processors: `cgroup` or `off`.
    pub cpus: String,
    /// The number of processes: `cgroup` or `off`.
    pub processes: String,
    /// Who is ended with a replica: `cgroup`, whoever it has started, or `process group`, whoever of them has not left that.
    pub end: String,
    /// Why not all of it is done by cgroup.
    pub reason: Option<String>,
    /// What the configuration says of that and is not done as it says.
    pub unenforced: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Since when it has the name, RFC 3339; nothing where what it says of that cannot be read.
    pub since: Option<String>,
    /// Whether it lives by another manifest than the mesh: no replica joins there.
    pub behind: bool,
    /// How many replicas of it are known here.
    pub replicas: usize,
    /// How many of them requests of this gateway may reach.
    pub selectable: usize,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The label of its version.
    pub version: String,
    /// What the version that is wanted is known by: the label, and 8 digits of the digest of its spec where that is started here.
    #[serde(default)]
    pub version_id: String,
    /// How many replicas are wanted.
    pub desired: usize,
    /// How many are Ready.
    pub ready: usize,
    /// The rollout that is on its way, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rollout: Option<String>,
    /// The replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its id.
    pub id: String,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Its lifecycle state.
    pub state: String,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// `unknown`, `healthy`, `unhealthy` or `ejected`.
    pub health: String,
    /// `pending`, `valid`, `exempt`, `expired` or `refused`.
    pub attestation: String,
    /// Whether that lets it serve.
    pub attested: bool,
    /// `open`.
    pub gate: String,
    /// Whether requests may reach it.
    pub selectable: bool,
    /// What its version is known by, while it listens.
    #[serde(default)]
    pub version_id: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// The requests that it has.
    pub in_flight: usize,
}

impl Status {
    /// The status of a snapshot.
    pub fn new(
        snapshot: &Arc<Snapshot>,
        draining: bool,
        store: StoreState,
        nodes: Vec<NodeStatus>,
        gateway: SocketAddr,
        admin: SocketAddr,
    ) -> Self {
        let report = HealthReport::new(Arc::clone(snapshot), draining, store.clone());
        let overall = serde_json::to_value(report.overall());
        Self {
            status: overall.ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
            gateway: gateway.to_string(),
            admin: admin.to_string(),
            pid: std::process::id(),
            store,
            limits: LimitsStatus::default(),
            nodes,
            services: snapshot.services.iter().map(|service| service_status(service)).collect(),
        }
    }
}

impl NodeStatus {
    /// The nodes of a mesh that lives by the transition of this number.
    pub fn of(nodes: &[NodeFacts], transition: u64, snapshot: &Snapshot) -> Vec<Self> {
        let mut counts: HashMap<_, (usize, usize)> = HashMap::new();
        for replica in snapshot.services.iter().flat_map(|service| &service.replicas) {
            let Some(node) = &replica.id.node else { continue };
            let (all, selectable) = counts.entry(node).or_default();
            (*all, *selectable) = (*all + 1, *selectable + usize::from(replica.selectable().is_ok()));
        }
        let status = |node: &NodeFacts| {
            let (replicas, selectable) = counts.get(&node.name).copied().unwrap_or_default();
            Self {
                name: node.name.to_string(),
                since: node.since.map(rfc3339),
                behind: node.manifest.is_some_and(|manifest| manifest < transition),
                replicas,
                selectable,
            }
        };
        nodes.iter().map(status).collect()
    }
}

fn service_status(service: &Service) -> ServiceStatus {
    ServiceStatus {
        name: service.name.to_string(),
        version: service.version.label().to_owned(),
        version_id: service.version.id().to_owned(),
        desired: service.desired,
        ready: service.replicas.iter().filter(|replica| replica.state == LifecycleState::Ready).count(),
        rollout: None,
        replicas: service.replicas.iter().map(replica_status).collect(),
    }
}

/// Why a replica is as it is: its state's reason, else what its attestation has ceased by, else its health's reason, else how
/// its last check failed while none was passed.
pub fn why(replica: &Replica) -> Option<String> {
    let unchecked = replica.health.verdict == Verdict::Unknown;
    let last_check =
        || replica.instance.as_ref().filter(|_| unchecked).and_then(|instance| instance.last_check.error());
    let ceased = || replica.attestation.ceased();
    let health = || replica.health.reason.clone();
    let crash_loop = replica.crash_loop.as_ref().map(|found| crash_loop(found, replica.reason.as_deref()));
    crash_loop.or_else(|| replica.reason.clone()).or_else(ceased).or_else(health).or_else(last_check)
}

/// That a replica ends again and again, and what is so now.
fn crash_loop(found: &CrashLoop, now: Option<&str>) -> String {
    let now = now.unwrap_or(&found.last.reason);
    format!("crash loop, ended {} times since {}: {now}", found.ended, rfc3339(found.since))
}

fn replica_status(replica: &Replica) -> ReplicaStatus {
    let instance = replica.instance.as_ref();
    ReplicaStatus {
        id: replica.id.to_string(),
        pid: replica.pid,
        state: replica.state.as_str().to_owned(),
        reason: why(replica),
        since: rfc3339(replica.since),
        address: instance.map(|instance| instance.address),
        health: replica.health.verdict.as_str().to_owned(),
        attestation: replica.attestation.value.as_str().to_owned(),
        attested: replica.attestation.holds(),
        gate: replica.gate.as_str().to_owned(),
        selectable: replica.selectable().is_ok(),
        version_id: instance.map(|instance| instance.version.id().to_owned()),
        restarts: replica.restarts,
        in_flight: instance.map_or(0, |instance| instance.in_flight.count()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use jiff::Timestamp;

    use super::*;
    use crate::health::tests::service;

    #[test]
    fn the_contract_of_status_json() {
        let snapshot = Arc::new(Snapshot::new(1, vec![service("vrf", "rxe", true)]));
        let node = |name: &str, since, manifest| NodeFacts { name: name.parse().unwrap(), since, manifest };
        let nodes = [node("n1", Some(Timestamp::UNIX_EPOCH), Some(4)), node("n2", None, Some(3))];
        let mut status = Status::new(
            &snapshot,
            false,
            StoreState::of_test(),
            NodeStatus::of(&nodes, 4, &snapshot),
            "127.0.0.1:8080".parse().unwrap(),
            "127.0.0.1:7070".parse().unwrap(),
        );
        status.pid = 4700;
        expect![[r#"
            {
              "status": "degraded",
              "gateway": "127.0.0.1:8080",
              "admin": "127.0.0.1:7070",
              "pid": 4700,
              "store": {
                "kind": "embedded",
                "available": true,
                "reason": null,
                "stale": null
              },
              "limits": {
                "memory": "",
                "cpus": "",
                "processes": "",
                "end": "",
                "reason": null,
                "unenforced": []
              },
              "nodes": [
                {
                  "name": "n1",
                  "since": "1970-01-01T00:00:00.000Z",
                  "behind": false,
                  "replicas": 0,
                  "selectable": 0
                },
                {
                  "name": "n2",
                  "since": null,
                  "behind": true,
                  "replicas": 0,
                  "selectable": 0
                }
              ],
              "services": [
                {
                  "name": "vrf",
                  "version": "1.0.0",
                  "versionId": "1.0.0",
                  "desired": 3,
                  "ready": 2,
                  "replicas": [
                    {
                      "id": "vrf/0",
                      "pid": 4711,
                      "state": "Ready",
                      "reason": null,
                      "since": "1970-01-01T00:00:00.000Z",
                      "address": "127.0.0.1:41233",
                      "health": "healthy",
                      "attestation": "valid",
                      "attested": true,
                      "gate": "open",
                      "selectable": true,
                      "versionId": "1.0.0",
                      "restarts": 0,
                      "inFlight": 0
                    },
                    {
                      "id": "vrf/1",
                      "pid": null,
                      "state": "Stopped",
                      "reason": "exited with code 1",
                      "since": "1970-01-01T00:00:00.000Z",
                      "address": null,
                      "health": "unhealthy",
                      "attestation": "pending",
                      "attested": false,
                      "gate": "open",
                      "selectable": false,
                      "versionId": null,
                      "restarts": 0,
                      "inFlight": 0
                    },
                    {
                      "id": "vrf/2",
                      "pid": 4711,
                      "state": "Ready",
                      "reason": null,
                      "since": "1970-01-01T00:00:00.000Z",
                      "address": "127.0.0.1:41233",
                      "health": "unhealthy",
                      "attestation": "exempt",
                      "attested": true,
                      "gate": "open",
                      "selectable": false,
                      "versionId": "1.0.0",
                      "restarts": 0,
                      "inFlight": 0
                    }
                  ]
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&status).unwrap());
    }
}
