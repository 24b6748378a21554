//! What the processes of replicas use, as the kernel says it: each replica is a process group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

/// What a process group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Processors that it kept busy since the look before; none at the first one.
    pub(super) processors: Option<f64>,
    /// Memory that is not swapped out, in bytes; what processes share counts for each process.
    pub(super) memory: u64,
}

/// How the kernel counts the time of a process, whatever its own clock does (proc_pid_stat(5), USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Processes {
    before: Option<(Instant, BTreeMap<u32, Group>)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Group {
    ticks: u64,
    memory: u64,
}

impl Processes {
    /// What each of these process groups uses now, where there is one on this machine.
    pub(super) fn look(&mut self, now: Instant, wanted: &BTreeSet<u32>) -> BTreeMap<u32, Usage> {
        let groups = groups(wanted);
        let usage = |(id, group): (&u32, &Group)| {
            let before = self.before.as_ref().and_then(|(then, groups)| Some((then, groups.get(id)?)));
            let processors = before.and_then(|(then, before)| {
                let seconds = now.duration_since(*then).as_secs_f64();
                let ticks = group.ticks.saturating_sub(before.ticks) as f64;
                (seconds > 0.0).then(|| ticks / TICKS_PER_SECOND / seconds)
            });
            (*id, Usage { processors, memory: group.memory })
        };
        let used = groups.iter().map(usage).collect();
        self.before = Some((now, groups));
        used
    }
}

/// These process groups. A process that ends meanwhile is not there.
fn groups(wanted: &BTreeSet<u32>) -> BTreeMap<u32, Group> {
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return groups };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !name.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if let Some((id, ticks)) = times(&read("stat")).filter(|(id, _)| wanted.contains(id)) {
            let group = groups.entry(id).or_default();
            group.ticks += ticks;
            group.memory += resident(&read("status")).unwrap_or_default();
        }
    }
    groups
}

/// The process group, and the time in user and kernel mode (proc_pid_stat(5)). The name before them may hold anything but ends with
/// the last parenthesis.
fn times(stat: &str) -> Option<(u32, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some((fields.get(2)?.parse().ok()?, number(11)? + number(12)?))
}

/// The resident memory, in bytes (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_process_stand_behind_its_name_whatever_that_is() {
        let stat =
            "4711 (a) b (c)) S 1 4700 4700 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 100 10000000 250 1844";
        assert_eq!(times(stat), Some((4700, 42)));
        assert_eq!((times(""), times("1 (a) S 1")), (None, None));
        assert_eq!(resident("Name: a\nVmRSS:\t   12 kB\n"), Some(12 << 10));
        assert_eq!(resident("Name: a\n"), None, "a process of the kernel has none");
    }

    #[test]
    fn this_very_process_uses_something() {
        let own = times(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap().0;
        assert!(Processes::default().look(Instant::now(), &[own].into())[&own].memory > 1 << 20);
    }
}
