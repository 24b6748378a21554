//! Replicas that an `up` has left which was killed: they serve on, and the next `up` takes them over as they are, or ends them.
//!
//! One is taken over if it is the process that is written down, has said that it listens, runs what the configuration says, or what
//! its service ran before or was to run, knows the mesh by the address that it has, is admitted, and shows its certificate when it
//! is asked for it.

pub(crate) mod record;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use configuration::{ProcessSettings, Program, Settings};
use edge_gateway::Opener;
use jiff::Timestamp;
use mesh::Members;
use service_lifecycle::Signal;
use service_registry::{Channel, Instance, Registry, Replica, Service, Snapshot, Version};
use service_router::{TlsClient, Unproven, proves_itself};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trust::{Authority, Standing};
use types::{ReplicaId, ServiceName};

use self::record::Record;
use super::background::{Background, told};
use super::data_dir::DataDir;
use super::groups::Group;
use super::kept_rollouts::Resumed;
use super::quoter;
use super::replica_process::{ReplicaLauncher, forget_output};
use crate::hold::Hold;
use crate::left_process::{Found, LeftProcess, end_strays};
use crate::replaced_file::replace;

/// Where the mesh API listens, which a replica is told once.
const MESH_ADDRESS: &str = "mesh.address";
/// How long it may take until the registry has what the authority knows of a replica.
const KNOWN: Duration = Duration::from_secs(5);
/// How long a replica may take to show who it is, and how soon it is asked again.
const SHOWN: Duration = Duration::from_secs(10);
const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// How long clients wait for the replicas that were left, beside those that have to be started.
const OPENED: Duration = Duration::from_secs(2);
/// How long clients wait who would be refused otherwise: they were not, while there was no `up`.
const OPENED_WHERE_THEY_WAIT: Duration = Duration::from_secs(10);
/// How long the workers may take until all of them know who may serve.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// A process that was left. It is not ended by being dropped.
pub(crate) struct Left {
    pub(crate) record: Record,
    pub(crate) process: LeftProcess,
    run: PathBuf,
}

impl Left {
    /// All that run still. What is written of others goes. Within a runtime.
    pub(crate) fn all(run: &Path) -> Vec<Self> {
        let found = |record: Record| match LeftProcess::find(&record.process) {
            Found::Running(process) => Some(Self { record, process, run: run.to_owned() }),
            Found::Ended => {
                end_strays(&record.process, &record.output);
                record.remove(run);
                None
            }
            Found::Hidden => {
                let (replica, pid) = (&record.replica, record.process.pid);
                tracing::error!(
                    %replica,
                    pid,
                    "/proc hides the process that an earlier serviceos has left, so it is neither taken over nor ended: end it by \
                     hand, and start serviceos where /proc is mounted without hidepid (under systemd: without ProtectProc)"
                );
                None
            }
        };
        Record::all(run).into_iter().filter_map(found).collect()
    }

    /// SIGTERM, its grace, SIGKILL; returns when nothing of its group is left.
    pub(crate) async fn end(self) {
        self.end_unless(std::future::pending()).await;
    }

    /// The same, and SIGKILL once this is over.
    pub(super) async fn end_unless(mut self, at_once: impl Future<Output = ()>) {
        self.process.terminate();
        tokio::select! {
            ended = timeout(self.record.grace(), self.process.ended()) => if ended.is_err() {
                tracing::warn!(replica = %self.record.replica, "the replica did not end by itself: killing it");
            },
            () = at_once => {}
        }
        self.end_at_once().await;
    }

    /// SIGKILL to whoever is left of its group; returns when nobody is.
    pub(super) async fn end_at_once(mut self) {
        self.process.kill();
        self.process.ended().await;
        self.end_group().await;
        self.record.remove(&self.run);
    }
}

impl Left {
    /// Whoever has left the process group is in the control group still, where there is one.
    async fn end_group(&self) {
        if let Some(group) = self.record.group.clone().filter(|group| group.exists()) {
            let _out_of_memory = Group::left(group).end().await;
        }
    }
}

/// Ends all that were left on a data directory, which is locked meanwhile or has no `up` any more.
pub(crate) async fn end_all(run: &Path) -> Vec<Record> {
    let left = Left::all(run);
    let ended = left.iter().map(|left| left.record.clone()).collect();
    let mut ending: JoinSet<()> = left.into_iter().map(Left::end).collect();
    while ending.join_next().await.is_some() {}
    ended
}

