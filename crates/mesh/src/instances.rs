//! Who may call whom inside the mesh, and where those who may be called are.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use mesh_protocol::{Bytes, MeshInstance, MeshPart, MeshSide, SpiffeId, Subject};
use service_registry::{Channel, Instance, Registry, Service, Side, Snapshot};
use types::ServiceName;

/// The services that each service lets call it.
pub type Allowed = Arc<BTreeMap<ServiceName, Vec<ServiceName>>>;

/// What members are told of each other. Nothing by default.
#[derive(Clone, Default)]
pub(crate) struct Callable {
    registry: Registry,
    allowed: Allowed,
}

impl Callable {
    pub(crate) fn new(registry: Registry, allowed: Allowed) -> Self {
        Self { registry, allowed }
    }

    /// The instances of a service that may serve now, for a caller that it allows; else why not.
    pub(crate) fn instances(
        &self,
        caller: &SpiffeId,
        service: &ServiceName,
    ) -> Result<Vec<MeshInstance>, String> {
        self.may_call(caller, service)?;
        Ok(instances(&self.registry.snapshot(), service, Timestamp::now()))
    }

    /// A service that there is not is told like one that allows nobody.
    fn may_call(&self, caller: &SpiffeId, service: &ServiceName) -> Result<(), String> {
        let allows =
            |name: &ServiceName| self.allowed.get(service).is_some_and(|allowed| allowed.contains(name));
        match &caller.subject {
            Subject::Gateway(_) => Ok(()),
            Subject::Service { service: name, .. } if allows(name) => Ok(()),
            Subject::Service { service: name, .. } => {
                Err(format!("{service} does not name {name} in its allow list, or there is no such service"))
            }
            Subject::Authority(_) => Err(format!("{caller} calls nobody")),
        }
    }
}

fn instances(snapshot: &Snapshot, service: &ServiceName, now: Timestamp) -> Vec<MeshInstance> {
    let Some(service) = snapshot.service(service) else { return Vec::new() };
    let selectable = service.selectable();
    selectable.filter_map(|instance| listed(instance, part(service, instance), now)).collect()
}

/// Which part of the calls the side of an instance has. A side of which no instance may serve leaves its part to the other.
fn part(service: &Service, instance: &Instance) -> Option<MeshPart> {
    let split = service.split.as_ref()?;
    let is_there = |side| service.selectable().any(|instance| split.side(&instance.version) == side);
    let of_target = match split.percent {
        0 => 0,
        _ if !is_there(Side::Target) => 0,
        _ if !is_there(Side::Stable) => 100,
        percent => percent,
    };
    Some(match split.side(&instance.version) {
        Side::Target => MeshPart { side: MeshSide::Target, percent: of_target },
        Side::Stable => MeshPart { side: MeshSide::Stable, percent: 100 - of_target },
    })
}

/// None where the instance is no member of the mesh.
fn listed(instance: &Instance, part: Option<MeshPart>, now: Timestamp) -> Option<MeshInstance> {
    let Channel::Mesh(peer) = &instance.channel else { return None };
    let leaves: Vec<_> = peer.accepted(now).into_iter().map(|leaf| Bytes(leaf.to_vec())).collect();
    let spiffe = peer.spiffe_id().to_owned();
    (!leaves.is_empty()).then(|| MeshInstance {
        spiffe,
        address: instance.address,
        leaves,
        version: instance.version.label().to_owned(),
        version_id: instance.version.id().to_owned(),
        part,
    })
}

#[cfg(test)]
mod tests {
    use service_registry::{Attestation, Attested, Change, LifecycleState, MeshPeer, Replica, Verdict};
    use types::ReplicaId;

    use super::*;

    fn callable() -> (Callable, Registry) {
        let name: ServiceName = "vrf".parse().unwrap();
        let ids = (0..2).map(|ordinal| ReplicaId::new(name.clone(), ordinal));
        let replicas: Vec<_> = ids.map(|id| Replica::stopped(id, Timestamp::UNIX_EPOCH)).collect();
        let service = Service {
            name: name.clone(),
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        };
        let registry = Registry::new(vec![service]);
        let allowed = Arc::new(BTreeMap::from([(name, vec!["oracle".parse().unwrap()])]));
        (Callable::new(registry.clone(), allowed), registry)
    }

    /// Makes a replica selectable.
    fn serves(registry: &Registry, id: &str, channel: Channel) {
        let id: ReplicaId = id.parse().unwrap();
        registry.update(&id, |replica| {
            (replica.state, replica.health.verdict) = (LifecycleState::Ready, Verdict::Healthy);
            replica.attestation =
                Attestation { value: Attested::Valid, ..Attestation::pending(Timestamp::UNIX_EPOCH) };
            let instance = Instance::new(id.clone(), 1, ([127, 0, 0, 1], 7000).into(), "1.0.0".into());
            replica.instance = Some(Arc::new(Instance { channel, ..instance }));
            Change::Made
        });
    }

