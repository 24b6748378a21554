//! The seam between a replica's driver and its process.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use service_registry::{Channel, LastExit, Registration, Version};
use types::ReplicaId;

/// Starts processes for replicas.
pub trait Launch: Send + Sync + 'static {
    /// What it starts.
    type Process: Process;

    /// Whether a process that has ended is started again here, ever less often.
    const STARTS_AGAIN: bool = true;

    /// Waits until a life of the replica may begin: at once, unless somebody else starts it.
    fn may_begin(&self, _replica: &ReplicaId) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Takes over a process of the replica that was there before this one was, if there is one to be taken over. Asked once, before
    /// the first life, and to its end; when it gives nothing, nothing runs. It must not take long, and from when `at_once` is over
    /// it waits for nothing any more that a kill makes needless.
    fn left(
        &self,
        _replica: &ReplicaId,
        _at_once: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = Option<Left<Self::Process>>> + Send {
        std::future::ready(None)
    }

    /// The replica is gone for good: whatever is kept of it can go.
    fn forget(&self, _replica: &ReplicaId) {}

    /// Starts the process of a replica, of this version of its service. When this fails, nothing runs.
    fn launch(
        &self,
        replica: &ReplicaId,
        version: &Version,
    ) -> impl Future<Output = Result<Self::Process, LaunchError>> + Send;
}

/// A process that somebody else has left.
#[derive(Debug)]
pub struct Left<P> {
    /// It.
    pub process: P,
    /// How often its replica was started again by then.
    pub restarts: u32,
}

/// A process that was started. Dropping it kills it and everything that it started.
pub trait Process: Send + 'static {
    /// Its number; `None` where somebody else started it.
    fn pid(&self) -> Option<u32>;

    /// Waits until the process itself asks to be drained. Whoever waits for this waits for nothing else that the process does.
    fn leaves(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Hands over what the replica needs and waits until it listens; asked once. One that has to join the mesh has done so by
    /// then, and its attestation is written.
    fn listening(&mut self) -> impl Future<Output = Result<Listening, LaunchError>> + Send;

    /// Waits until the process has ended and nothing of its group is left. Can be asked again.
    fn exited(&mut self) -> impl Future<Output = Exit> + Send;

    /// Asks it to end, or ends it with everything that it started.
    fn signal(&self, signal: Signal, cause: &Cause);
}

/// Why a process is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody wants it so.
    Wanted(String),
    /// It cannot serve.
    Failed(String),
}

impl Cause {
    /// As the operator is told.
    pub fn reason(&self) -> &str {
        match self {
            Self::Wanted(reason) | Self::Failed(reason) => reason,
        }
    }
}

/// Where a process listens, and how it is reached.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// In the clear, or as the peer that it has become by joining.
    pub channel: Channel,
    /// What it has registered itself with, where somebody else has started it.
    pub registration: Option<Arc<Registration>>,
}

/// Why a replica could not be started: a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError(pub String);

impl fmt::Display for LaunchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How hard a process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: finish.
    Terminate,
    /// SIGKILL: end.
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// As the system tells those that have started it.
    Ended {
        /// The exit code, where it exited.
        code: Option<i32>,
        /// The signal, where one killed it.
        signal: Option<i32>,
        /// The last lines that it wrote.
        last_lines: Vec<String>,
    },
    /// An earlier `up` started it, and only that would have been told how it ended.
    Adopted {
        /// The last lines that it wrote.
        last_lines: Vec<String>,
    },
    /// Somebody else started it, and it is not heard of any more, as this says.
    Gone(String),
}

impl Exit {
    /// What is shown of it later.
    pub(crate) fn last(&self) -> LastExit {
        let reason = self.to_string();
        match self {
            Self::Ended { code, signal, last_lines } => {
                LastExit { reason, code: *code, signal: *signal, last_lines: last_lines.clone() }
            }
            Self::Adopted { last_lines } => {
                LastExit { reason, last_lines: last_lines.clone(), ..LastExit::default() }
            }
            Self::Gone(_) => LastExit { reason, ..LastExit::default() },
        }
    }

    /// Whether it tells no reason: the process ended as if all were well.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Ended { code: Some(0), .. })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_lines = match self {
            Self::Ended { code, signal, last_lines } => {
                match (code, signal) {
                    (Some(code), _) => write!(formatter, "exited with code {code}")?,
                    (None, Some(signal)) => write!(formatter, "killed by signal {signal}")?,
                    (None, None) => formatter.write_str("ended, nobody knows how")?,
                }
                last_lines
            }
            Self::Adopted { last_lines } => {
                formatter.write_str("unknown (adopted)")?;
                last_lines
            }
            Self::Gone(how) => return formatter.write_str(how),
        };
        match last_lines.last() {
            Some(line) => write!(formatter, "; its last words: {line}"),
            None => Ok(()),
        }
    }
}
