//! The programs that tests want beyond the Rust toolchain. The one place that lists them.
//!
//! A test decides for itself whether its program is there: without it, it prints `skipped: …`, and fails in CI.

use std::ffi::OsStr;
use std::path::Path;

/// A program that some test runs.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The Debian package that holds it.
    pub(crate) package: &'static str,
    /// What is skipped without it.
    pub(crate) wanted_for: &'static str,
}

pub(crate) const PROGRAMS: &[Program] = &[
    Program { name: "curl", package: "curl", wanted_for: "the command that the README shows, pasted" },
    Program {
        name: "promtool",
        package: "prometheus",
        wanted_for: "the metrics page, read by Prometheus' own parser",
    },
];

/// Those of `programs` that are not in `PATH`.
pub(crate) fn missing(programs: &'static [Program]) -> Vec<&'static Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    programs.iter().filter(|program| !is_in_path(program.name, &path)).collect()
}

pub(crate) fn is_in_path(name: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| is_executable(&folder.join(name)))
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_a_file_in_path_that_may_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("program", 0o755), ("notes", 0o644)] {
            fs::write(folder.path().join(name), "").unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        let found = ["program", "notes", "absent"].map(|name| is_in_path(name, &path));
        assert_eq!(found, [true, false, false]);
    }
}
