//! The `config` of each service, on its way to the replicas that run.

use std::collections::BTreeMap;
use std::sync::Arc;

use configuration::{ServiceSettings, Settings};
use service_registry::Configurations;
use trust::ServicePolicy;
use types::ServiceName;

/// Configurations that are known and not in force yet. They never were when this is dropped.
pub(super) struct Prepared<'a> {
    configurations: &'a Configurations,
    revision: u64,
    is_in_force: bool,
}

/// Makes them known under the number of the revision, since the authority may bring them into force at any moment from now on.
pub(super) fn prepare<'a>(
    configurations: &'a Configurations,
    revision: u64,
    settings: &Settings,
    services: &BTreeMap<ServiceName, ServicePolicy>,
) -> Prepared<'a> {
    let of_service = |service: &ServiceSettings| {
        let digest = services.get(&service.name)?.config_digest;
        Some((service.name.clone(), digest, Arc::new(service.process()?.config.clone())))
    };
    configurations.prepare(revision, settings.services.iter().filter_map(of_service));
    Prepared { configurations, revision, is_in_force: false }
}

impl Prepared<'_> {
    /// They are in force.
    pub(super) fn take_over(mut self) {
        self.configurations.take_over(self.revision);
        self.is_in_force = true;
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.is_in_force {
            self.configurations.give_up();
        }
    }
}
