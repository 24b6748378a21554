//! Facts about processes, from the kernel.

use std::path::Path;

use rustix::process::{Pid, test_kill_process};

use crate::eventually;

/// Whether a process of this number exists and is not just a zombie that waits to be reaped.
pub fn exists(pid: u32) -> bool {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let answers = number.is_some_and(|number| test_kill_process(number).is_ok());
    answers && !is_zombie(pid)
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the command's name, which is in parentheses and may hold anything.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits until a process is gone.
///
/// # Panics
/// After [`crate::LIMIT`].
pub fn wait_until_gone(pid: u32) {
    eventually(&format!("process {pid} to be gone"), || (!exists(pid)).then_some(()));
}

/// Every process whose working directory lies below a folder, as the replicas' does.
pub fn processes_of(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd"));
        directory.is_ok_and(|directory| directory.starts_with(&folder)) && exists(*pid)
    })
    .collect()
}

/// A line of a process's `/proc/PID/status`, such as `VmRSS` or `VmHWM`, in KiB.
///
/// # Panics
/// When there is no such process or line.
pub fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// Makes the process's peak of memory, `VmHWM`, what it has now.
///
/// # Panics
/// When the kernel refuses.
pub fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("resetting the peak of memory");
}
