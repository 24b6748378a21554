//! Installs Debian packages, and keeps their daemons from being started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::programs::{self, Program};

/// Debian's hook that says whether a package may start its daemon: 101 means no (invoke-rc.d(8)).
const POLICY_PATH: &str = "/usr/sbin/policy-rc.d";
const POLICY: &str = "#!/bin/sh\n# Written by `cargo xtask test --install` while it installs; it removes it afterwards.\nexit 101\n";

/// Installs the packages of `missing`.
///
/// # Errors
///
/// No root, no apt-get, or apt-get failed.
pub(crate) fn install(missing: &[&Program]) -> anyhow::Result<()> {
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !programs::is_in_path("apt-get", &std::env::var_os("PATH").unwrap_or_default()) {
        bail!("there is no apt-get here; install by hand what Debian calls {}", packages.join(" "));
    }
    if !is_root()? {
        bail!("only root may install packages; run `{command}` as root");
    }
    let _policy = DaemonPolicy::deny(Path::new(POLICY_PATH))?;
    // A stale list of one source must not keep the others' packages from being installed.
    if let Err(error) = apt_get(&["update"]) {
        eprintln!("xtask: {error:#}");
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], &packages[..]].concat())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let shown = format!("apt-get {}", arguments.join(" "));
    eprintln!("xtask: {shown}");
    let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    let status = status.with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output().context("failed to start `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// While it lives, no package may start a daemon. A policy that somebody else wrote is left as it is.
#[derive(Debug)]
struct DaemonPolicy {
    /// The file to remove; none when it is somebody else's.
    ours: Option<PathBuf>,
}

impl DaemonPolicy {
    fn deny(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            // An interrupted run left it behind.
            Ok(content) if content == POLICY => return Ok(Self { ours: Some(path.to_owned()) }),
            Ok(_) => return Ok(Self { ours: None }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        let policy = Self { ours: Some(path.to_owned()) };
        file.write_all(POLICY.as_bytes()).with_context(|| format!("failed to write {}", path.display()))?;
        // The umask may have taken away the right to execute it.
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for DaemonPolicy {
    fn drop(&mut self) {
        if let Some(path) = &self.ours
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("xtask: failed to remove {}: {error}; remove it by hand", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_ours_lasts_as_long_as_the_installation_even_after_an_interrupted_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        let first = DaemonPolicy::deny(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        std::mem::forget(first);
        drop(DaemonPolicy::deny(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        drop(DaemonPolicy::deny(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
    }
}
