//! A process that an earlier `serviceos up` has started and left: it is found again by its number and its start, held by a
//! descriptor, and signalled with everything that it has started. Nobody here is its parent, so how it ended is not known.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal, test_kill_process_group,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where the start of a process stands in its `stat`, and its process group, counted after the name, which is the second field.
const START_TIME: usize = 22 - 3;
const GROUP: usize = 5 - 3;

/// By what a process is known again: its number may be another's after it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessMark {
    /// Its number, and that of the process group that it leads.
    pub(crate) pid: u32,
    /// When it was started, in the kernel's ticks since the machine was.
    start_time: u64,
    /// Which start of the machine that was.
    boot_id: String,
}

impl ProcessMark {
    /// That of a process that has not been reaped.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let start_time = start_time(pid).with_context(|| format!("the process {pid} is gone"))?;
        Ok(Self { pid, start_time, boot_id: boot_id()? })
    }

    /// Whether a process of this number is this one, also when it has ended and nobody has asked how yet.
    fn is_there(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
            && boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }

    /// Whether nobody can say whose the number is: `/proc` hides the processes of this user that let nobody read their memory
    /// (`hidepid=`, `ProtectProc=`), which replicas do.
    fn is_hidden(&self) -> bool {
        start_time(self.pid).is_none() && boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }
}

/// What has become of a process that was left.
pub(crate) enum Found {
    /// It runs.
    Running(LeftProcess),
    /// It has ended.
    Ended,
    /// One of its number runs, and whether it is this one cannot be seen.
    Hidden,
}

/// A process that was left, and that is not left alone any more.
pub(crate) struct LeftProcess {
    mark: ProcessMark,
    group: Pid,
    process: AsyncFd<OwnedFd>,
    /// It has ended, and nothing of its group is left.
    is_over: bool,
}

impl LeftProcess {
    /// Finds it. Within a runtime.
    pub(crate) fn find(mark: &ProcessMark) -> Found {
        let Some(group) = i32::try_from(mark.pid).ok().and_then(Pid::from_raw) else { return Found::Ended };
        let Ok(descriptor) = pidfd_open(group, PidfdFlags::empty()) else { return Found::Ended };
        // Only now, since the descriptor is that of whoever has the number.
        let is_there = mark.is_there();
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        let has_ended = poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ended| ended > 0);
        match (is_there, has_ended) {
            (true, false) => Self::held(mark, group, descriptor).map_or(Found::Ended, Found::Running),
            (true, true) => {
                end_group(mark, group);
                Found::Ended
            }
            (false, false) if mark.is_hidden() => Found::Hidden,
            (false, _) => Found::Ended,
        }
    }

    fn held(mark: &ProcessMark, group: Pid, descriptor: OwnedFd) -> Option<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
        )]
        let process = AsyncFd::with_interest(descriptor, Interest::READABLE).ok()?;
        Some(Self { mark: mark.clone(), group, process, is_over: false })
    }

    /// Waits until it has ended, and leaves nothing of its group.
    pub(crate) async fn ended(&mut self) {
        let _ended_or_unwatchable = self.process.readable().await.is_ok();
        self.kill();
        self.is_over = true;
    }

    /// Tells it to finish.
    pub(crate) fn terminate(&self) {
        let _ended_meanwhile = pidfd_send_signal(self.process.get_ref(), Signal::TERM).is_err();
    }

    /// Ends it with everything that it started.
    pub(crate) fn kill(&self) {
        if !self.is_over {
            end_group(&self.mark, self.group);
        }
    }
}

/// SIGKILL to everybody of a group. As long as one of them is left the kernel gives its number to no other process, so whoever has
/// the number and is not its leader is of another time, and so is the group then.
fn end_group(mark: &ProcessMark, group: Pid) {
    if start_time(mark.pid).is_none() || mark.is_there() {
        let _nobody_left = kill_process_group(group, Signal::KILL).is_err();
    }
}

/// Ends what a process has left in its group that has ended itself while nobody looked after it. The number of the group alone says
/// too little by then: those are meant that write into its output.
pub(crate) fn end_strays(mark: &ProcessMark, output: &Path) {
    let group = i32::try_from(mark.pid).ok().and_then(Pid::from_raw);
    let is_empty = group.is_none_or(|group| test_kill_process_group(group).is_err());
    let (Ok(output), Ok(boot_id)) = (output.canonicalize(), boot_id()) else { return };
    if is_empty || boot_id != mark.boot_id || start_time(mark.pid).is_some() {
        return;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    let writes_there = |pid: u32| {
        [1, 2].iter().any(|number| {
            std::fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|written| written == output)
        })
    };
    let is_stray = |pid: u32| stat(pid, GROUP) == Some(u64::from(mark.pid)) && writes_there(pid);
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| is_stray(pid)) else {
            continue;
        };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        // Its number may have been another's a moment ago.
        if is_stray(pid) {
            tracing::info!(pid, "a process of a replica that has ended is killed");
            let _ended_meanwhile = pidfd_send_signal(process, Signal::KILL).is_err();
        }
    }
}

fn start_time(pid: u32) -> Option<u64> {
    stat(pid, START_TIME)
}

/// A field of a process's `stat` (proc(5)), counted after the name.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything.
    let (_number_and_name, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field)?.parse().ok()
}

fn boot_id() -> Result<String> {
    let id = std::fs::read_to_string(BOOT_ID).with_context(|| format!("failed to read {BOOT_ID}"))?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn running(mark: &ProcessMark) -> Option<LeftProcess> {
        match LeftProcess::find(mark) {
            Found::Running(process) => Some(process),
            Found::Ended => None,
            Found::Hidden => panic!("nothing hides it"),
        }
    }

    fn sleeps() -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null()).process_group(0).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_process_is_found_again_until_it_has_ended() {
        let mut child = sleeps();
        let mark = ProcessMark::of(child.id()).unwrap();
        let mut left = running(&mark).expect("it runs");
        assert_eq!(mark.pid, child.id());
        left.terminate();
        left.ended().await;
        assert!(running(&mark).is_none(), "nobody has asked how it ended, and it has");
        child.wait().unwrap();
        assert!(running(&mark).is_none());
    }

    #[tokio::test]
    async fn another_process_of_the_number_or_of_another_start_of_the_machine_is_not_it() {
        let mut child = sleeps();
        let mark = ProcessMark::of(child.id()).unwrap();
        let earlier = ProcessMark { start_time: mark.start_time - 1, ..mark.clone() };
        let other_boot = ProcessMark { boot_id: "another".into(), ..mark.clone() };
        for other in [&earlier, &other_boot] {
            assert!(running(other).is_none());
            end_group(other, Pid::from_child(&child));
        }
        assert!(child.try_wait().unwrap().is_none(), "nobody has signalled it");
        running(&mark).unwrap().kill();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn what_it_has_started_ends_with_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let beside = ProcessMark::of(line.trim().parse().unwrap()).unwrap();
        let mut left = running(&ProcessMark::of(child.id()).unwrap()).unwrap();
        let mut beside = running(&beside).unwrap();
        rustix::process::kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        left.ended().await;
        beside.ended().await;
        child.wait().unwrap();
    }
}