/// The same until somebody is tired of waiting; what is left then is killed.
pub(super) async fn end_all_until(run: &Path, impatient: impl Future<Output = ()>) {
    tokio::select! {
        _all = end_all(run) => return,
        () = impatient => {}
    }
    for left in Left::all(run) {
        left.end_at_once().await;
    }
}

/// Whether an `up` that was killed has left processes that run.
pub(super) fn is_something_left(run: &Path) -> bool {
    !Left::all(run).is_empty()
}

/// What an `up` has left that was killed, and that has ended now.
pub(crate) struct EndedLeftovers {
    pub(crate) replicas: Vec<Record>,
    /// Whether there was a quoter.
    pub(crate) quoter: bool,
    /// What is written of replicas and cannot be read: they may run on.
    pub(crate) unreadable: Vec<PathBuf>,
}

/// Ends it from outside of `up`; none where one runs, or the directory is not there.
pub(crate) async fn end_what_is_left(data_dir: &Path) -> Option<EndedLeftovers> {
    let locked = DataDir::lock_if_it_is_there(data_dir)?;
    let replicas = end_all(locked.run()).await;
    let unreadable = Record::unreadable(locked.run());
    Some(EndedLeftovers { replicas, quoter: quoter::end_what_is_left(locked.run()).await, unreadable })
}

/// When clients are let in.
pub(super) enum LetIn {
    /// When those serve that an earlier `up` has left.
    WithWhatWasLeft(Opener),
    /// When one replica of each of these services serves: they have connected before there was an `up`, and wait.
    WithOneOfEach(Opener, Vec<ServiceName>),
    /// When the `up` whose place this one takes is told so.
    ByTheTakeover,
}

impl LetIn {
    /// The latter where the gateway's socket is held by somebody else. Servers that run elsewhere are not waited for: nobody here
    /// starts them.
    pub(super) fn by(opener: Opener, gateway_is_held: bool, settings: &Settings) -> Self {
        if !gateway_is_held {
            return Self::WithWhatWasLeft(opener);
        }
        let is_started = |process: &ProcessSettings| process.program != Program::Elsewhere;
        let started = settings.services.iter().filter(|service| service.process().is_some_and(is_started));
        Self::WithOneOfEach(opener, started.map(|service| service.name.clone()).collect())
    }
}

/// What starts replicas, or takes over what an earlier one has left. Clients wait for that, and what is not wanted any more ends,
/// once no other process can have requests of it.
pub(super) fn begin(
    launcher: ReplicaLauncher,
    registry: &Registry,
    resumed: &Resumed,
    (let_in, alone): (LetIn, impl Future<Output = ()> + Send + 'static),
    background: &mut Background,
) -> Arc<ReplicaLauncher> {
    give_places(registry, &launcher.found());
    resumed.stay().for_each(|id| give_another_place(registry, id));
    let snapshot = registry.snapshot();
    launcher.dismiss(|replica| snapshot.replica(replica).is_none());
    let (mut found, registry, launcher) = (launcher.found(), registry.clone(), Arc::new(launcher));
    let before = found.len();
    found.retain(|replica| launcher.wants(replica, &snapshot));
    if found.len() < before {
        let (launcher, registry) = (Arc::clone(&launcher), registry.clone());
        // Those that are not ended by then are at the end of everything.
        background.add(|stopped| async move {
            let ended = async {
                alone.await;
                // Until then whoever is to have the number of one finds it.
                end_unwanted(launcher.unwanted(&registry.snapshot())).await;
            };
            and_on_until_told(ended, stopped).await;
        });
    }
    match let_in {
        LetIn::ByTheTakeover => {}
        LetIn::WithWhatWasLeft(opener) if found.is_empty() => opener.open(),
        LetIn::WithWhatWasLeft(opener) => background.add(|stopped| async move {
            let opened = open_once_they_serve(opener, &registry, &found);
            and_on_until_told(opened, stopped).await;
        }),
        LetIn::WithOneOfEach(opener, services) => background.add(|stopped| async move {
            let opened = open_once_each_serves(opener, &registry, &services);
            and_on_until_told(opened, stopped).await;
        }),
    }
    launcher
}

/// A task of the background goes on when it has done its part, and ends where it has not when it is told to.
async fn and_on_until_told(part: impl Future<Output = ()>, stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = part => told(stopped).await,
        () = told(stopped.clone()) => {}
    }
}

