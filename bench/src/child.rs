//! A program that was started, and that ends with its value: no way out of the runner leaves one behind.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Where a program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// On the core of what is measured.
    Proxy,
    /// On the core of everything else.
    Load,
    /// On all.
    Both,
}

/// A running program, leader of its own process group.
#[derive(Debug)]
pub(crate) struct Child {
    inner: std::process::Child,
}

impl Child {
    /// Starts `program`; what it writes goes to `stdout` and `stderr` in `folder`.
    ///
    /// # Errors
    ///
    /// The program or `taskset` cannot be started, or a file cannot be made.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        cores: Cores,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        let list = match cores {
            Cores::Proxy => "0",
            Cores::Load => "1",
            Cores::Both => "0,1",
        };
        // `taskset` becomes the program, so the number of the process is the program's.
        command.args(["--cpu-list", list]).arg(program).args(arguments);
        let inner = command
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("stdout"))?)
            .stderr(File::create(folder.join("stderr"))?)
            .spawn()
            .with_context(|| format!("failed to start {} with taskset", program.display()))?;
        Ok(Self { inner })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.inner.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.inner.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It fails only when the group is gone, which is what is wanted.
            let _gone = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.ended().is_none() && asked.elapsed() < GRACE {
            std::thread::sleep(POLL);
        }
        // Also where the leader is gone: its group may have others.
        self.signal(Signal::KILL);
        let _status = self.inner.wait();
    }
}