    fn peer(id: &str) -> Arc<MeshPeer> {
        Arc::new(MeshPeer::new(format!("spiffe://test.dev.invalid/service/{id}"), [1; 32]))
    }

    fn asks(callable: &Callable, caller: &str, service: &str) -> Result<Vec<MeshInstance>, String> {
        let caller = format!("spiffe://test.dev.invalid/{caller}").parse().unwrap();
        callable.instances(&caller, &service.parse().unwrap())
    }

    #[test]
    fn only_gateways_and_services_that_are_named_learn_where_a_service_is() {
        let (callable, _) = callable();
        assert_eq!(asks(&callable, "service/oracle/7", "vrf"), Ok(Vec::new()));
        assert_eq!(asks(&callable, "gateway/n1", "vrf"), Ok(Vec::new()));
        for (caller, service) in
            [("service/datafeed/0", "vrf"), ("service/vrf/0", "vrf"), ("service/oracle/0", "infer")]
        {
            assert!(
                asks(&callable, caller, service).unwrap_err().contains("allow list"),
                "{caller} {service}"
            );
        }
        assert!(asks(&callable, "authority/n1", "vrf").is_err());
        assert!(asks(&Callable::default(), "service/oracle/7", "vrf").is_err());
    }

    #[test]
    fn those_that_may_serve_are_listed_as_they_must_be_found() {
        let (callable, registry) = callable();
        let second = peer("vrf/1");
        serves(&registry, "vrf/0", Channel::Mesh(peer("vrf/0")));
        serves(&registry, "vrf/1", Channel::Mesh(Arc::clone(&second)));
        let ids = |listed: Vec<MeshInstance>| -> Vec<String> {
            listed.into_iter().map(|instance| instance.spiffe).collect()
        };
        let listed = asks(&callable, "service/oracle/0", "vrf").unwrap();
        assert_eq!(listed[0].leaves, [Bytes(vec![1; 32])]);
        assert_eq!(listed[0].address.to_string(), "127.0.0.1:7000");
        assert_eq!(
            ids(listed),
            ["spiffe://test.dev.invalid/service/vrf/0", "spiffe://test.dev.invalid/service/vrf/1"]
        );
        second.end();
        registry.update(&"vrf/0".parse().unwrap(), |replica| {
            replica.health.verdict = Verdict::Unhealthy;
            Change::Made
        });
        assert_eq!(asks(&callable, "service/oracle/0", "vrf"), Ok(Vec::new()));
    }

    #[test]
    fn a_server_that_is_no_member_is_not_listed() {
        let (callable, registry) = callable();
        serves(&registry, "vrf/0", Channel::Plain);
        serves(&registry, "vrf/1", Channel::Tls("vrf.example".into()));
        assert_eq!(asks(&callable, "gateway/n1", "vrf"), Ok(Vec::new()));
    }

    #[test]
    fn each_side_is_told_its_part_of_the_calls() {
        let (callable, registry) = callable();
        let name: ServiceName = "vrf".parse().unwrap();
        serves(&registry, "vrf/0", Channel::Mesh(peer("vrf/0")));
        serves(&registry, "vrf/1", Channel::Mesh(peer("vrf/1")));
        registry.update(&"vrf/1".parse().unwrap(), |replica| {
            let known = replica.instance.as_ref().unwrap();
            let next = Instance::new(replica.id.clone(), 2, known.address, "1.1.0".into());
            replica.instance = Some(Arc::new(Instance { channel: known.channel.clone(), ..next }));
            Change::Made
        });
        let parts = |percent| {
            registry.split(&name, Some(("1.1.0".into(), percent)));
            let listed = asks(&callable, "service/oracle/0", "vrf").unwrap();
            let part = |listed: MeshInstance| (listed.version, listed.part.unwrap().percent);
            listed.into_iter().map(part).collect::<Vec<_>>()
        };
        let both = |one, two| vec![("1.0.0".to_owned(), one), ("1.1.0".to_owned(), two)];
        assert_eq!(parts(0), both(100, 0));
        assert_eq!(parts(10), both(90, 10));
        assert_eq!(parts(100), both(0, 100));
        // What is left has everything, but for what nobody is to call who does not name it.
        let drains = |id: &str, state| {
            registry.update(&id.parse().unwrap(), |replica| {
                replica.state = state;
                Change::Made
            })
        };
        drains("vrf/1", LifecycleState::Draining);
        assert_eq!(parts(100), [("1.0.0".to_owned(), 100)]);
        drains("vrf/0", LifecycleState::Draining);
        drains("vrf/1", LifecycleState::Ready);
        assert_eq!((parts(1), parts(0)), (vec![("1.1.0".to_owned(), 100)], vec![("1.1.0".to_owned(), 0)]));
        registry.split(&name, None);
        assert_eq!(asks(&callable, "service/oracle/0", "vrf").unwrap()[0].part, None);
    }
}
