//! The seam between a replica's driver and its process.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;

use service_registry::Channel;
use types::ReplicaId;

/// Starts processes for replicas.
pub trait Launch: Send + Sync + 'static {
    /// What it starts.
    type Process: Process;

    /// Starts the process of a replica. When this fails, nothing runs.
    fn launch(&self, replica: &ReplicaId) -> impl Future<Output = Result<Self::Process, LaunchError>> + Send;
}

/// A process that was started. Dropping it kills it and everything that it started.
pub trait Process: Send + 'static {
    /// Its number.
    fn pid(&self) -> u32;

    /// Hands over what the replica needs and waits until it listens; asked once. One that has to join the mesh has done so by
    /// then, and its attestation is written.
    fn listening(&mut self) -> impl Future<Output = Result<Listening, LaunchError>> + Send;

    /// Waits until the process has ended and nothing of its group is left. Can be asked again.
    fn exited(&mut self) -> impl Future<Output = Exit> + Send;

    /// Sends a signal to its whole process group.
    fn signal(&self, signal: Signal);
}

/// Where a process listens, and how it is reached.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// In the clear, or as the peer that it has become by joining.
    pub channel: Channel,
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
pub struct Exit {
    /// The exit code, where it exited.
    pub code: Option<i32>,
    /// The signal, where one killed it.
    pub signal: Option<i32>,
    /// The last lines that it wrote.
    pub last_lines: Vec<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(formatter, "exited with code {code}")?,
            (None, Some(signal)) => write!(formatter, "killed by signal {signal}")?,
            (None, None) => formatter.write_str("ended, nobody knows how")?,
        }
        match self.last_lines.last() {
            Some(line) => write!(formatter, "; its last words: {line}"),
            None => Ok(()),
        }
    }
}
