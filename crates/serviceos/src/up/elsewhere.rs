//! Replicas that `serviceos exec` starts: the tickets that invite them, and their lives as they register them.

use std::collections::BTreeMap;
use std::sync::Arc;

use configuration::{Program, ServiceSettings, Settings};
use control::{TicketOffice, TicketRefused};
use mesh::{Members, Registered, Registrations};
use mesh_protocol::{EndOrder, LaunchTicket, OwnWords, Protocol, RegisteredBy};
use service_lifecycle::{Cause, Exit, Launch, LaunchError, Listening, Process, Signal};
use service_registry::Version;
use types::{ReplicaId, ServiceName};

use super::joining::Begun;
use super::measuring::spoken;
use super::node::among_others;
use super::replica_process::channel;
use super::told::Told;

/// The places of all replicas that are started elsewhere.
pub(super) fn places(settings: &Settings) -> Registrations {
    let services = settings.services.iter().filter(|service| is_started_elsewhere(service));
    let node = among_others(settings);
    Registrations::of(services.flat_map(|service| {
        let replicas = service.process().map_or(0, |process| process.replicas);
        let id = |ordinal| ReplicaId::new(service.name.clone(), ordinal).on(node.clone());
        (0..replicas).map(id).collect::<Vec<_>>()
    }))
}

pub(super) fn is_started_elsewhere(service: &ServiceSettings) -> bool {
    service.process().is_some_and(|process| process.program == Program::Elsewhere)
}

struct Spec {
    told: Told,
    protocol: Protocol,
    program: Program,
}

/// Gives tickets for replicas that are started elsewhere.
pub(super) fn ticket_office(settings: &Settings, mesh: &Arc<Begun>) -> TicketOffice {
    let spec = |service: &ServiceSettings| {
        let process = service.process()?;
        let spec = Spec {
            told: Told::of(service, process),
            protocol: spoken(service.protocol),
            program: process.program.clone(),
        };
        Some((service.name.clone(), spec))
    };
    let specs: Arc<BTreeMap<_, _>> = Arc::new(settings.services.iter().filter_map(spec).collect());
    let mesh = Arc::clone(mesh);
    Arc::new(move |service, ordinal, actor| {
        let (specs, mesh) = (Arc::clone(&specs), Arc::clone(&mesh));
        Box::pin(async move { ticket(&specs, &mesh, &service, ordinal, actor).await })
    })
}

async fn ticket(
    specs: &BTreeMap<ServiceName, Spec>,
    mesh: &Begun,
    service: &ServiceName,
    ordinal: Option<u32>,
    actor: &'static str,
) -> Result<LaunchTicket, TicketRefused> {
    let spec = specs.get(service).ok_or_else(|| TicketRefused::Unknown(format!("of a service {service}")))?;
    if spec.program != Program::Elsewhere {
        return Err(TicketRefused::Supervised(service.clone()));
    }
    let replica = invited(&mesh.registrations, service, ordinal)?;
    let ticket = mesh.authority.ticket_by_hand(&replica, actor).await?;
    let in_force = mesh.launched(&replica);
    let assignment =
        spec.told.assignment(replica, in_force, ticket, RegisteredBy::Itself(OwnWords::default()));
    Ok(LaunchTicket { assignment, protocol: spec.protocol })
}

/// The replica that is asked for, or the first that is free.
fn invited(
    places: &Registrations,
    service: &ServiceName,
    ordinal: Option<u32>,
) -> Result<ReplicaId, TicketRefused> {
    let Some(ordinal) = ordinal else {
        let free = places.invite_to_any(service);
        return free.ok_or_else(|| TicketRefused::Taken(format!("every replica of {service}")));
    };
    // All of them are this node's.
    let is_it = |known: &&ReplicaId| known.service == *service && known.ordinal == ordinal;
    let Some(replica) = places.replicas().find(is_it).cloned() else {
        return Err(TicketRefused::Unknown(format!("{service}/{ordinal}")));
    };
    if places.invite(&replica) { Ok(replica) } else { Err(TicketRefused::Taken(replica.to_string())) }
}

/// Where the lives of these replicas come from.
pub(super) struct Arrivals {
    pub(super) registrations: Registrations,
    pub(super) members: Members,
}

/// A replica that has registered itself.
pub(super) struct RegisteredReplica {
    replica: ReplicaId,
    registered: Registered,
    members: Members,
}

impl Launch for Arrivals {
    type Process = RegisteredReplica;

    const STARTS_AGAIN: bool = false;

    async fn may_begin(&self, replica: &ReplicaId) {
        self.registrations.arrived(replica).await;
    }

    async fn launch(
        &self,
        replica: &ReplicaId,
        _version: &Version,
    ) -> Result<RegisteredReplica, LaunchError> {
        let registered = self.registrations.present(replica);
        let registered = registered.ok_or_else(|| LaunchError("it came and went".into()))?;
        Ok(RegisteredReplica { replica: replica.clone(), registered, members: self.members.clone() })
    }
}

impl Process for RegisteredReplica {
    fn pid(&self) -> Option<u32> {
        None
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        let channel = channel(&self.members, &self.replica, self.registered.leaf).await?;
        let registration = Some(Arc::clone(&self.registered.registration));
        Ok(Listening { address: self.registered.address, channel, registration })
    }

    async fn exited(&mut self) -> Exit {
        Exit::Gone(self.registered.gone().await)
    }

    fn leaves(&self) -> impl Future<Output = ()> + Send + 'static {
        self.registered.leaves()
    }

    fn signal(&self, signal: Signal, cause: &Cause) {
        let order = match cause {
            Cause::Wanted(reason) => EndOrder::Wanted(reason.clone()),
            Cause::Failed(reason) => EndOrder::Failed(reason.clone()),
        };
        match signal {
            Signal::Terminate => self.registered.tell_to_end(&order),
            Signal::Kill => self.registered.give_up(&order),
        }
    }
}

impl Drop for RegisteredReplica {
    fn drop(&mut self) {
        self.registered.give_up(&EndOrder::Wanted("nobody looks after it any more".into()));
    }
}
