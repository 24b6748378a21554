//! The second half of a takeover, in the new process: once its replicas are proven it serves, and the old one is told what it sees
//! for as long as that has requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{HandedNonces, Nonces};
use anyhow::{Context, Result};
use edge_gateway::Opener;
use mesh_protocol::Bytes;
use service_registry::{
    Actor, Channel, Instance, LifecycleState, Registry, Replica, Snapshot, Subject, What,
};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use types::ReplicaId;

use super::message::{Certificates, Handed, Seen, SeenReplica, ToNew, ToOld, receive, send};
use super::{ON_ITS_WAY, PROVEN};
use crate::hold::Hold;
use crate::up::background::{Background, told};

/// How long the workers may take until all of them know who may serve.
const CONFIRMED: Duration = Duration::from_secs(1);
/// How often the old one is told at the most; what happens in between it is told together.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Replicas in one message.
const AT_ONCE: usize = 1000;
/// Messages of the old one that wait to be looked at.
const QUEUED: usize = 4;

/// The process whose place this one takes.
pub(in super::super) struct Predecessor {
    connection: UnixStream,
    handed: Handed,
    began: Instant,
}

/// What this process needs to take its place.
pub(in super::super) struct Succession {
    pub(in super::super) registry: Registry,
    pub(in super::super) opener: Opener,
    pub(in super::super) hold: Hold,
    pub(in super::super) nonces: Arc<Nonces>,
}

/// How far a takeover is, in the new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Stage {
    /// The old one serves.
    Taking { from: u32 },
    /// It is given up, and the old one is to go on.
    GivenUp { from: u32, reason: String },
    /// This one serves, and the old one finishes what it has.
    Serving { from: u32 },
    /// There is no other one.
    Alone,
}

impl Stage {
    /// How far it is at first, and how the rest learns of what follows.
    pub(in super::super) fn begin(
        predecessor: Option<&Predecessor>,
    ) -> (watch::Sender<Self>, watch::Receiver<Self>) {
        let from = predecessor.map(|predecessor| predecessor.handed.pid);
        watch::channel(from.map_or(Self::Alone, |from| Self::Taking { from }))
    }

    /// The number of the process whose place is taken, or was; its own where there is none.
    pub(in super::super) fn from(&self) -> u32 {
        match self {
            Self::Taking { from } | Self::GivenUp { from, .. } | Self::Serving { from } => *from,
            Self::Alone => std::process::id(),
        }
    }

    /// Whether another process serves yet, and goes on where this one ends.
    pub(in super::super) fn is_anothers(&self) -> bool {
        matches!(self, Self::Taking { .. } | Self::GivenUp { .. }) && self.from() != std::process::id()
    }

    /// Why this process does not give its own place away now.
    pub(in super::super) fn busy(&self) -> Option<String> {
        match self {
            Self::Taking { from } | Self::Serving { from } => Some(format!(
                "it has taken over from the serviceos with pid {from}, which has not ended yet; try again once it has"
            )),
            Self::GivenUp { .. } => Some("it ends".to_owned()),
            Self::Alone => None,
        }
    }
}

impl Succession {
    /// Takes the place of another one, where there is one, and says how far that is.
    pub(in super::super) fn begin(
        self,
        predecessor: Option<Predecessor>,
        stage: watch::Sender<Stage>,
        background: &mut Background,
    ) {
        let Some(predecessor) = predecessor else { return };
        background.add(|stopped| async move {
            tokio::select! {
                () = predecessor.succeed(self, stage) => told(stopped).await,
                () = told(stopped.clone()) => {}
            }
        });
    }
}

impl Predecessor {
    pub(super) fn new(connection: UnixStream, handed: Handed, began: Instant) -> Self {
        Self { connection, handed, began }
    }

    /// How far the outputs of replicas were read.
    pub(in super::super) fn read(&self) -> BTreeMap<ReplicaId, u64> {
        self.handed.read.clone()
    }

    /// Where the service manager is told how things are, and how long it waits for a sign of life.
    pub(in super::super) fn manager(&self) -> Option<(String, Option<Duration>)> {
        let notify = self.handed.notify.clone()?;
        Some((notify, self.handed.watchdog_usec.map(Duration::from_micros)))
    }

