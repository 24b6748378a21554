//! What each service runs, measured at the start: its release in development, and what its launchers are told to execute.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use configuration::{
    Builtin, CommandSettings, ProcessSettings, Program as Runs, Protocol, ServiceSettings, Settings,
};
use launcher::{CommandOrder, Directory, LaunchOrder, Limits, Measured, Measurer, Program};
use types::ServiceName;

use crate::launcher_process::THIS_BINARY;

/// How the directory that replicas work in is called in what is measured; where it lies is nothing of theirs.
const RUN: &str = "run";

/// What was measured, by service.
pub(super) struct Measurements {
    /// Without those whose replicas are started elsewhere.
    pub(super) services: BTreeMap<ServiceName, Launchable>,
    /// What this process itself runs, as the authority's evidence says it.
    pub(super) authority: [u8; 32],
}

/// What the launchers of a service are told.
#[derive(Clone)]
pub(super) enum Launchable {
    /// A program that links the sdk: its replicas share what was measured.
    Replica { order: LaunchOrder, measured: Arc<Measured> },
    /// A program of anybody's, which each launcher measures again, and its workload digest at the start.
    Command {
        order: CommandOrder,
        workload: [u8; 32],
        /// The digest of the launcher, which is a part of it.
        own: [u8; 32],
    },
}

impl Launchable {
    /// W.
    pub(super) fn workload(&self) -> [u8; 32] {
        match self {
            Self::Replica { measured, .. } => measured.workload_digest(),
            Self::Command { workload, .. } => *workload,
        }
    }
}

impl Measurements {
    /// Measures everything, on a thread that may wait for the disk.
    pub(super) async fn take(settings: &Settings, run: &Path) -> Result<Self> {
        let none = Self { services: BTreeMap::new(), authority: [0; 32] };
        none.renewed(None, settings, run).await
    }

    /// Those of other settings. What runs the same program as before was measured before.
    pub(super) async fn renewed(
        &self,
        before: Option<&Settings>,
        settings: &Settings,
        run: &Path,
    ) -> Result<Self> {
        let before: BTreeMap<_, _> = before
            .iter()
            .flat_map(|before| &before.services)
            .map(|service| (&service.name, service))
            .collect();
        let (mut known, mut others) = (BTreeMap::new(), Vec::new());
        for service in &settings.services {
            let Some(process) = service.process() else { continue };
            let is_as_before = before.get(&service.name).is_some_and(|before| runs_the_same(before, service));
            match self.services.get(&service.name).filter(|_| is_as_before) {
                Some(launchable) => _ = known.insert(service.name.clone(), launchable.clone()),
                None => others.push((service.clone(), process.clone())),
            }
        }
        if others.is_empty() && !before.is_empty() {
            return Ok(Self { services: known, authority: self.authority });
        }
        let run = run.to_owned();
        let measured = tokio::task::spawn_blocking(move || measure(&others, &run));
        let mut measured = measured.await.context("failed to measure the services")??;
        measured.services.extend(known);
        Ok(measured)
    }
}

fn measure(processes: &[(ServiceSettings, ProcessSettings)], run: &Path) -> Result<Measurements> {
    let mut measurer = Measurer::new();
    let own = measurer.own_digest().context("failed to measure serviceos itself")?;
    let authority = replica(&mut measurer, own, "authority", &["up"], run)?.workload();
    let mut services = BTreeMap::new();
    for (service, process) in processes {
        let launchable = match &process.program {
            Runs::Builtin(builtin) => {
                replica(&mut measurer, own, service.name.as_str(), &words(*builtin), run)?
            }
            Runs::Command(command) => {
                let order = command_order(service, process, command, run);
                let measured = measurer.measure(&order.program(own));
                let measured = measured
                    .with_context(|| format!("failed to measure services.{}.command", service.name))?;
                Launchable::Command { workload: measured.workload_digest(), order, own }
            }
            Runs::Elsewhere => continue,
        };
        services.insert(service.name.clone(), launchable);
    }
    Ok(Measurements { services, authority })
}

/// What the program of a command is measured as now.
pub(super) async fn measured_now(order: CommandOrder, own: [u8; 32]) -> Result<[u8; 32]> {
    let measured = tokio::task::spawn_blocking(move || Measurer::new().measure(&order.program(own)));
    let measured = measured.await.context("failed to measure it")?.context("failed to measure it")?;
    Ok(measured.workload_digest())
}

/// Whether the launchers of both are told the same.
pub(super) fn runs_the_same(before: &ServiceSettings, after: &ServiceSettings) -> bool {
    let told = |service: &ServiceSettings| {
        let process = service.process()?;
        Some((process.program.clone(), process.grace, service.protocol))
    };
    told(before) == told(after)
}

fn words(builtin: Builtin) -> [&'static str; 2] {
    ["service", builtin.name()]
}

/// This very program, as one of its services.
fn replica(
    measurer: &mut Measurer,
    own: [u8; 32],
    service: &str,
    words: &[&str],
    run: &Path,
) -> Result<Launchable> {
    let program = Program {
        service: service.to_owned(),
        launcher: own,
        arguments: std::iter::once(&THIS_BINARY).chain(words).map(|word| (*word).to_owned()).collect(),
        environment: environment(),
        directory: Directory { path: run.to_owned(), hashed: RUN.to_owned() },
    };
    let measured = measurer.measure(&program).with_context(|| format!("failed to measure {service}"))?;
    let order = LaunchOrder {
        workload: measured.workload().clone(),
        name: "serviceos".to_owned(),
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        environment: environment(),
        directory: run.to_owned(),
    };
    Ok(Launchable::Replica { order, measured: Arc::new(measured) })
}

/// What a launcher itself measures, and runs beside itself.
fn command_order(
    service: &ServiceSettings,
    process: &ProcessSettings,
    command: &CommandSettings,
    run: &Path,
) -> CommandOrder {
    CommandOrder {
        service: service.name.clone(),
        arguments: command.arguments.clone(),
        environment: command.environment.clone(),
        directory: Directory { path: command.directory.clone(), hashed: command.directory_text.clone() },
        protocol: spoken(service.protocol),
        run: run.to_owned(),
        grace: process.grace,
        limits: Limits::default(),
    }
}

/// What a launcher speaks with a command.
pub(super) fn spoken(protocol: Protocol) -> mesh_protocol::Protocol {
    match protocol {
        Protocol::Http1 => mesh_protocol::Protocol::Http1,
        Protocol::Http2 | Protocol::Grpc => mesh_protocol::Protocol::Http2,
    }
}

/// The environment of a built-in service.
fn environment() -> BTreeMap<String, String> {
    std::env::var("RUST_LOG").ok().map(|filter| ("RUST_LOG".to_owned(), filter)).into_iter().collect()
}
