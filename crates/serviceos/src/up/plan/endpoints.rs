//! Services whose replicas run elsewhere: nobody here starts them, so they are Ready as soon as it is known where they are,
//! and whether they may serve is for their health to say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use configuration::{EndpointSettings, Runs, Scheme, ServiceSettings};
use jiff::Timestamp;
use service_registry::{
    Attestation, Channel, Health, Instance, LifecycleState, Registry, Replica, Service, Verdict,
};
use types::ReplicaId;

use super::catalogue::labels_of;
use super::resolve::Unresolved;

/// A service's endpoints in the configuration before, and what is known of them.
pub(super) struct Before<'a> {
    endpoints: &'a [EndpointSettings],
    service: &'a Service,
}

/// The service as the registry has it. An endpoint that was there before, which is to say the same server, keeps its number
/// and all that is known of it; others get the lowest numbers that are free.
pub(super) fn service(
    settings: &ServiceSettings,
    endpoints: &[EndpointSettings],
    before: Option<&Before<'_>>,
    registry: &Registry,
    unresolved: &mut Vec<Unresolved>,
) -> Service {
    let kept: Vec<Option<(&EndpointSettings, &Replica)>> =
        endpoints.iter().map(|endpoint| before?.find(endpoint)).collect();
    let taken: Vec<u32> = kept.iter().flatten().map(|(_, replica)| replica.id.ordinal).collect();
    let mut free = (0_u32..).filter(|ordinal| !taken.contains(ordinal));
    let mut replicas = Vec::new();
    for (endpoint, kept) in endpoints.iter().zip(kept) {
        let mut replica = match kept {
            Some((before, known)) => stays(known, before, endpoint, registry),
            None => {
                let id = ReplicaId::new(settings.name.clone(), free.next().unwrap_or(u32::MAX));
                begins(id, endpoint, registry)
            }
        };
        (replica.weight, replica.priority) = (endpoint.weight, endpoint.priority);
        replica.labels = Some(labels_of(settings, endpoint));
        if endpoint.host.parse::<IpAddr>().is_err() {
            // Its address may change; until then it stays where it is.
            unresolved.push(Unresolved { replica: replica.id.clone(), endpoint: endpoint.clone() });
        }
        replicas.push(replica);
    }
    Service {
        name: settings.name.clone(),
        version: (&*settings.version).into(),
        split: None,
        required: settings.required,
        desired: replicas.len(),
        replicas,
    }
}

impl<'a> Before<'a> {
    /// `None` where its replicas were processes.
    pub(super) fn new(settings: &'a ServiceSettings, service: &'a Service) -> Option<Self> {
        match &settings.runs {
            Runs::Endpoints(endpoints) => Some(Self { endpoints, service }),
            Runs::Process(_) => None,
        }
    }

    /// The same server, whatever else is said of it. The registry has its endpoints in the order of the file.
    fn find(&self, endpoint: &EndpointSettings) -> Option<(&'a EndpointSettings, &'a Replica)> {
        let same = |before: &EndpointSettings| {
            (before.scheme, &before.host, before.port) == (endpoint.scheme, &endpoint.host, endpoint.port)
        };
        let place = self.endpoints.iter().position(same)?;
        Some((&self.endpoints[place], self.service.replicas.get(place)?))
    }
}

/// Another version is another instance, of which is held what was held of the one before.
fn stays(
    known: &Replica,
    before: &EndpointSettings,
    endpoint: &EndpointSettings,
    registry: &Registry,
) -> Replica {
    let mut replica = known.clone();
    if before.version != endpoint.version
        && let Some(known) = &known.instance
    {
        let instance = instance(&replica.id, endpoint, known.address, registry);
        if let Some(first) = known.served_first.get() {
            let _is_empty = instance.served_first.set(*first).is_ok();
        }
        replica.instance = Some(Arc::new(instance));
    }
    replica
}

fn begins(id: ReplicaId, endpoint: &EndpointSettings, registry: &Registry) -> Replica {
    let mut replica = Replica::stopped(id, Timestamp::now());
    replica.attestation = Attestation::exempt(replica.since);
    match endpoint.host.parse::<IpAddr>() {
        Ok(address) => put(&mut replica, endpoint, SocketAddr::new(address, endpoint.port), registry),
        Err(_) => {
            let reason = format!("{} is being looked up", endpoint.host);
            (replica.state, replica.reason) = (LifecycleState::Starting, Some(reason));
        }
    }
    replica
}

/// The endpoint is at this address from now on, and nothing is known of it there.
pub(super) fn put(
    replica: &mut Replica,
    endpoint: &EndpointSettings,
    address: SocketAddr,
    registry: &Registry,
) {
    let now = Timestamp::now();
    (replica.state, replica.reason, replica.since) = (LifecycleState::Ready, None, now);
    replica.instance = Some(Arc::new(instance(&replica.id, endpoint, address, registry)));
    replica.health = Health { verdict: Verdict::Unknown, since: now, reason: None, answered: 0 };
}

fn instance(
    id: &ReplicaId,
    endpoint: &EndpointSettings,
    address: SocketAddr,
    registry: &Registry,
) -> Instance {
    let built = Instance::new(id.clone(), registry.next_incarnation(), address, (&*endpoint.version).into());
    let authority = endpoint.authority();
    Instance { channel: channel(endpoint), identity: authority.clone(), authority, ..built }
}

fn channel(endpoint: &EndpointSettings) -> Channel {
    match endpoint.scheme {
        Scheme::Http => Channel::Plain,
        Scheme::Https => Channel::Tls(endpoint.host.clone()),
    }
}
