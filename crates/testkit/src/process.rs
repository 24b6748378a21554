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
