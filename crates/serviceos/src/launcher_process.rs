//! The process that every replica begins as: this same binary, in a process group of its own, with one inherited descriptor.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use mesh_protocol::{Assignment, FrameError, Report, read_frame, write_frame};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::hold::Hold;

/// The running binary, even when the file was replaced or removed meanwhile.
pub(crate) const THIS_BINARY: &str = "/proc/self/exe";

/// A launcher, and whatever it becomes. Dropping it kills it and everything that it started, unless it is held loosely.
pub(crate) struct LauncherProcess {
    leader: Leader,
    /// Readable once the process has ended, while its number is still its own.
    ended: AsyncFd<OwnedFd>,
    /// The other end of its one descriptor. Its being closed tells the replica that nobody looks after it.
    leash: UnixStream,
}

/// The process, and the group that it leads.
struct Leader {
    child: Child,
    group: Pid,
    /// Its number may be somebody else's by now, and is signalled no more.
    reaped: bool,
    hold: Hold,
}

impl LauncherProcess {
    /// Starts one that works in a folder; `give` tells it what to launch.
    pub(crate) async fn start(
        folder: &Path,
        (stdout, stderr): (Stdio, Stdio),
        hold: Hold,
        give: impl FnOnce(&mut StdUnixStream) -> Result<(), FrameError> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (mut ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(THIS_BINARY);
        command
            .arg0("serviceos")
            .arg("launch")
            .env_clear()
            .current_dir(folder)
            // A descriptor can be handed over in the place of standard input without code between fork and exec.
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let child = command.spawn()?;
        // It holds the other end until it is dropped, and whoever reads here would never see it end.
        drop(command);
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let group = pid.context("the process has no number")?;
        let leader = Leader { child, group, reaped: false, hold };
        let ended = watch_end(group)?;
        // What does not fit into the socket waits for the launcher to read it, or to end.
        let ours = tokio::task::spawn_blocking(move || give(&mut ours).map(|()| ours)).await??;
        ours.set_nonblocking(true)?;
        Ok(Self { leader, ended, leash: UnixStream::from_std(ours)? })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.leader.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Tells it what it is, and waits for what it reports.
    pub(crate) async fn assign(&mut self, assignment: &Assignment) -> Result<Report, FrameError> {
        write_frame(&mut self.leash, &assignment.encode()).await?;
        Report::decode(&read_frame(&mut self.leash).await?)
    }

    /// Waits until it has ended, and leaves nothing of its group.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let _ended_or_unwatchable = self.ended.readable().await.is_ok();
        // What the replica started itself must not outlive it; and only now, before it is reaped, is its number surely its own.
        self.kill();
        let status = self.leader.child.wait().await;
        self.leader.reaped = true;
        status
    }

    /// Tells it to finish. A launcher that stays beside a command ends that itself, after the requests that it has.
    pub(crate) fn terminate(&self) {
        if !self.leader.reaped {
            let _gone_already = kill_process(self.leader.group, Signal::TERM).is_err();
        }
    }

    /// Ends it with everything that it started.
    pub(crate) fn kill(&self) {
        self.leader.kill();
    }
}

impl Leader {
    fn kill(&self) {
        if !self.reaped {
            // The only way to fail is that nobody is left in the group, which is what a signal is for.
            let _gone_already = kill_process_group(self.group, Signal::KILL).is_err();
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.hold.is_loose() {
            self.kill();
        }
    }
}

/// A descriptor of the process that becomes readable when it ends.
fn watch_end(process: Pid) -> std::io::Result<AsyncFd<OwnedFd>> {
    let descriptor = pidfd_open(process, PidfdFlags::empty())?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
    )]
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
