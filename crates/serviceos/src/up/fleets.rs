//! The replicas that are looked after here: a fleet for each service that has processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use service_lifecycle::{Fleet, FleetHandle, Fleets, Launch, ReplicasOf, Terms, Wanted};
use service_registry::{Actor, Registry, Version};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use types::{NodeName, ServiceName};

use super::elsewhere::{Arrivals, is_started_elsewhere};
use super::joining::Begun;
use super::kept_rollouts::Resumed;
use super::plan::labels;
use super::replica_process::ReplicaLauncher;
use super::versions::Versions;
use configuration::{ServiceSettings, Settings};

/// The fleets while they run.
pub(super) struct Running {
    tasks: JoinSet<()>,
    stop: watch::Sender<Wanted>,
    /// Counts the rollouts that have ended.
    ended: watch::Sender<u64>,
}

/// What fleets are made of.
pub(super) struct Begin<'a> {
    pub(super) settings: &'a Settings,
    pub(super) terms: &'a BTreeMap<ServiceName, Terms>,
    pub(super) node: Option<&'a NodeName>,
    pub(super) registry: &'a Registry,
    pub(super) mesh: &'a Arc<Begun>,
    pub(super) versions: &'a Versions,
    pub(super) resumed: &'a Resumed,
    pub(super) launcher: &'a Arc<ReplicaLauncher>,
    pub(super) random: &'a mut fastrand::Rng,
}

impl Running {
    /// Begins with all replicas that are wanted; gives what asks for others too.
    pub(super) fn begin(mut begin: Begin<'_>) -> (Self, Fleets) {
        let (registrations, members) = (begin.mesh.registrations.clone(), begin.mesh.members.clone());
        let arrivals = Arc::new(Arrivals { registrations, members });
        let mut running = Self {
            tasks: JoinSet::new(),
            stop: watch::Sender::new(Wanted::Running),
            ended: watch::Sender::new(0),
        };
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
        let (registry, random) = (begin.registry.clone(), begin.random.fork());
        let of = ReplicasOf {
            service: service.name.clone(),
            node: begin.node.cloned(),
            labels: Some(labels(service)),
            version: begin.resumed.stable(&service.name).unwrap_or_else(|| begin.versions.get(service)),
        };
        let snapshot = registry.snapshot();
        let found = begin.resumed.found(&service.name, |replica| snapshot.replica(replica).is_some());
        let fleet = Fleet::new(of, launcher, terms, registry, random).with(found);
        let (handle, end) = FleetHandle::of(fleet.rollouts(), self.ended.clone());
        self.tasks.spawn(fleet.run(self.stop.subscribe(), end));
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

    /// Changes whenever a rollout has ended.
    pub(super) fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
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

/// Hands on what another configuration says of the replicas of each service; of these another version is to run.
pub(super) async fn take_over(
    fleets: &Fleets,
    terms: BTreeMap<ServiceName, Terms>,
    mut rolled: BTreeMap<ServiceName, Version>,
    actor: &Actor,
) {
    for (service, terms) in terms {
        let Some(fleet) = fleets.of(&service) else { continue };
        let told = match rolled.remove(&service) {
            Some(version) => fleet.roll(version, terms, actor.clone()).await,
            None => fleet.take(terms, actor.clone()).await,
        };
        if let Err(refused) = told {
            tracing::warn!(%service, %refused, "another configuration does not reach the replicas");
        }
    }
}
