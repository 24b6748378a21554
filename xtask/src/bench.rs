//! `cargo xtask bench`: builds what is measured and the runner, and starts the runner.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::cargo::{cargo, output, root, shown};
use crate::test::code_of;

#[derive(Debug, Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// Passes `arguments` on to the runner and exits with its code.
///
/// # Errors
///
/// Cargo fails, or the runner cannot be started.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let mut build = cargo(&["build", "--release", "-p", "serviceos", "-p", "bench"]);
    let status = build.status().with_context(|| format!("failed to start `{}`", shown(&build)))?;
    if !status.success() {
        bail!("`{}` failed", shown(&build));
    }
    let json = output(cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_slice(&json)?;
    let runner = metadata.target_directory.join("release/bench");
    let status = Command::new(&runner)
        .args(arguments)
        .current_dir(root())
        .status()
        .with_context(|| format!("failed to start {}", runner.display()))?;
    Ok(code_of(status))
}