    /// Takes its place, and tells it what is seen here until it has ended.
    async fn succeed(self, succession: Succession, stage: watch::Sender<Stage>) {
        let Self { connection, handed, began } = self;
        let Succession { registry, opener, hold, nonces } = succession;
        let (pid, version) = (handed.pid, handed.version);
        let (reading, mut writing) = connection.into_split();
        let (heard, mut said) = mpsc::channel(QUEUED);
        let reading = listen(reading, heard);
        let telling = async {
            let snapshot = match proven(&registry, &handed.selectable).await {
                Ok(snapshot) => snapshot,
                Err(reason) if pid == std::process::id() => {
                    // Nobody else would serve.
                    tracing::warn!("{reason}: the place is taken back all the same");
                    registry.snapshot()
                }
                Err(reason) => {
                    stage.send_replace(Stage::GivenUp { from: pid, reason });
                    return;
                }
            };
            let proven_ms = began.elapsed().as_millis();
            // Whoever calls from now on must not meet a worker that has not heard of them.
            let _by_all_or_late = registry.confirmed_here(snapshot.epoch, CONFIRMED).await;
            let mut is_there = is_told(&mut writing, &ToOld::Proven).await;
            if is_there {
                match used_there(&mut said).await {
                    Ok(used) => nonces.go_on_with(used),
                    Err(error) => tracing::warn!(pid, "signatures from before now are refused: {error:#}"),
                }
            }
            opener.open();
            hold.tighten();
            is_there &= is_told(&mut writing, &ToOld::Serving).await;
            let what = What::Takeover { from: pid, to: std::process::id() };
            registry.events().record(Subject::Process, what, None, Actor::Operator);
            stage.send_replace(Stage::Serving { from: pid });
            let elapsed_ms = began.elapsed().as_millis();
            tracing::info!(
                pid,
                version,
                proven_ms,
                elapsed_ms,
                "the place of another serviceos is taken: this one serves"
            );
            if !is_there {
                tracing::warn!(pid, "the serviceos whose place is taken has ended before it was told so");
            }
            let mirrored = Mirrored::default();
            tokio::select! {
                told = tell(&registry, &mut writing) => {
                    if let Err(error) = told {
                        tracing::debug!(pid, "{error:#}");
                    }
                }
                () = mirrored.follow(&registry, &mut said) => {}
            }
        };
        tokio::select! {
            () = telling => {}
            // It is read to its end by whoever tells.
            never = reading => match never {},
        }
        if !matches!(*stage.borrow(), Stage::GivenUp { .. }) {
            let elapsed_ms = began.elapsed().as_millis();
            tracing::info!(pid, elapsed_ms, "the serviceos whose place was taken has ended");
            stage.send_replace(Stage::Alone);
        }
    }
}

async fn is_told(writing: &mut (impl tokio::io::AsyncWrite + Unpin), message: &ToOld) -> bool {
    timeout(ON_ITS_WAY, send(writing, message)).await.is_ok_and(|sent| sent.is_ok())
}

/// The nonces that were used there, where none is used any more.
async fn used_there(said: &mut mpsc::Receiver<ToNew>) -> Result<HandedNonces> {
    let mut used = HandedNonces::default();
    loop {
        let part = timeout(ON_ITS_WAY, said.recv()).await;
        match part.ok().flatten().context("the nonces that were used were not handed over")? {
            ToNew::Nonces(part) => {
                let more = part.more;
                part.add_to(&mut used)?;
                if !more {
                    return Ok(used);
                }
            }
            ToNew::Refused(_) | ToNew::Handed(_) | ToNew::InFlight(_) => {}
        }
    }
}

/// Reads on for ever; what is heard ends with the connection.
async fn listen(mut reading: OwnedReadHalf, heard: mpsc::Sender<ToNew>) -> std::convert::Infallible {
    while let Ok(message) = receive::<ToNew>(&mut reading).await {
        if heard.send(message).await.is_err() {
            break;
        }
    }
    drop(heard);
    std::future::pending().await
}

/// Returns once all of them serve that did, as far as they are wanted here; or, when that takes too long, if each service of which
/// one did has one that does.
async fn proven(registry: &Registry, served: &[ReplicaId]) -> Result<Arc<Snapshot>, String> {
    let mut snapshots = registry.subscribe();
    let serves = |replica: &Replica| replica.selectable().is_ok();
    let all = snapshots.wait_for(|snapshot| {
        let wanted = served.iter().filter_map(|id| snapshot.replica(id));
        wanted.into_iter().all(serves)
    });
    if let Ok(Ok(snapshot)) = timeout(PROVEN, all).await.map(|all| all.map(|snapshot| Arc::clone(&snapshot)))
    {
        return Ok(snapshot);
    }
    let snapshot = registry.snapshot();
    for id in served {
        let Some(service) = snapshot.service(&id.service) else { continue };
        if !service.replicas.is_empty() && !service.replicas.iter().any(serves) {
            return Err(format!("no replica of {} serves after {PROVEN:?}", id.service));
        }
    }
    tracing::warn!(
        "not every replica that served does, {PROVEN:?} after the takeover began: it goes on without them"
    );
    Ok(snapshot)
}

