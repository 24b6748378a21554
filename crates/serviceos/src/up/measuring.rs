//! What each service runs, measured at the start: its release in development, and what its launchers are told to execute.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use configuration::{Builtin, Settings};
use launcher::{Directory, Measured, Measurer, Program};
use types::ServiceName;

use super::replica_process::THIS_BINARY;

/// How the directory that replicas work in is called in what is measured; where it lies is nothing of theirs.
const RUN: &str = "run";

/// What was measured, by service.
pub(super) struct Measurements {
    pub(super) services: BTreeMap<ServiceName, Arc<Measured>>,
    /// What this process itself runs, as the authority's evidence says it.
    pub(super) authority: [u8; 32],
}

impl Measurements {
    /// Measures everything, on a thread that may wait for the disk.
    pub(super) async fn take(settings: &Settings, run: &Path) -> Result<Self> {
        let builtins = settings.services.iter().filter_map(|service| {
            let process = service.process()?;
            Some((service.name.clone(), process.builtin))
        });
        let (builtins, run): (Vec<_>, _) = (builtins.collect(), run.to_owned());
        let measured = tokio::task::spawn_blocking(move || measure(builtins, &run));
        measured.await.context("failed to measure the services")?
    }
}

fn measure(builtins: Vec<(ServiceName, Builtin)>, run: &Path) -> Result<Measurements> {
    let mut measurer = Measurer::new();
    let own = measurer.own_digest().context("failed to measure serviceos itself")?;
    let mut one = |service: &str, words: &[&str]| {
        let program = Program {
            service: service.to_owned(),
            launcher: own,
            arguments: std::iter::once(&THIS_BINARY).chain(words).map(|word| (*word).to_owned()).collect(),
            environment: environment(),
            directory: Directory { path: run.to_owned(), hashed: RUN.to_owned() },
        };
        measurer.measure(&program).with_context(|| format!("failed to measure {service}"))
    };
    let authority = one("authority", &["up"])?.workload_digest();
    let mut services = BTreeMap::new();
    for (name, builtin) in builtins {
        let measured = one(name.as_str(), &["service", builtin.name()])?;
        services.insert(name, Arc::new(measured));
    }
    Ok(Measurements { services, authority })
}

/// The environment of a built-in service.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name == "RUST_LOG").collect()
}
