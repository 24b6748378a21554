//! The load generators: wrk and h2load, and our own where those cannot do it. They measure; they do not judge.

pub(crate) mod grpc;
pub(crate) mod h2load;
pub(crate) mod handshakes;
pub(crate) mod idle;
pub(crate) mod open_loop;
pub(crate) mod wrk;

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::bench::installed;

/// Runs a load generator to its end: what it wrote. Dropping the future ends it.
async fn output(program: &str, arguments: Vec<String>) -> anyhow::Result<String> {
    let path: PathBuf = installed(program).with_context(|| format!("{program} is not installed"))?;
    let output = tokio::process::Command::new(path).args(arguments).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} failed ({}): {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}
