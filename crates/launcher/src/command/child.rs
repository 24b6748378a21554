//! The process of the command.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep, timeout_at};

use super::group::Group;
use super::plan::{Listen, Plan};
use crate::Measured;
use crate::confine::{limit_for_good, start_limited};
use crate::program::EnvironmentError;

/// Between tries to connect to a command that has just been started, at first and at most.
const FIRST_TRY: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// What shells add to the number of the signal that ended a process.
const SIGNALLED: u8 = 128;

/// A command that runs. It is killed when this is dropped, and with it what it has started.
pub(super) struct Child {
    process: tokio::process::Child,
    group: Group,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended(pub(super) ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Ended {
    /// What the launcher ends with: the same code, or as shells say by which signal it was.
    pub(super) fn code(self) -> u8 {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, Some(signal)) => SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
            (None, None) => u8::MAX,
        }
    }

    /// The same where it was told to end: what a SIGTERM ends has done what it was told.
    fn code_when_told(self) -> u8 {
        let is_terminated = self.0.signal() == Some(Signal::TERM.as_raw());
        if is_terminated { 0 } else { self.code() }
    }
}

/// A command that can be told that its configuration is another, whoever waits for its end meanwhile.
pub(super) struct Signalled(Option<OwnedFd>);

impl Signalled {
    /// SIGHUP to the command itself, and to nothing that it has started.
    pub(super) fn hang_up(&self) {
        let told = self.0.as_ref().map(|process| pidfd_send_signal(process, Signal::HUP));
        if !matches!(told, Some(Ok(()))) {
            tracing::warn!("the command was not told of its configuration: it has ended");
        }
    }
}

impl Child {
    /// Starts what was measured, in this process's group, with the outputs of this process.
    pub(super) fn start(measured: &Measured, plan: &Plan, group: Group) -> io::Result<Self> {
        let refused = |error: EnvironmentError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let command = measured.command(&plan.arguments, &plan.environment).map_err(refused)?;
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let process = start_limited(&plan.limits, || command.spawn())?;
        let child = Self { process, group };
        if let Some(pid) = child.pid() {
            limit_for_good(&plan.limits, pid)?;
        }
        Ok(child)
    }

    /// Waits until it accepts a connection; whoever started this process says when that is too late.
    pub(super) async fn until_it_accepts(&mut self, listen: &Listen) -> Result<(), Ended> {
        let accepts = async {
            let mut wait = FIRST_TRY;
            while listen.connect().await.is_err() {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        };
        tokio::select! {
            // Somebody else may listen there once it has ended.
            biased;
            ended = self.ended() => Err(ended),
            () = accepts => Ok(()),
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Ended {
        // Only somebody who has reaped it in this process's stead can make this fail, and there is nobody.
        Ended(self.process.wait().await.unwrap_or_default())
    }

    /// SIGTERM, and SIGKILL where not everything has ended by then; gives what this process is to end with.
    pub(super) async fn stop(mut self, deadline: Instant) -> u8 {
        self.terminate();
        let Ok(ended) = timeout_at(deadline, self.ended()).await else {
            tracing::warn!("the command did not end within its grace, and is killed");
            let _ended_meanwhile = self.process.start_kill().is_err();
            return self.ended().await.code();
        };
        if timeout_at(deadline, self.group.emptied()).await.is_err() {
            tracing::warn!("what the command has started did not end within its grace, and is killed");
        }
        ended.code_when_told()
    }

    /// The same process, to be sent signals.
    pub(super) fn signalled(&self) -> Signalled {
        Signalled(self.pid().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn terminate(&self) {
        if let Some(pid) = self.pid() {
            self.group.terminate(pid);
        }
    }

    /// None once it was reaped: its number may be somebody else's then.
    fn pid(&self) -> Option<Pid> {
        self.process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nobody else does where the supervisor is gone.
        self.group.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_a_shell_would() {
        let ended = |raw| Ended(ExitStatus::from_raw(raw));
        assert_eq!([ended(0), ended(3 << 8), ended(9), ended(15)].map(Ended::code), [0, 3, 137, 143]);
        assert_eq!([ended(0), ended(3 << 8), ended(9), ended(15)].map(Ended::code_when_told), [0, 3, 137, 0]);
        assert_eq!(ended(3 << 8).to_string(), "exit status: 3");
    }
}
