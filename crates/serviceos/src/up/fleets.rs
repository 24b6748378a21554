//! The replicas that are looked after here: a fleet for each service that has processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use service_lifecycle::{Fleet, FleetHandle, Fleets, Launch, ReplicasOf, Terms, Wanted};
use service_registry::{Actor, Registry};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use types::{NodeName, ServiceName};

use super::elsewhere::{Arrivals, is_started_elsewhere};
use super::joining::Begun;
use super::plan::labels;
use super::replica_process::ReplicaLauncher;
use super::versions::Versions;
use configuration::{ServiceSettings, Settings};

/// The fleets while they run.
pub(super) struct Running {
    tasks: JoinSet<()>,
    stop: watch::Sender<Wanted>,
}

/// What fleets are made of.
pub(super) struct Begin<'a> {
    pub(super) settings: &'a Settings,
    pub(super) terms: &'a BTreeMap<ServiceName, Terms>,
    pub(super) node: Option<&'a NodeName>,
    pub(super) registry: &'a Registry,
    pub(super) mesh: &'a Arc<Begun>,
    pub(super) versions: &'a Versions,
    pub(super) launcher: &'a Arc<ReplicaLauncher>,
    pub(super) random: &'a mut fastrand::Rng,
}

impl Running {
    /// Begins with all replicas that are wanted; gives what asks for others too.
    pub(super) fn begin(mut begin: Begin<'_>) -> (Self, Fleets) {
        let (registrations, members) = (begin.mesh.registrations.clone(), begin.mesh.members.clone());
        let arrivals = Arc::new(Arrivals { registrations, members });
        let mut running = Self { tasks: JoinSet::new(), stop: watch::Sender::new(Wanted::Running) };
        let mut handles = BTreeMap::new();
        for service in &begin.settings.services {
            let Some(terms) = begin.terms.get(&service.name).cloned() else { continue };
            let launcher = Arc::clone(begin.launcher);
            let handle = if is_started_elsewhere(service) {
                running.fleet(&mut begin, service, Arc::clone(&arrivals), terms)
            } else {
                running.fleet(&mut begin, service, launcher, terms)
            };
            handles.insert(service.name.clone(), handle);
        }
        (running, Fleets::new(handles))
    }

    fn fleet<L: Launch>(
        &mut self,
        begin: &mut Begin<'_>,
        service: &ServiceSettings,
        launcher: Arc<L>,
        terms: Terms,
    ) -> FleetHandle {
        let (handle, commands) = FleetHandle::new();
        let (registry, random) = (begin.registry.clone(), begin.random.fork());
        let of = ReplicasOf {
            service: service.name.clone(),
            node: begin.node.cloned(),
            labels: Some(labels(service)),
            version: begin.versions.get(service),
        };
        let fleet = Fleet::new(of, launcher, terms, registry, random);
        self.tasks.spawn(fleet.run(self.stop.subscribe(), commands));
        handle
    }

    /// Returns when one of them has ended, which none does before it is told unless something is badly wrong.
    pub(super) async fn one_ended(&mut self) {
        match self.tasks.join_next().await {
            Some(_ended) => {}
            // There is none that could.
            None => std::future::pending().await,
        }
    }

    /// How much is wanted of all replicas at the least.
    pub(super) fn stop(&self, wanted: Wanted) {
        self.stop.send_replace(wanted);
    }

    /// Kills all replicas.
    pub(super) async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The end of one; nothing once there is none left.
    pub(super) async fn next_end(&mut self) -> Option<Result<(), JoinError>> {
        self.tasks.join_next().await
    }
}

/// Hands on what another configuration says of the replicas of each service.
pub(super) async fn take_over(fleets: &Fleets, terms: BTreeMap<ServiceName, Terms>, actor: &Actor) {
    for (service, terms) in terms {
        let Some(fleet) = fleets.of(&service) else { continue };
        if let Err(refused) = fleet.take(terms, actor.clone()).await {
            tracing::warn!(%service, %refused, "another configuration does not reach the replicas");
        }
    }
}
