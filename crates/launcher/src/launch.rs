//! The launcher as a process: it takes one order from whoever started it, and registers what it is about to run with the
//! quoter. A program that links the sdk then takes its place: what was registered is what runs, under the same process number.
//! Beside a command that knows nothing of the mesh it stays.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use mesh_protocol::{
    FrameError, Handover, QuoterError, Report, receive_with_descriptors, register, send_with_descriptors,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use sdk::RunError;
use thiserror::Error;

use crate::confine::enter;
use crate::order::Order;
use crate::program::EnvironmentError;
use crate::{CommandOrder, LaunchOrder, MeasureError, Measured, Measurer, Staying, confine};

/// Why nothing was launched.
#[derive(Debug, Error)]
pub enum LaunchFailure {
    /// Nobody has given an order.
    #[error("a launcher is started by `serviceos up`, which tells it what to run; it cannot run by itself")]
    NoOrder,
    /// The order did not arrive as it should.
    #[error("the order to launch cannot be read: {0}")]
    Order(#[from] FrameError),
    /// The command cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The program's environment is refused.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The quoter does not take the registration, so that no evidence could be had.
    #[error("the development quoter did not register the process: {0}")]
    Register(#[from] QuoterError),
    /// The system refused something.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// The command was not run as a replica.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Takes the order that waits at standard input, and becomes what it says. Returns only where that fails, which is reported to
/// whoever gave the order too. Beside a command it stays to the end of it, and then ends the process as the command ended; see
/// [`launch_or_stay`] for whoever has something to do before that.
///
/// # Errors
/// Why nothing was launched.
pub fn launch() -> Result<Infallible, LaunchFailure> {
    let code = launch_or_stay()?.run()?;
    std::process::exit(i32::from(code))
}

/// Takes the order that waits at standard input. Returns where the launcher is to stay beside a command, which was measured
/// and is registered then, or where it fails, which is reported to whoever gave the order too.
///
/// # Errors
/// Why nothing was launched.
pub fn launch_or_stay() -> Result<Staying, LaunchFailure> {
    let descriptor = io::stdin().as_fd().try_clone_to_owned().map_err(|_| LaunchFailure::NoOrder)?;
    let is_socket = rustix::net::sockopt::socket_domain(&descriptor)
        .is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX);
    if !is_socket {
        return Err(LaunchFailure::NoOrder);
    }
    let mut supervisor = UnixStream::from(descriptor);
    take(&mut supervisor).inspect_err(|failure| {
        let report = Report::Failed(failure.to_string()).encode();
        let _nobody_listens = send_with_descriptors(&mut supervisor, &report, &[]).is_err();
    })
}

fn take(supervisor: &mut UnixStream) -> Result<Staying, LaunchFailure> {
    confine().map_err(|error| LaunchFailure::System("limiting the process", error))?;
    let (payload, descriptors) = receive_with_descriptors(supervisor)?;
    match Order::decode(&payload)? {
        Order::Launch(order) => match become_it(order, descriptors, supervisor)? {},
        Order::Command(order) => stay(order, descriptors, supervisor),
    }
}

fn become_it(
    order: LaunchOrder,
    descriptors: Vec<OwnedFd>,
    supervisor: &UnixStream,
) -> Result<Infallible, LaunchFailure> {
    let [sealed, registration] = exactly(descriptors)?;
    let LaunchOrder { workload, name, arguments, environment, directory } = order;
    let measured = Measured::received(workload, directory, name, sealed)
        .map_err(|error| LaunchFailure::System("taking what was measured", error))?;
    let workload = measured.workload_digest();
    let quoter = registered(registration, workload)?;
    let handover = Handover { supervisor: keep(supervisor)?, quoter: Some(quoter), workload };
    let mut command = measured.command(&arguments, &environment)?;
    Err(LaunchFailure::System("executing what was measured", command.stdin(handover.leave()?).exec()))
}

fn stay(
    order: CommandOrder,
    descriptors: Vec<OwnedFd>,
    supervisor: &UnixStream,
) -> Result<Staying, LaunchFailure> {
    let [registration] = exactly(descriptors)?;
    enter(&order.limits).map_err(|error| LaunchFailure::System("entering the control group", error))?;
    let mut measurer = Measurer::new();
    let program = order.program(measurer.own_digest()?);
    let measured = measurer.measure(&program)?;
    let workload = measured.workload_digest();
    let quoter = registered(registration, workload)?;
    let handover = Handover { supervisor: keep(supervisor)?, quoter: Some(quoter), workload };
    Ok(Staying::new(order, measured, handover))
}

fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], FrameError> {
    descriptors.try_into().map_err(|_| FrameError::Malformed("order"))
}

/// Registers this process with what it runs; gives its evidence socket.
fn registered(registration: OwnedFd, workload: [u8; 32]) -> Result<UnixStream, LaunchFailure> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| LaunchFailure::System("naming this process", errno.into()))?;
    Ok(register(&mut UnixStream::from(registration), process.as_fd(), workload)?)
}

