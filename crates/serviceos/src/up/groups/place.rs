//! Where the control group of this process is seen in the file system.

use std::io;
use std::path::{Path, PathBuf};

/// The folder of this process's group; none where version 2 is not mounted, or the group lies outside of what is.
pub(super) fn own() -> io::Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(find(&mounts, &groups))
}

/// The same from `mountinfo` (proc(5)) and from the line of `cgroup` whose hierarchy is 0.
fn find(mounts: &str, groups: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        if !kind.starts_with("cgroup2 ") || point.contains('\\') {
            return None;
        }
        let below = Path::new(group).strip_prefix(root).ok()?;
        let is_inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        is_inside.then(|| Path::new(point).join(below).components().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 30 0:23 / /proc rw - proc proc rw\n35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_group_is_found_beneath_where_version_2_is_mounted() {
        let found = |mounts: &str, groups: &str| find(mounts, groups).map(|path| path.display().to_string());
        let unit = "0::/system.slice/serviceos.service\n";
        let place = "/sys/fs/cgroup/system.slice/serviceos.service";
        assert_eq!(found(UNIFIED, unit).as_deref(), Some(place));
        let hybrid = "1 2 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n1 2 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(hybrid, "4:memory:/x\n0::/\n").as_deref(), Some("/sys/fs/cgroup/unified"));
        let container = UNIFIED.replace("0:30 / ", "0:30 /docker/a ");
        assert_eq!(found(&container, "0::/docker/a/b\n").as_deref(), Some("/sys/fs/cgroup/b"));
        assert_eq!(found(&container, "0::/docker/c\n"), None, "it is not seen from here");
        assert_eq!(found(UNIFIED, "0::/../other\n"), None, "it lies outside of the namespace");
        assert_eq!(found(UNIFIED, "4:memory:/x\n"), None);
        assert_eq!(found("25 30 0:23 / /proc rw - proc proc rw\n", unit), None);
    }
}
