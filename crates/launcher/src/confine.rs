//! What this process, and everything that it executes, may not do.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::Limits;

/// How many open files a program of anybody's may have unless it asks for more. The kernel begins with as many, and programs
/// count on it: select(2) knows no descriptor beyond, and some close every one that there could be when they start.
const ORDINARY_DESCRIPTORS: u64 = 1024;

/// What this process may need of memory while it starts something, in bytes.
const OWN_ROOM: u64 = 16 << 20;
/// Where a control group says who is in it. A zero stands for whoever writes it (cgroups(7)).
const MEMBERS: &str = "cgroup.procs";

/// The limits are the process's, and are others while something is started.
static LIMITED: Mutex<()> = Mutex::new(());

/// Forbids core dumps for this process and whatever it executes or starts, for good: they would hold its secrets. Gives
/// back the huge pages that `serviceos up` refuses for itself, since a program may well gain by them.
pub fn confine() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A kernel that cannot be told has none.
    let _has_none = rustix::thread::disable_transparent_huge_pages(false);
    Ok(())
}

/// Goes into the control group, if there is one, with whatever is executed or started from here on.
pub(crate) fn enter(limits: &Limits) -> io::Result<()> {
    limits.group.as_ref().map_or(Ok(()), |group| std::fs::write(group.join(MEMBERS), "0"))
}

/// Starts a program that inherits these limits. Where no number of open files is wanted it is an ordinary one: `serviceos up`
/// raises its own as far as it may, which the launcher, with its connections, and every service that is built in keep.
///
/// # Errors
/// Those of the start, and a limit that is beyond what this process may have itself.
pub(crate) fn start_limited<T>(limits: &Limits, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _alone = LIMITED.lock().unwrap_or_else(PoisonError::into_inner);
    let (files, data) = (getrlimit(Resource::Nofile), getrlimit(Resource::Data));
    let current = match limits.open_files.map(u64::from) {
        None => files.current.map_or(ORDINARY_DESCRIPTORS, |soft| soft.min(ORDINARY_DESCRIPTORS)),
        Some(wanted) => match files.maximum {
            Some(most) if wanted > most => {
                return Err(io::Error::other(format!(
                    "`openFiles` of {wanted} is more than the {most} that serviceos itself may have; raise its limit, or ask for less"
                )));
            }
            _ => wanted,
        },
    };
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: files.maximum })?;
    // A process that has more than this already could not even start another one.
    let own = own_data_bytes().unwrap_or(u64::MAX).saturating_add(OWN_ROOM);
    if let Some(bytes) = limits.data_bytes.filter(|bytes| own <= *bytes) {
        let _set_for_good_later = setrlimit(Resource::Data, Rlimit { current: Some(bytes), ..data });
    }
    let started = start();
    setrlimit(Resource::Data, data)?;
    setrlimit(Resource::Nofile, files)?;
    started
}

/// Takes from a process that was just started what would let it raise its limits again.
pub(crate) fn limit_for_good(limits: &Limits, process: Pid) -> io::Result<()> {
    let wanted = [(Resource::Data, limits.data_bytes), (Resource::Nofile, limits.open_files.map(u64::from))];
    for (resource, most) in wanted {
        let Some(most) = most else { continue };
        match prlimit(Some(process), resource, Rlimit { current: Some(most), maximum: Some(most) }) {
            // It has ended already.
            Ok(_) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The private memory of this process, as proc(5) tells it.
fn own_data_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command
    }

    fn text(limit: Option<u64>) -> String {
        limit.map_or("unlimited".to_owned(), |limit| limit.to_string())
    }

    #[test]
    fn what_is_started_may_have_as_many_files_as_programs_count_on_and_can_ask_for_more() {
        let before = getrlimit(Resource::Nofile);
        let told = start_limited(&Limits::default(), || shell("ulimit -Sn; ulimit -Hn").output());
        let told = String::from_utf8(told.unwrap().stdout).unwrap();
        let soft = before.current.map_or(1024, |soft| soft.min(1024));
        assert_eq!(told, format!("{soft}\n{}\n", text(before.maximum)));
        assert_eq!(text(getrlimit(Resource::Nofile).current), text(before.current));
        assert!(start_limited(&Limits::default(), || Err::<(), _>(io::Error::other("x"))).is_err());
        assert_eq!(text(getrlimit(Resource::Nofile).current), text(before.current));
    }

    #[test]
    fn what_is_started_with_limits_has_them_and_cannot_raise_them() {
        let before = getrlimit(Resource::Data);
        let limits = Limits { group: None, data_bytes: Some(4 << 30), open_files: Some(100) };
        let script = "ulimit -Sn; ulimit -Sd; read go; ulimit -Hn; ulimit -Hd";
        let mut child = start_limited(&limits, || shell(script).spawn()).unwrap();
        limit_for_good(&limits, Pid::from_child(&child)).unwrap();
        // Closing its input lets it go on.
        drop(child.stdin.take());
        let told = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(told, "100\n4194304\n100\n4194304\n");
        assert_eq!(text(getrlimit(Resource::Data).current), text(before.current));
    }

    #[test]
    fn a_limit_beyond_what_this_process_may_have_is_refused() {
        let Some(most) = getrlimit(Resource::Nofile).maximum.and_then(|most| u32::try_from(most).ok()) else {
            return;
        };
        let limits = Limits { open_files: Some(most + 1), ..Limits::default() };
        let refused = start_limited(&limits, || Ok(())).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("more than the {most} that serviceos itself may have")),
            "{refused}"
        );
    }

    #[test]
    fn a_group_that_is_not_there_is_not_entered() {
        let missing = Limits { group: Some("/nowhere/at/all".into()), ..Limits::default() };
        assert_eq!(enter(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(enter(&Limits::default()).is_ok());
    }
}