/// Replicas of which a process was left are the first that are wanted, whatever their numbers are.
fn give_places(registry: &Registry, found: &[ReplicaId]) {
    for service in &registry.snapshot().services {
        let of_service = found.iter().filter(|id| id.service == service.name);
        let unplaced: Vec<_> = of_service.filter(|id| service.replica(id).is_none()).collect();
        let free = service.replicas.iter().rev().filter(|replica| !found.contains(&replica.id));
        for (id, free) in unplaced.into_iter().zip(free) {
            registry.remove_replica(&free.id);
            registry.add_replica(Replica { id: id.clone(), ..free.clone() });
        }
    }
}

/// While a rollout is on its way there may be more than are wanted.
fn give_another_place(registry: &Registry, id: &ReplicaId) {
    let snapshot = registry.snapshot();
    let others = snapshot.service(&id.service).and_then(|service| service.replicas.first());
    let labels = others.and_then(|other| other.labels.clone());
    registry.add_replica(Replica { labels, ..Replica::stopped(id.clone(), Timestamp::now()) });
}

/// What was found at the start, until the driver of the replica asks for it.
#[derive(Default)]
pub(super) struct Leftovers(Mutex<BTreeMap<ReplicaId, Left>>);

impl Leftovers {
    /// Looks once. Within a runtime.
    pub(super) fn find(run: &Path) -> Self {
        let found = Left::all(run).into_iter().map(|left| (left.record.replica.clone(), left));
        Self(Mutex::new(found.collect()))
    }

    /// Of which replicas there is one.
    pub(super) fn replicas(&self) -> Vec<ReplicaId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Those of a service, with what is written down of them.
    pub(super) fn of_service(&self, service: &ServiceName) -> Vec<(ReplicaId, Record)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.iter().filter(|(replica, _)| replica.service == *service);
        own.map(|(replica, left)| (replica.clone(), left.record.clone())).collect()
    }

    /// That of a replica.
    pub(super) fn take(&self, replica: &ReplicaId) -> Option<Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(replica)
    }

    /// Those of replicas that nobody wants any more.
    pub(super) fn take_unwanted(&self, is_wanted: impl Fn(&ReplicaId) -> bool) -> Vec<Left> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted: Vec<_> = all.keys().filter(|replica| !is_wanted(replica)).cloned().collect();
        unwanted.iter().filter_map(|replica| all.remove(replica)).collect()
    }
}

/// Lets clients in once those replicas serve, or when that takes too long: who connects before waits for that, and is not refused.
pub(super) async fn open_once_they_serve(opener: Opener, registry: &Registry, found: &[ReplicaId]) {
    let mut snapshots = registry.subscribe();
    let is_selectable = |replica: &Replica| replica.selectable().is_ok();
    let serves = |snapshot: &Snapshot, id| snapshot.replica(id).is_some_and(is_selectable);
    let all = snapshots.wait_for(|snapshot| found.iter().all(|id| serves(snapshot, id)));
    let _served_or_late = timeout(OPENED, all).await.is_ok();
    opener.open();
}

/// The same once each of the services has a replica that serves.
async fn open_once_each_serves(opener: Opener, registry: &Registry, services: &[ServiceName]) {
    let mut snapshots = registry.subscribe();
    let serves = |service: &Service| {
        let mut replicas = service.replicas.iter();
        service.replicas.is_empty() || replicas.any(|replica| replica.selectable().is_ok())
    };
    let all = snapshots.wait_for(|snapshot| {
        let mut awaited = snapshot.services.iter().filter(|service| services.contains(&service.name));
        awaited.all(|service| serves(service))
    });
    let serving = async { all.await.map(|snapshot| snapshot.epoch) };
    match timeout(OPENED_WHERE_THEY_WAIT, serving).await {
        Ok(Ok(epoch)) => {
            // Whoever has waited must not meet a worker that has not heard of it.
            let _by_all_or_late = registry.confirmed(epoch, TAKE_OVER).await;
        }
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(
                "clients that wait are let in although not every service has a replica that serves"
            );
        }
    }
    opener.open();
}

