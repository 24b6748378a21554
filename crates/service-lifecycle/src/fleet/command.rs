//! What a fleet is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use service_registry::{Actor, Version};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use types::{ReplicaId, ServiceName};

use super::Terms;
use crate::rollout::{Outcome, Pace, Progress, Stage};

/// Commands that wait for the one before them.
const QUEUED: usize = 16;
/// Rollouts that have ended and are remembered, of each service.
pub(super) const MAX_HISTORY: usize = 20;

/// What is to be another.
pub(super) enum Change {
    /// What the configuration says.
    Terms(Terms),
    /// Every replica begins anew.
    Restart,
    /// Another version takes the place of the one that runs.
    Roll {
        /// It.
        version: Version,
        /// What the configuration says with it.
        terms: Terms,
    },
    /// A rollout that is on its way goes on otherwise.
    Steer(Steer),
    /// This replica begins anew.
    RestartOne(ReplicaId),
    /// This replica finishes, and stays stopped.
    Drain(ReplicaId),
}

/// What becomes of a rollout that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// It waits until it is resumed.
    Pause,
    /// It goes on.
    Resume,
    /// What is left of its steps and waits is skipped.
    Promote,
    /// The new version is given up.
    Undo,
}

impl fmt::Display for Steer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Promote => "promoted",
            Self::Undo => "undone",
        })
    }
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    /// The version that runs.
    pub from: Version,
    /// The version that is to.
    pub to: Version,
    /// Where it is.
    pub stage: Stage,
    /// Whether it goes on by itself.
    pub pace: Pace,
    /// The part of the calls that the new version has; none where each replica has as much as any other.
    pub percent: Option<u8>,
    /// The replicas of the new version that there are.
    pub begun: usize,
    /// When it began.
    pub since: Timestamp,
}

/// The rollout that is on its way, and those that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollouts {
    /// The version that runs, or that is to.
    pub wanted: Version,
    /// It.
    pub on_its_way: Option<RolloutStatus>,
    /// The latest last, at most 20.
    pub ended: VecDeque<EndedRollout>,
}

/// How a rollout has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRollout {
    /// The version that ran before.
    pub from: Version,
    /// The version that was to run; the same where all replicas only started again.
    pub to: Version,
    /// How.
    pub outcome: Outcome,
    /// When it began, and when it ended.
    pub times: (Timestamp, Timestamp),
}

/// A fleet's end of its handle.
pub struct FleetEnd {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) told: watch::Sender<Rollouts>,
    pub(super) progress: watch::Sender<Option<Progress>>,
    /// Counts the rollouts of all fleets that have ended.
    pub(super) ended: watch::Sender<u64>,
}

