//! The documents.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_registry::{Attested, Changes, LifecycleState, Presence, Replica, Service, Snapshot};
use types::{ReplicaId, ServiceName};

use super::{Descriptions, Revision};
use crate::health::rfc3339;
use crate::status::why;

/// The services in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Each once.
    pub services: Vec<ServiceEntry>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// The label of its version.
    pub version: String,
    /// What the version is known by: the label, and 8 digits of the digest of its spec where that is started here.
    #[serde(default)]
    pub version_id: String,
    /// `builtin`, `command`, `elsewhere` or `endpoints`; none while a reload is bringing it or taking it away.
    pub kind: Option<String>,
    /// Whether its being down makes the whole unhealthy.
    pub required: bool,
    /// How many replicas are wanted.
    pub desired: usize,
    /// How many are Ready.
    pub ready: usize,
    /// To how many of them requests may go.
    pub selectable: usize,
    /// How many routes lead to it.
    pub routes: usize,
}

/// The instances at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// The moment, to come back with. It means something to the run of `up` that said it, and to no other.
    pub revision: String,
    /// Service by service in the order of the configuration.
    pub instances: Vec<InstanceEntry>,
}

/// What leads from an earlier moment to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceChanges {
    /// This moment.
    pub revision: String,
    /// Those that are not as they were, or were not there, as they are now.
    pub changed: Vec<InstanceEntry>,
    /// The ids of those that are not there any more; some may have come and gone since.
    pub removed: Vec<String>,
}

/// One replica, and the run of it that listens, if one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceEntry {
    /// The id of the replica, the same over all its runs.
    pub id: String,
    /// The run of it that listens; every start makes another one, which no other was ever called.
    pub instance: Option<String>,
    /// The service that it is a replica of.
    pub service: String,
    /// The label of its version.
    pub version: String,
    /// What the version is known by: the label, and 8 digits of the digest of its spec where that is started here.
    #[serde(default)]
    pub version_id: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// `http1`, `http2` or `grpc`.
    pub protocol: Option<String>,
    /// Where it stands, as the configuration says, or the replica that has registered itself.
    pub zone: Option<String>,
    /// Its part of the calls beside that of the others.
    pub weight: u32,
    /// Those of the lowest number serve while they can.
    pub priority: u32,
    /// What else is said of it.
    pub metadata: BTreeMap<String, String>,
    /// Its SPIFFE ID, while its attestation is valid.
    pub identity: Option<String>,
    /// Its lifecycle state.
    pub state: String,
    /// Why it is as it is, where that is not plain.
    pub reason: Option<String>,
    /// Since when it is in that state, RFC 3339.
    pub since: String,
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
    /// The requests that it had when this was said. That they come and go is no change.
    pub in_flight: usize,
    /// The lease by which it has registered itself; the state says whether it holds. None where nobody has to register.
    pub lease: Option<String>,
    /// The fencing token of that: of two processes that had the place of the replica, the later one has the larger.
    pub fencing_token: Option<u64>,
}

impl ServiceEntry {
    pub(super) fn new(service: &Arc<Service>, described: &Descriptions) -> Self {
        let described = described.get(&service.name);
        Self {
            name: service.name.to_string(),
            version: service.version.label().to_owned(),
            version_id: service.version.id().to_owned(),
            kind: described.map(|described| described.kind.as_str().to_owned()),
            required: service.required,
            desired: service.desired,
            ready: service.replicas.iter().filter(|replica| replica.state == LifecycleState::Ready).count(),
            selectable: service.selectable().count(),
            routes: described.map_or(0, |described| described.routes),
        }
    }
}

impl Instances {
    pub(super) fn of(snapshot: &Snapshot, service: Option<&ServiceName>, run: u64) -> Self {
        let wanted = |of: &&Arc<Service>| service.is_none_or(|name| *name == of.name);
        let entries = |service: &Arc<Service>| {
            let entry = |replica| InstanceEntry::new(replica, service, run);
            service.replicas.iter().filter(|replica| is_there(replica)).map(entry).collect::<Vec<_>>()
        };
        Self {
            revision: Revision { run, epoch: snapshot.epoch }.to_string(),
            instances: snapshot.services.iter().filter(wanted).flat_map(entries).collect(),
        }
    }
}

impl InstanceChanges {
    pub(super) fn of(snapshot: &Snapshot, changes: &Changes<'_>, run: u64) -> Self {
        let entry = |replica: &&Replica| {
            let service = snapshot.service(&replica.id.service)?;
            Some(InstanceEntry::new(replica, service, run))
        };
        let there = changes.changed.iter().filter(|replica| is_there(replica));
        let vacant = changes.changed.iter().filter(|replica| !is_there(replica)).map(|replica| &replica.id);
        Self {
            revision: Revision { run, epoch: snapshot.epoch }.to_string(),
            changed: there.filter_map(entry).collect(),
            removed: changes.removed.iter().chain(vacant).map(ReplicaId::to_string).collect(),
        }
    }
}

/// Whether there is an instance, and not only a place for one.
fn is_there(replica: &Replica) -> bool {
    replica.presence != Presence::Vacant
}

impl InstanceEntry {
    fn new(replica: &Replica, service: &Service, run: u64) -> Self {
        let (instance, labels) = (replica.instance.as_ref(), replica.labels.as_ref());
        let version = instance.map_or(&service.version, |instance| &instance.version);
        let (attestation, registration) = (&replica.attestation, replica.presence.registration());
        let appraised = attestation.appraised.as_ref().filter(|_| attestation.value == Attested::Valid);
        Self {
            id: replica.id.to_string(),
            instance: instance.map(|instance| format!("{run:x}.{}", instance.incarnation)),
            service: service.name.to_string(),
            version: version.label().to_owned(),
            version_id: version.id().to_owned(),
            address: instance.map(|instance| instance.address),
            protocol: labels.map(|labels| labels.protocol.to_owned()),
            zone: labels.and_then(|labels| labels.zone.as_deref().map(str::to_owned)),
            weight: replica.weight,
            priority: replica.priority,
            metadata: labels.map(|labels| labels.metadata.clone()).unwrap_or_default(),
            identity: appraised.map(|appraised| appraised.spiffe_id.clone()),
            state: replica.state.as_str().to_owned(),
            reason: why(replica),
            since: rfc3339(replica.since),
            health: replica.health.verdict.as_str().to_owned(),
            attestation: attestation.value.as_str().to_owned(),
            attested: attestation.holds(),
            gate: replica.gate.as_str().to_owned(),
            selectable: replica.selectable().is_ok(),
            in_flight: instance.map_or(0, |instance| instance.in_flight.count()),
            lease: registration.map(|registration| registration.lease.clone()),
            fencing_token: registration.map(|registration| registration.fencing_token),
        }
    }
}
