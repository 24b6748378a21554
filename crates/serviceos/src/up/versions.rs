//! Which version of each service the file says and this machine has: the label, and a digest of what its processes are made of.

use std::collections::BTreeMap;

use configuration::{ServiceSettings, Settings};
use service_registry::{SpecDigest, Version};
use types::ServiceName;

use super::measuring::{Launchable, Measurements};

/// The version of each service whose replicas join the mesh.
#[derive(Default)]
pub(crate) struct Versions(BTreeMap<ServiceName, Version>);

impl Versions {
    /// Those of these settings, with what was measured of them: a program that was built again is another version.
    pub(super) fn measured(settings: &Settings, measurements: &Measurements) -> Self {
        let version = |service: &ServiceSettings| {
            let workload = measurements.services.get(&service.name).map(Launchable::workload);
            let spec = service.spec_digest(workload.as_ref())?;
            Some((service.name.clone(), Version::new(&service.version, SpecDigest(spec))))
        };
        Self(settings.services.iter().filter_map(version).collect())
    }

    /// The version of a service whose replicas join the mesh.
    pub(super) fn of(&self, service: &ServiceName) -> Option<&Version> {
        self.0.get(service)
    }

    /// The version of a service, of which nothing but the label is known where it has endpoints.
    pub(super) fn get(&self, service: &ServiceSettings) -> Version {
        self.0.get(&service.name).cloned().unwrap_or_else(|| (&*service.version).into())
    }
}