/// Ends processes of replicas that are not wanted any more.
pub(super) async fn end_unwanted(unwanted: Vec<Left>) {
    let mut ending = JoinSet::new();
    for left in unwanted {
        let (replica, pid) = (&left.record.replica, left.record.process.pid);
        tracing::info!(%replica, pid, "an earlier serviceos has left a replica that is not wanted any more: it is ended");
        ending.spawn(async move {
            let output = left.record.output.clone();
            left.end().await;
            forget_output(&output);
        });
    }
    while ending.join_next().await.is_some() {}
}

/// What a process is held against.
pub(super) struct Judge<'a> {
    /// What it runs, where that is one of the versions that there may be.
    pub(super) version: Option<&'a Version>,
    pub(super) mesh: SocketAddr,
    pub(super) authority: &'a Authority,
    pub(super) members: &'a Members,
    pub(super) tls: &'a TlsClient,
}

impl Judge<'_> {
    /// Where a process listens and how it is reached, if it is taken over.
    ///
    /// # Errors
    /// Why it is not, for the operator.
    pub(super) async fn judge(&self, record: &Record) -> Result<(SocketAddr, Channel), String> {
        let listening = record.listening.as_ref().ok_or("it had not said that it listens")?;
        let version = self.version.ok_or_else(|| {
            let runs = record
                .version()
                .map_or_else(|| record.spec.version.clone(), |version| version.id().to_owned());
            format!("it runs {runs}, which is neither what the configuration says nor what ran before")
        })?;
        if record.mesh != self.mesh {
            return Err(format!("it knows the mesh at {}, which is at {} now", record.mesh, self.mesh));
        }
        let channel = self.admitted(&record.replica).await?;
        let instance = Instance::new(record.replica.clone(), 0, listening.address, version.clone());
        self.shows_who_it_is(&Instance { channel: channel.clone(), ..instance }).await?;
        Ok((listening.address, channel))
    }

    /// How a replica is reached whose admission holds.
    async fn admitted(&self, replica: &ReplicaId) -> Result<Channel, String> {
        let key = (replica.service.clone(), replica.instance());
        let leaf = match self.authority.standings().borrow().get(&key) {
            Some(Standing::Valid(admission)) => admission.leaf,
            Some(Standing::Refused { fault, .. }) => return Err(format!("it is refused: {fault}")),
            Some(Standing::Expired(_)) => return Err("its identity ends".into()),
            Some(Standing::Pending { .. }) | None => return Err("it is not admitted any more".into()),
        };
        let peer = timeout(KNOWN, self.members.joined(replica, leaf)).await;
        Ok(Channel::Mesh(peer.map_err(|_| "its admission was replaced")?))
    }

    /// Somebody else at its address is known at once; one that does not answer has some time.
    async fn shows_who_it_is(&self, instance: &Instance) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match proves_itself(instance, self.tls).await {
                Ok(()) => return Ok(()),
                Err(Unproven::Another(reason)) => return Err(reason),
                Err(Unproven::Unreached(reason)) if begun.elapsed() > SHOWN => return Err(reason),
                Err(Unproven::Unreached(_)) => sleep(ASKED_AGAIN).await,
            }
        }
    }
}

/// The same for whoever looks after it from now on.
pub(super) struct Adopted {
    pub(super) process: LeftProcess,
    pub(super) hold: Hold,
}

impl Adopted {
    pub(super) fn signal(&self, signal: Signal) {
        match signal {
            Signal::Terminate => self.process.terminate(),
            Signal::Kill => self.process.kill(),
        }
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if !self.hold.is_loose() {
            self.process.kill();
        }
    }
}

/// Where an earlier `up` had the mesh API on this data directory.
pub(super) fn mesh_address_before(run: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(run.join(MESH_ADDRESS)).ok()?.trim().parse().ok()
}

/// Where it is now.
pub(super) fn keep_mesh_address(run: &Path, address: SocketAddr) -> std::io::Result<()> {
    replace(&run.join(MESH_ADDRESS), format!("{address}\n").as_bytes())
}
