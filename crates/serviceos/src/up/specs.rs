//! What the versions of each service run that replicas of are there, or may come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use configuration::{Program, Resources, ServiceSettings, Settings};
use mesh_protocol::{sha256, to_hex};
use service_lifecycle::Rollouts;
use service_lifecycle::rollout::Outcome;
use service_registry::Version;
use tokio::sync::watch;
use types::ServiceName;
use types::wire::Message;

use super::adoption::record::SpecId;
use super::measuring::{Launchable, Measurements, measured_now};
use super::plan::Former;
use super::told::Told;
use super::versions::Versions;

/// Versions of a service that are known at once, at most: the one that runs, one that comes, and those that it has replaced before
/// they were there.
const MAX_VERSIONS: usize = 8;

/// What one version runs.
pub(super) struct Spec {
    pub(super) version: Version,
    /// The number of a configuration that says so.
    pub(super) revision: u64,
    /// What its program was measured as.
    pub(super) workload: [u8; 32],
    /// What that configuration says of the service, as far as it can be read.
    pub(super) said: Option<Box<ServiceSettings>>,
    /// What starts a replica of it, or why none can be started any more.
    pub(super) starts: Result<Box<Starts>, String>,
}

/// What starts a replica of a version.
pub(super) struct Starts {
    pub(super) launchable: Launchable,
    /// What a command may use.
    pub(super) resources: Option<Resources>,
    pub(super) told: Told,
    pub(super) id: SpecId,
    pub(super) grace: Duration,
}

/// Those of all services; its clones are the same.
#[derive(Clone)]
pub(super) struct Specs(Arc<Inner>);

struct Inner {
    services: Mutex<BTreeMap<ServiceName, Known>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

/// What is known of a service.
#[derive(Default)]
struct Known {
    /// What the configuration says is the last one.
    specs: Vec<Arc<Spec>>,
    /// The version that the configuration says, where it was given up: it is not begun with again by itself.
    given_up: Option<Version>,
}

impl Default for Specs {
    fn default() -> Self {
        Self(Arc::new(Inner { services: Mutex::default(), changes: watch::Sender::new(0) }))
    }
}

impl Starts {
    /// None for a service without processes.
    fn of(service: &ServiceSettings, launchable: &Launchable) -> Option<Self> {
        let process = service.process()?;
        let (launchable, told) = (launchable.clone(), Told::of(service, process));
        let message = Message::tagged(b"serviceos/spec/v1\0").lp(launchable.workload());
        let message = told.add_to(message);
        let resources = match &process.program {
            Program::Command(command) => Some(command.resources),
            Program::Builtin(_) | Program::Elsewhere => None,
        };
        let message = match &launchable {
            Launchable::Replica { .. } => message,
            // Its launcher is told these too.
            Launchable::Command { order, .. } => {
                let limits = resources.map(|resources| format!("{resources:?}")).unwrap_or_default();
                message.lp(order.protocol.alpn()).lp(order.grace.as_millis().to_be_bytes()).lp(limits)
            }
        };
        let id = SpecId { version: told.version().to_owned(), digest: to_hex(&sha256(&message.finish())) };
        Some(Self { launchable, resources, told, id, grace: process.grace })
    }
}

impl Spec {
    /// What a configuration of this number says, as it was measured. None for a service without processes.
    pub(super) fn of(
        service: &ServiceSettings,
        launchable: &Launchable,
        version: Version,
        revision: u64,
    ) -> Option<Self> {
        let starts = Box::new(Starts::of(service, launchable)?);
        let said = Some(Box::new(service.clone()));
        Some(Self { version, revision, workload: launchable.workload(), said, starts: Ok(starts) })
    }
}

impl Specs {
    /// Adds what the settings of this number say, where it is not known yet. What a version of the same id runs is what is said of it
    /// last.
    pub(super) fn add(
        &self,
        settings: &Settings,
        measurements: &Measurements,
        versions: &Versions,
        revision: u64,
    ) {
        for service in &settings.services {
            let Some(launchable) = measurements.services.get(&service.name) else { continue };
            let spec = Spec::of(service, launchable, versions.get(service), revision);
            spec.into_iter().for_each(|spec| self.change(&service.name, |known| known.add(spec)));
        }
    }

    /// Adds a version that replicas of were left, where it is not known yet.
    pub(super) fn add_left(&self, service: &ServiceName, spec: Spec) {
        self.change(service, |known| {
            if known.of(&spec.version).is_none() {
                known.specs.insert(0, Arc::new(spec));
            }
        });
    }

    /// Only this version of a service is there any more.
    pub(super) fn keep_only(&self, service: &ServiceName, version: &Version) {
        self.change(service, |known| known.specs.retain(|spec| spec.version == *version));
    }