/// A change that somebody asks for.
pub(super) struct Command {
    pub(super) change: Change,
    pub(super) actor: Actor,
    pub(super) answer: oneshot::Sender<Result<(), FleetRefused>>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FleetRefused {
    /// There is no such replica.
    #[error("no replica {0} is started here; `serviceos status` lists them")]
    Unknown(ReplicaId),
    /// It is on its way out already.
    #[error("{0} is on its way out, and another may come in its place")]
    Leaving(ReplicaId),
    /// Somebody else starts them.
    #[error("the replicas of {0} are started by `serviceos exec`; end them and start them again there")]
    Elsewhere(ServiceName),
    /// Something else has to end first.
    #[error("the replicas of {0} are being replaced already; `serviceos events` says how far that is")]
    OnItsWay(ServiceName),
    /// There is none.
    #[error("no rollout of {0} is on its way; `serviceos rollout history {0}` says how the last one ended")]
    NoRollout(ServiceName),
    /// What is on its way cannot go on like that.
    #[error("the rollout of {0} {1}")]
    NotNow(ServiceName, &'static str),
    /// Nothing is changed any more.
    #[error("serviceos is stopping")]
    Stopping,
}

/// Asks a fleet.
#[derive(Clone)]
pub struct FleetHandle {
    commands: mpsc::Sender<Command>,
    rollouts: watch::Receiver<Rollouts>,
    progress: watch::Receiver<Option<Progress>>,
}

impl FleetHandle {
    /// A handle, and what [`Fleet::run`](super::Fleet::run) takes. `version` runs at first; `ended` counts the rollouts that end.
    pub fn new(version: Version, ended: watch::Sender<u64>) -> (Self, FleetEnd) {
        Self::of(Rollouts { wanted: version, on_its_way: None, ended: VecDeque::new() }, ended)
    }

    /// The same of a fleet that [tells](super::Fleet::rollouts) this at first.
    pub fn of(rollouts: Rollouts, ended: watch::Sender<u64>) -> (Self, FleetEnd) {
        let (sender, commands) = mpsc::channel(QUEUED);
        let (told, rollouts) = watch::channel(rollouts);
        let (progress, in_progress) = watch::channel(None);
        (
            Self { commands: sender, rollouts, progress: in_progress },
            FleetEnd { commands, told, progress, ended },
        )
    }

    /// The same as it changes.
    pub fn watch_rollouts(&self) -> watch::Receiver<Rollouts> {
        self.rollouts.clone()
    }

    /// What is there of both versions while a rollout is on its way, and what has yet to come. It changes with every second and
    /// every call.
    pub fn progress(&self) -> Option<Progress> {
        self.progress.borrow().clone()
    }

    /// The same as it changes.
    pub fn watch_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.clone()
    }

    /// The rollout that is on its way, and those that have ended.
    pub fn rollouts(&self) -> Rollouts {
        self.rollouts.borrow().clone()
    }

    /// The configuration says something else of the service's replicas.
    ///
    /// # Errors
    /// [`FleetRefused::Stopping`].
    pub async fn take(&self, terms: Terms, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::Terms(terms), actor).await
    }

    /// Every replica begins anew, no more of them at a time than may be missing.
    ///
    /// # Errors
    /// Nothing has begun then.
    pub async fn restart(&self, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::Restart, actor).await
    }

    /// Another version takes the place of the one that runs, as the terms say; in the place of one that is on its way already. Where
    /// it is the one that runs, what is on its way is undone.
    ///
    /// # Errors
    /// Nothing has begun then.
    pub async fn roll(&self, version: Version, terms: Terms, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::Roll { version, terms }, actor).await
    }

    /// A rollout that is on its way goes on otherwise.
    ///
    /// # Errors
    /// There is none.
    pub async fn steer(&self, steer: Steer, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::Steer(steer), actor).await
    }

    /// One replica finishes, and begins anew.
    ///
    /// # Errors
    /// There is no such replica, or it leaves.
    pub async fn restart_one(&self, replica: ReplicaId, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::RestartOne(replica), actor).await
    }

    /// One replica finishes, and stays stopped until it is restarted.
    ///
    /// # Errors
    /// There is no such replica, or it leaves.
    pub async fn drain(&self, replica: ReplicaId, actor: Actor) -> Result<(), FleetRefused> {
        self.ask(Change::Drain(replica), actor).await
    }

    async fn ask(&self, change: Change, actor: Actor) -> Result<(), FleetRefused> {
        let (answer, answered) = oneshot::channel();
        let stopping = |_| FleetRefused::Stopping;
        self.commands.send(Command { change, actor, answer }).await.map_err(|_| FleetRefused::Stopping)?;
        answered.await.map_err(stopping)?
    }
}

/// The fleets of all services that have one; its clones are the same.
#[derive(Clone, Default)]
pub struct Fleets(Arc<BTreeMap<ServiceName, FleetHandle>>);

impl Rollouts {
    /// The one that has decided last which version runs: others only started replicas again, or were replaced.
    pub fn decided(&self) -> Option<&EndedRollout> {
        self.ended.iter().rfind(|ended| ended.from != ended.to && ended.outcome != Outcome::Replaced)
    }
}

impl Fleets {
    /// These.
    pub fn new(handles: BTreeMap<ServiceName, FleetHandle>) -> Self {
        Self(Arc::new(handles))
    }

    /// The fleet of a service.
    pub fn of(&self, service: &ServiceName) -> Option<&FleetHandle> {
        self.0.get(service)
    }
}
