//! Services whose replicas run elsewhere: nobody here starts them, so they are Ready as soon as it is known where they are,
//! and whether they may serve is for their health to say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use configuration::{EndpointSettings, Scheme, ServiceSettings};
use jiff::Timestamp;
use service_registry::{
    Attestation, Change, Channel, Health, Instance, LifecycleState, Registry, Replica, Service, Verdict,
};
use tokio::sync::watch;
use types::ReplicaId;

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(30);

/// An endpoint whose address has to be looked up.
#[derive(Debug, Clone)]
pub(crate) struct Unresolved {
    replica: ReplicaId,
    endpoint: EndpointSettings,
}

/// The service as the registry has it. An endpoint that is what it was before stays with all that is known of it.
pub(super) fn service(
    settings: &ServiceSettings,
    endpoints: &[EndpointSettings],
    before: &[EndpointSettings],
    known: Option<&Arc<Service>>,
    registry: &Registry,
    unresolved: &mut Vec<Unresolved>,
) -> Service {
    let mut replicas = Vec::new();
    for (ordinal, endpoint) in endpoints.iter().enumerate() {
        let id = ReplicaId::new(settings.name.clone(), u32::try_from(ordinal).unwrap_or(u32::MAX));
        let known = known.and_then(|known| known.replicas.get(ordinal));
        if let Some(kept) = known.filter(|_| before.get(ordinal) == Some(endpoint)) {
            if endpoint.host.parse::<IpAddr>().is_err() {
                // Its address may change, and meanwhile it stays where it is.
                unresolved.push(Unresolved { replica: id, endpoint: endpoint.clone() });
            }
            replicas.push(kept.clone());
            continue;
        }
        let mut replica = Replica::stopped(id.clone(), Timestamp::now());
        replica.attestation = Some(Attestation::Exempt);
        match endpoint.host.parse::<IpAddr>() {
            Ok(address) => {
                let address = SocketAddr::new(address, endpoint.port);
                put(&mut replica, instance(&id, endpoint, address, registry));
            }
            Err(_) => {
                (replica.state, replica.reason) =
                    (LifecycleState::Starting, Some(format!("{} is being looked up", endpoint.host)));
                unresolved.push(Unresolved { replica: id, endpoint: endpoint.clone() });
            }
        }
        replicas.push(replica);
    }
    Service {
        name: settings.name.clone(),
        version: settings.version.clone(),
        required: settings.required,
        replicas,
    }
}

fn channel(endpoint: &EndpointSettings) -> Channel {
    match endpoint.scheme {
        Scheme::Http => Channel::Plain,
        Scheme::Https => Channel::Tls(endpoint.host.clone()),
    }
}

fn instance(
    id: &ReplicaId,
    endpoint: &EndpointSettings,
    address: SocketAddr,
    registry: &Registry,
) -> Arc<Instance> {
    let built = Instance::new(id.clone(), registry.next_incarnation(), address, endpoint.version.clone());
    Arc::new(Instance {
        channel: channel(endpoint),
        weight: endpoint.weight,
        priority: endpoint.priority,
        ..built
    })
}

fn put(replica: &mut Replica, instance: Arc<Instance>) {
    let now = Timestamp::now();
    (replica.state, replica.reason, replica.since) = (LifecycleState::Ready, None, now);
    replica.instance = Some(instance);
    replica.health = Health { verdict: Verdict::Unknown, since: now, reason: None, answered: 0 };
}

/// Looks up the addresses of endpoints that are known by a name, now and again every 30 s, until it is told to stop. What
/// cannot be looked up any more stays where it was.
pub(crate) async fn resolve(
    unresolved: Vec<Unresolved>,
    registry: Registry,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(LOOK_UP);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        for Unresolved { replica, endpoint } in &unresolved {
            let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
            let found = found.map(|mut addresses| addresses.next());
            registry.update(replica, |known| match &found {
                Ok(Some(address))
                    if known.instance.as_ref().is_some_and(|instance| instance.address == *address) =>
                {
                    Change::None
                }
                Ok(Some(address)) => {
                    put(known, instance(replica, endpoint, *address, &registry));
                    Change::Made
                }
                Ok(None) | Err(_) if known.instance.is_some() => Change::None,
                Ok(None) | Err(_) => {
                    known.reason = Some(format!("{} cannot be looked up", endpoint.host));
                    Change::Made
                }
            });
        }
    }
}