fn keep(supervisor: &UnixStream) -> Result<UnixStream, LaunchFailure> {
    supervisor.try_clone().map_err(|error| LaunchFailure::System("keeping the supervisor", error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_protocol::QuoterAnswer;

    use super::*;
    use crate::Directory;

    fn order(program: &str) -> CommandOrder {
        CommandOrder {
            service: "infer".parse().unwrap(),
            arguments: vec![program.to_owned(), "$SERVICEOS_PORT".to_owned()],
            environment: [("PATH".to_owned(), "/nowhere:/bin".to_owned())].into(),
            directory: Directory { path: "/".into(), hashed: ".".into() },
            protocol: sdk::Protocol::Http1,
            run: "/nowhere".into(),
            grace: Duration::from_secs(10),
            limits: crate::Limits::default(),
        }
    }

    /// What comes of an order, with a quoter that takes one registration and gives what it was told, or with none.
    fn ordered(order: &CommandOrder, has_quoter: bool) -> (Result<Staying, LaunchFailure>, Vec<u8>) {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (registration, mut quoter) = UnixStream::pair().unwrap();
        order.give(&mut near, &registration).unwrap();
        drop(registration);
        let registering = std::thread::spawn(move || {
            if !has_quoter {
                return Vec::new();
            }
            let Ok((told, _process_and_socket)) = receive_with_descriptors(&mut quoter) else {
                return Vec::new();
            };
            let done = QuoterAnswer::Done(Vec::new()).encode();
            send_with_descriptors(&mut quoter, &done, &[]).unwrap();
            told.to_vec()
        });
        let taken = take(&mut far);
        (taken, registering.join().unwrap())
    }

    #[test]
    fn a_command_is_registered_as_what_was_measured_and_not_started_yet() {
        let (staying, told) = ordered(&order("cat"), true);
        let mut measurer = Measurer::new();
        let program = order("cat").program(measurer.own_digest().unwrap());
        let workload = measurer.measure(&program).unwrap().workload_digest();
        assert_eq!(staying.unwrap().workload(), workload);
        assert!(told.ends_with(&workload));
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_where_it_was_looked_for() {
        let (failure, told) = ordered(&order("nobody-has-this"), true);
        expect_test::expect![[r#""nobody-has-this" was not found (searched in /nowhere:/bin, the PATH of its environment; one in the working directory is written ./nobody-has-this): build or install it, or correct its path"#]]
            .assert_eq(&failure.err().unwrap().to_string());
        assert!(told.is_empty(), "nothing is registered");
    }

    #[test]
    fn without_a_quoter_nothing_is_launched() {
        let (failure, _) = ordered(&order("cat"), false);
        assert!(matches!(failure, Err(LaunchFailure::Register(QuoterError::Gone))));
    }

    #[test]
    fn an_order_without_its_descriptors_is_none() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        send_with_descriptors(&mut near, br#"{"command":{}}"#, &[]).unwrap();
        assert!(matches!(take(&mut far), Err(LaunchFailure::Order(FrameError::Malformed("order")))));
        drop(near);
        assert!(matches!(take(&mut far), Err(LaunchFailure::Order(FrameError::Closed))));
    }
}