    /// The configuration says this version, which was given up.
    pub(super) fn give_up(&self, service: &ServiceName, version: Option<Version>) {
        self.change(service, |known| known.given_up = version);
    }

    /// The version that was given up though the configuration says it.
    pub(super) fn given_up(&self, service: &ServiceName) -> Option<Version> {
        self.look(service, |known| known.given_up.clone()).flatten()
    }

    /// What a version runs.
    pub(super) fn of(&self, service: &ServiceName, version: &Version) -> Option<Arc<Spec>> {
        self.look(service, |known| known.of(version).cloned()).flatten()
    }

    /// The version that was given up at the end of the last rollout, while that was not taken over yet.
    pub(super) fn not_taken_over(&self, service: &ServiceName, rollouts: &Rollouts) -> Option<Version> {
        let ended = rollouts.decided().filter(|_| rollouts.on_its_way.is_none())?;
        let is_known = ended.to != rollouts.wanted && self.of(service, &ended.to).is_some();
        let is_given_up = ended.outcome != Outcome::Done && is_known;
        is_given_up.then(|| ended.to.clone())
    }

    /// What is said of the versions that are known of each service, but for those that are wanted.
    pub(super) fn former(&self, wanted: &Versions) -> Former {
        let services = self.0.services.lock().unwrap_or_else(PoisonError::into_inner);
        let former = |(service, known): (&ServiceName, &Known)| {
            let others = known.specs.iter().filter(|spec| wanted.of(service) != Some(&spec.version));
            let said = others.filter_map(|spec| Some((spec.version.clone(), spec.said.as_deref()?.clone())));
            (service.clone(), said.collect())
        };
        services.iter().map(former).collect()
    }

    /// The versions that are known of a service.
    pub(super) fn versions(&self, service: &ServiceName) -> Vec<Version> {
        let versions = |known: &Known| known.specs.iter().map(|spec| spec.version.clone()).collect();
        self.look(service, versions).unwrap_or_default()
    }

    /// What a replica is started with. Where there are several versions, it is measured whether the program is still what it was:
    /// both would be admitted.
    ///
    /// # Errors
    /// Why none can be started, for the operator.
    pub(super) async fn to_start(
        &self,
        service: &ServiceName,
        version: &Version,
    ) -> Result<Arc<Spec>, String> {
        let unknown = || format!("what {service} {} runs is not known here", version.id());
        let spec = self.of(service, version).ok_or_else(unknown)?;
        let cannot = |reason: &str| {
            format!(
                "{} cannot be started any more: {reason}; `serviceos rollout start {service}` rolls out what the configuration says",
                version.id()
            )
        };
        let starts = spec.starts.as_ref().map_err(|reason| cannot(reason))?;
        let is_one_of_several = |known: &Known| known.specs.len() > 1 || known.given_up.is_some();
        if let Launchable::Command { order, workload, own } = &starts.launchable
            && self.look(service, is_one_of_several) == Some(true)
        {
            match measured_now(order.clone(), *own).await {
                Ok(now) if now == *workload => {}
                Ok(_another) => return Err(cannot("its program was replaced by another one")),
                Err(error) => return Err(cannot(&format!("{error:#}"))),
            }
        }
        Ok(spec)
    }

    /// The version of a process of which nothing else is written down than this.
    pub(super) fn version_of(&self, service: &ServiceName, id: &SpecId) -> Option<Version> {
        let is_it = |spec: &&Arc<Spec>| spec.starts.as_ref().is_ok_and(|starts| starts.id == *id);
        let version = |known: &Known| known.specs.iter().find(is_it).map(|spec| spec.version.clone());
        self.look(service, version).flatten()
    }

    /// Whether replicas of a service are started here.
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        self.look(service, |known| !known.specs.is_empty()) == Some(true)
    }

    /// Changes when something of it is another.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn look<T>(&self, service: &ServiceName, look: impl FnOnce(&Known) -> T) -> Option<T> {
        self.0.services.lock().unwrap_or_else(PoisonError::into_inner).get(service).map(look)
    }

    fn change(&self, service: &ServiceName, change: impl FnOnce(&mut Known)) {
        let mut services = self.0.services.lock().unwrap_or_else(PoisonError::into_inner);
        change(services.entry(service.clone()).or_default());
        drop(services);
        self.0.changes.send_modify(|changes| *changes += 1);
    }
}

impl Known {
    fn of(&self, version: &Version) -> Option<&Arc<Spec>> {
        self.specs.iter().find(|spec| spec.version == *version)
    }

    fn add(&mut self, spec: Spec) {
        self.specs.retain(|known| known.version != spec.version);
        // The first one is what runs.
        if self.specs.len() >= MAX_VERSIONS {
            self.specs.remove(1);
        }
        self.specs.push(Arc::new(spec));
    }
}
