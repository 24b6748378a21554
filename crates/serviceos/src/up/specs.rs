//! What the versions of each service run that replicas of are there, or may come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use configuration::{Program, Resources, ServiceSettings, Settings};
use mesh_protocol::{sha256, to_hex};
use service_registry::Version;
use types::ServiceName;
use types::wire::Message;

use super::adoption::record::SpecId;
use super::measuring::{Launchable, Measurements};
use super::told::Told;
use super::versions::Versions;

/// Versions of a service that are known at once, at most: the one that runs, one that comes, and those that it has replaced before
/// they were there.
const MAX_VERSIONS: usize = 8;

/// What one version runs.
pub(super) struct Spec {
    pub(super) version: Version,
    pub(super) launchable: Launchable,
    /// What a command may use.
    pub(super) resources: Option<Resources>,
    pub(super) told: Told,
    pub(super) id: SpecId,
    pub(super) grace: Duration,
}

/// Those of all services; its clones are the same.
#[derive(Clone, Default)]
pub(super) struct Specs(Arc<Mutex<BTreeMap<ServiceName, Vec<Arc<Spec>>>>>);

impl Spec {
    fn of(service: &ServiceSettings, launchable: &Launchable, version: Version) -> Option<Self> {
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
        let message = message.finish();
        let id = SpecId { version: told.version().to_owned(), digest: to_hex(&sha256(&message)) };
        Some(Self { version, launchable, resources, told, id, grace: process.grace })
    }
}

impl Specs {
    /// Adds what these settings say, where it is not known yet. What a version of the same id runs is what is said of it last.
    pub(super) fn add(&self, settings: &Settings, measurements: &Measurements, versions: &Versions) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for service in &settings.services {
            let Some(launchable) = measurements.services.get(&service.name) else { continue };
            let version = versions.get(service);
            let Some(spec) = Spec::of(service, launchable, version.clone()) else { continue };
            let known = all.entry(service.name.clone()).or_default();
            known.retain(|spec| spec.version != version);
            let surplus = (known.len() + 1).saturating_sub(MAX_VERSIONS);
            known.drain(..surplus);
            known.push(Arc::new(spec));
        }
    }

    /// Only this version of a service is there any more.
    pub(super) fn keep_only(&self, service: &ServiceName, version: &Version) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(service) {
            known.retain(|spec| spec.version == *version);
        }
    }

    /// What a version runs.
    pub(super) fn of(&self, service: &ServiceName, version: &Version) -> Option<Arc<Spec>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(service)?.iter().find(|spec| spec.version == *version).cloned()
    }

    /// What the latest version runs.
    pub(super) fn latest(&self, service: &ServiceName) -> Option<Arc<Spec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(service)?.last().cloned()
    }
}
