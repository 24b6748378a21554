//! The launcher as a process: it takes one order from whoever started it, registers what it is about to run with the quoter,
//! and lets the program take its place. What was registered is what runs, under the same process number.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use mesh_protocol::{
    FrameError, Handover, QuoterError, Report, Workload, receive_with_descriptors, register,
    send_with_descriptors,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::program::EnvironmentError;
use crate::{Measured, confine};

/// What a launcher is told to run. Whoever gives the order has measured the program, so that the replicas of a service share
/// one copy of it; the launcher takes a copy only if it is sealed, and registers the workload that it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchOrder {
    /// What was measured.
    pub workload: Workload,
    /// What the program is called in its own arguments.
    pub name: String,
    /// Its arguments, expanded, without its name.
    pub arguments: Vec<String>,
    /// Its environment, expanded.
    pub environment: BTreeMap<String, String>,
    /// Where it works.
    pub directory: PathBuf,
}

/// Why nothing was launched.
#[derive(Debug, Error)]
pub enum LaunchFailure {
    /// Nobody has given an order.
    #[error("a launcher is started by `serviceos up`, which tells it what to run; it cannot run by itself")]
    NoOrder,
    /// The order did not arrive as it should.
    #[error("the order to launch cannot be read: {0}")]
    Order(#[from] FrameError),
    /// The program's environment is refused.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The quoter does not take the registration, so that no evidence could be had.
    #[error("the development quoter did not register the process: {0}")]
    Register(#[from] QuoterError),
    /// The system refused something.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl LaunchOrder {
    /// Gives the order over a socket, with what it speaks of.
    ///
    /// # Errors
    /// The program is a script, or the socket fails.
    pub fn give(
        &self,
        to: &mut UnixStream,
        measured: &Measured,
        registration: &UnixStream,
    ) -> Result<(), FrameError> {
        let sealed = measured.sealed().ok_or(FrameError::Malformed("order"))?;
        let order = serde_json::to_vec(self).expect("an order has no map with keys that JSON cannot write");
        send_with_descriptors(to, &order, &[sealed, registration.as_fd()])
    }
}

/// Takes the order that waits at standard input, and becomes what it says. Returns only where that fails, which is reported to
/// whoever gave the order too.
///
/// # Errors
/// Why nothing was launched.
pub fn launch() -> Result<Infallible, LaunchFailure> {
    let descriptor = io::stdin().as_fd().try_clone_to_owned().map_err(|_| LaunchFailure::NoOrder)?;
    let is_socket = rustix::net::sockopt::socket_domain(&descriptor)
        .is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX);
    if !is_socket {
        return Err(LaunchFailure::NoOrder);
    }
    let mut supervisor = UnixStream::from(descriptor);
    let failure = match become_it(&mut supervisor) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let report = Report::Failed(failure.to_string()).encode();
    let _nobody_listens = send_with_descriptors(&mut supervisor, &report, &[]).is_err();
    Err(failure)
}

fn become_it(supervisor: &mut UnixStream) -> Result<Infallible, LaunchFailure> {
    confine().map_err(|error| LaunchFailure::System("limiting the process", error))?;
    let (payload, descriptors) = receive_with_descriptors(supervisor)?;
    let malformed = || LaunchFailure::Order(FrameError::Malformed("order"));
    let order: LaunchOrder = serde_json::from_slice(&payload).map_err(|_| malformed())?;
    let [sealed, registration]: [OwnedFd; 2] = descriptors.try_into().map_err(|_| malformed())?;
    let LaunchOrder { workload, name, arguments, environment, directory } = order;
    let measured = Measured::received(workload, directory, name, sealed)
        .map_err(|error| LaunchFailure::System("taking what was measured", error))?;
    let process = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| LaunchFailure::System("naming this process", errno.into()))?;
    let workload = measured.workload_digest();
    let quoter = register(&mut UnixStream::from(registration), process.as_fd(), workload)?;
    let supervisor =
        supervisor.try_clone().map_err(|error| LaunchFailure::System("keeping the supervisor", error))?;
    let standard_input = Handover { supervisor, quoter: Some(quoter), workload }.leave()?;
    let mut command = measured.command(&arguments, &environment)?;
    Err(LaunchFailure::System("executing what was measured", command.stdin(standard_input).exec()))
}