/// Tells what is seen, whenever it is something else, until it cannot be told.
async fn tell(registry: &Registry, writing: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<()> {
    let mut snapshots = registry.subscribe();
    let mut before = None;
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let seen = seen(&snapshot);
        if before.as_ref() != Some(&seen) {
            let mut parts = seen.chunks(AT_ONCE).peekable();
            if parts.peek().is_none() {
                tell_part(writing, Seen::default()).await?;
            }
            while let Some(part) = parts.next() {
                let more = parts.peek().is_some();
                tell_part(writing, Seen { replicas: part.to_vec(), more }).await?;
            }
            before = Some(seen);
        }
        // Certificates change without a snapshot.
        let _changed_or_time_to_look = timeout(TOLD_EVERY * 10, snapshots.changed()).await;
        sleep(TOLD_EVERY).await;
    }
}

async fn tell_part(writing: &mut (impl tokio::io::AsyncWrite + Unpin), seen: Seen) -> Result<()> {
    timeout(ON_ITS_WAY, send(writing, &ToOld::Seen(seen)))
        .await
        .context("the other serviceos does not listen")?
}

fn seen(snapshot: &Snapshot) -> Vec<SeenReplica> {
    let replicas = snapshot.services.iter().flat_map(|service| &service.replicas);
    let seen = replicas.map(|replica| {
        let instance = replica.instance.as_ref();
        SeenReplica {
            replica: replica.id.clone(),
            address: instance.map(|instance| instance.address),
            serves: replica.state == LifecycleState::Ready && replica.attestation.holds(),
            certificates: instance.and_then(|instance| certificates(&instance.channel)),
        }
    });
    seen.collect()
}

fn certificates(channel: &Channel) -> Option<Certificates> {
    let Channel::Mesh(peer) = channel else { return None };
    let (leaf, former) = peer.certificates(jiff::Timestamp::now())?;
    let former = former.map(|(leaf, until)| (Bytes(leaf.to_vec()), until));
    Some(Certificates { leaf: Bytes(leaf.to_vec()), former })
}

/// The requests that replicas have of the old one, counted with those that they have of this one, so that a drain waits for both.
#[derive(Default)]
struct Mirrored(BTreeMap<ReplicaId, (Arc<Instance>, usize)>);

impl Mirrored {
    /// Until the old one says nothing any more.
    async fn follow(mut self, registry: &Registry, said: &mut mpsc::Receiver<ToNew>) {
        while let Some(message) = said.recv().await {
            if let ToNew::InFlight(counts) = message {
                self.take(&registry.snapshot(), counts);
            }
        }
    }

    fn take(&mut self, snapshot: &Snapshot, counts: Vec<(ReplicaId, std::net::SocketAddr, usize)>) {
        let mut counts: BTreeMap<_, _> =
            counts.into_iter().map(|(replica, address, count)| (replica, (address, count))).collect();
        for (replica, (instance, known)) in &mut self.0 {
            let count = counts.remove(replica).filter(|(address, _)| *address == instance.address);
            mirror(instance, known, count.map_or(0, |(_, count)| count));
        }
        self.0.retain(|_, (_, count)| *count > 0);
        for (replica, (address, count)) in counts {
            let instance = snapshot.replica(&replica).and_then(|replica| replica.instance.as_ref());
            if let Some(instance) = instance.filter(|instance| instance.address == address) {
                let mut known = 0;
                mirror(instance, &mut known, count);
                self.0.insert(replica, (Arc::clone(instance), known));
            }
        }
    }
}

impl Drop for Mirrored {
    fn drop(&mut self) {
        for (instance, known) in self.0.values_mut() {
            mirror(instance, known, 0);
        }
    }
}

fn mirror(instance: &Instance, known: &mut usize, count: usize) {
    (*known..count).for_each(|_| instance.in_flight.begin());
    (count..*known).for_each(|_| instance.in_flight.end());
    *known = count;
}

/// Returns once the takeover is given up, or with the stage once there is nothing of it any more.
pub(in super::super) async fn given_up(stage: &mut watch::Receiver<Stage>) -> String {
    loop {
        if let Stage::GivenUp { reason, .. } = &*stage.borrow_and_update() {
            return reason.clone();
        }
        if stage.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Returns once this process serves.
pub(in super::super) async fn serves(mut stage: watch::Receiver<Stage>) {
    let _serves_or_ends =
        stage.wait_for(|stage| matches!(stage, Stage::Serving { .. } | Stage::Alone)).await.is_ok();
}

/// Returns once no other process serves.
pub(in super::super) async fn alone(mut stage: watch::Receiver<Stage>) {
    if stage.wait_for(|stage| matches!(stage, Stage::Alone)).await.is_err() {
        // It was given up, or everything ends.
        std::future::pending::<()>().await;
    }
}
