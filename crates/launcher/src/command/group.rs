//! The process group of a replica: the launcher, the command, and what the command has started itself.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgrp, getpid, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const PROCESSES: &str = "/proc";
/// How often it is looked for processes to be killed. The second time finds what was started during the first.
const MAX_ROUNDS: usize = 16;

/// The group that a command runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// The replica's alone, which this process leads.
    Own(Pid),
    /// One that others are in too.
    Shared,
}

impl Group {
    /// The group of this process: its own, as whoever supervises it has started it.
    pub(super) fn of_this_process() -> Self {
        let group = getpgrp();
        if group == getpid() { Self::Own(group) } else { Self::Shared }
    }

    /// SIGTERM to the command and to what it has started. This process, which listens for it, gets another one, and has
    /// been told by then.
    pub(super) fn terminate(self, command: Pid) {
        let is_in_it = matches!(self, Self::Own(group) if group_of(command) == Some(group));
        if let Self::Own(group) = self {
            let _this_process_is_in_it = kill_process_group(group, Signal::TERM).is_err();
        }
        // A second one would be taken for impatience by many.
        if !is_in_it {
            let _ended_meanwhile = kill_process(command, Signal::TERM).is_err();
        }
    }

    /// Waits until nobody but this process is left.
    pub(super) async fn emptied(self) {
        loop {
            let others = self.others();
            if others.is_empty() {
                return;
            }
            for (_, process) in others {
                if let Ok(process) = ending(process) {
                    let _ended_or_unwatchable = process.readable().await.is_ok();
                }
            }
        }
    }

    /// Kills everybody but this process.
    pub(super) fn end(self) {
        let mut killed = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let mut is_complete = true;
            for (number, process) in self.others() {
                // From here on it starts nobody any more.
                let _ended_meanwhile = pidfd_send_signal(process, Signal::KILL).is_err();
                is_complete &= !killed.insert(number.as_raw_nonzero());
            }
            if is_complete {
                return;
            }
        }
    }

    /// Those that have not ended.
    fn others(self) -> Vec<(Pid, OwnedFd)> {
        let (Self::Own(group), Ok(processes)) = (self, std::fs::read_dir(PROCESSES)) else {
            return Vec::new();
        };
        let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_in_it = |number: &Pid| *number != group && group_of(*number) == Some(group);
        let members = numbers.filter_map(Pid::from_raw).filter(is_in_it).filter_map(|number| {
            let process = pidfd_open(number, PidfdFlags::NONBLOCK).ok()?;
            // Its number may have been another's a moment ago.
            (is_in_it(&number) && !has_ended(&process)).then_some((number, process))
        });
        members.collect()
    }
}

/// The group of a process, as proc(5) tells it. `getpgid` of rustix knows no processes of the kernel, which are in none.
fn group_of(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("{PROCESSES}/{process}/stat")).ok()?;
    // The name before may hold anything.
    let (_number_and_name, rest) = stat.rsplit_once(')')?;
    let group = rest.split_whitespace().nth(2)?.parse().ok()?;
    Pid::from_raw(group)
}

fn has_ended(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A descriptor of a process that becomes readable when it ends.
fn ending(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
    )]
    AsyncFd::with_interest(process, Interest::READABLE)
}
