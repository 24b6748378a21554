//! What the kernel says of processes: processor time, memory, children. It reads `/proc` and changes affinities and limits.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Which processes make up what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The process and everything that it started, such as nginx's workers.
    Tree,
    /// The process alone: the replicas of ServiceOS are upstreams, and no part of the gateway.
    Root,
}

/// Processor time since a process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

/// Processor time of all threads, also of those that ended.
///
/// The kernel keeps the sum exactly and tells it in steps of 10 ms; how it splits into user and system is sampled at each
/// timer tick, so over 5 s of a busy core the split is good to a few percent.
///
/// # Errors
///
/// The process is gone.
pub(crate) fn cpu_time(pid: u32, scope: Scope) -> anyhow::Result<CpuTime> {
    let mut sum = CpuTime::default();
    for pid in members(pid, scope)? {
        // A child that ended in between is not counted; no peer ends its workers under load.
        let Some(stat) = read_stat(pid) else { continue };
        sum.user += ticks(stat.user_ticks);
        sum.system += ticks(stat.system_ticks);
    }
    Ok(sum)
}

/// Resident memory.
///
/// # Errors
///
/// The process is gone.
pub(crate) fn resident_bytes(pid: u32, scope: Scope) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in members(pid, scope)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kibibytes: u64 = kibibytes.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        sum += kibibytes * 1024;
    }
    Ok(sum)
}

/// How long the proxy's core was busy since the machine began, with whatever.
///
/// # Errors
///
/// `/proc/stat` is not what it should be.
pub(crate) fn core_busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu0 ")).context("/proc/stat has no cpu0")?;
    let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first.
    let busy = fields.iter().take(8).enumerate().filter(|(column, _)| !matches!(column, 3 | 4));
    Ok(ticks(busy.map(|(_, value)| value).sum()))
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

fn members(pid: u32, scope: Scope) -> anyhow::Result<Vec<u32>> {
    read_stat(pid).with_context(|| format!("the process {pid} is gone"))?;
    let mut members = vec![pid];
    if scope == Scope::Tree {
        members.extend(descendants(pid));
    }
    Ok(members)
}

/// Every process that descends from `pid`.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(stat) = read_stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(next) = open.pop() {
        let below = children.remove(&next).unwrap_or_default();
        open.extend(&below);
        found.extend(below);
    }
    found
}

/// What a process was called with, its own name first; nothing where it is gone.
pub(crate) fn words_of(pid: u32) -> Vec<String> {
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split_terminator('\0').map(str::to_owned).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `proc_pid_stat(5)`: fields 4, 14 and 15.
fn parse_stat(text: &str) -> Option<Stat> {
    // The command's name is in parentheses and may hold anything; the field after it is the third.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, user_ticks: field(14)?, system_ticks: field(15)? })
}

/// Keeps this process, and what it starts without saying otherwise, on core 1.
///
/// # Errors
///
/// There is no core 1.
pub(crate) fn pin_self() -> anyhow::Result<()> {
    sched_setaffinity(None, &load_core()).context("two cores are needed")
}

/// Moves another process to core 1.
///
/// # Errors
///
/// The process is gone.
pub(crate) fn pin_to_load_core(pid: u32) -> anyhow::Result<()> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    for thread in threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        sched_setaffinity(Pid::from_raw(thread), &load_core())?;
    }
    Ok(())
}

fn load_core() -> CpuSet {
    let mut cores = CpuSet::new();
    cores.set(1);
    cores
}

/// As many open files as the system lets this process have, for it and for what it starts.
///
/// # Errors
///
/// The kernel refuses.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("failed to raise the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "4711 (a) b (c)) S 42 1 1 0 -1 4194560 1 2 3 4 150 250 7 8 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(text), Some(Stat { parent: 42, user_ticks: 150, system_ticks: 250 }));
        assert_eq!(parse_stat("4711 (a) S"), None);
    }

    #[test]
    fn a_process_counts_as_its_own_tree() {
        let pid = std::process::id();
        assert!(resident_bytes(pid, Scope::Tree).unwrap() >= resident_bytes(pid, Scope::Root).unwrap() / 2);
        assert!(cpu_time(pid, Scope::Root).is_ok());
        assert!(cpu_time(u32::MAX, Scope::Root).is_err());
    }
}
