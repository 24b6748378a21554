//! The programs that tests want beyond the Rust toolchain. The one place that lists them.
//!
//! A test decides for itself whether its program is there: without it, it prints `skipped: …`, and fails in CI.

use std::ffi::OsStr;
use std::path::Path;

/// A program that some test runs.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its name in `PATH`, or the absolute path of a file that its package brings.
    pub(crate) name: &'static str,
    /// The Debian package that holds it.
    pub(crate) package: &'static str,
    /// What is skipped without it.
    pub(crate) wanted_for: &'static str,
}

pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "curl",
        package: "curl",
        wanted_for: "the command that the README shows, pasted; HTTP/2 by another's client",
    },
    Program {
        name: "etcd",
        package: "etcd-server",
        wanted_for: "the store in etcd, with one member and with three",
    },
    Program {
        name: "ip",
        package: "iproute2",
        wanted_for: "two nodes on two machines, as network namespaces are, and what cuts them off",
    },
    Program {
        name: "openssl",
        package: "openssl",
        wanted_for: "signed requests, by keys and signatures that another program makes",
    },
    Program {
        name: "promtool",
        package: "prometheus",
        wanted_for: "the metrics page, read by Prometheus' own parser",
    },
    Program {
        name: "redis-server",
        package: "redis-server",
        wanted_for: "limits that several gateways share, and what becomes of them when Redis fails",
    },
    Program {
        name: "systemd-analyze",
        package: "systemd",
        wanted_for: "the units in deploy/, read by systemd itself",
    },
    Program {
        name: "/usr/lib/python3/dist-packages/grpc/__init__.py",
        package: "python3-grpcio",
        wanted_for: "gRPC with grpcio on both sides of the gateway",
    },
    Program {
        name: "/usr/lib/python3/dist-packages/jwt/__init__.py",
        package: "python3-jwt",
        wanted_for: "JSON Web Tokens of another maker",
    },
    Program {
        name: "/usr/lib/python3/dist-packages/cryptography/__init__.py",
        package: "python3-cryptography",
        wanted_for: "the keys of those tokens",
    },
    Program {
        name: "/usr/lib/python3/dist-packages/websockets/__init__.py",
        package: "python3-websockets",
        wanted_for: "WebSocket with a library on both sides of the gateway",
    },
];

/// Those of `programs` that are not there.
pub(crate) fn missing(programs: &'static [Program]) -> Vec<&'static Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    programs.iter().filter(|program| !is_there(program.name, &path)).collect()
}

fn is_there(name: &str, path: &OsStr) -> bool {
    if name.starts_with('/') { Path::new(name).is_file() } else { is_in_path(name, path) }
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
        let notes = folder.path().join("notes");
        assert!(is_there(notes.to_str().unwrap(), &path), "a file of an absolute path need not be executed");
        assert!(is_there("program", &path) && !is_there("/nowhere/notes", &path));
    }
}
