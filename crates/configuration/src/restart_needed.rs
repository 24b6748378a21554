//! What of a new file a running system cannot take over. Everything about processes and listeners is such; routes,
//! limits, policies and endpoints are not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use types::ServiceName;

use crate::settings::{GatewaySettings, ProcessSettings, Runs, ServiceSettings, Settings, Telemetry};

impl Settings {
    /// The keys, such as `gateway.listen` or `services.vrf.replicas`, whose change from these settings to the new ones takes
    /// effect only at the next start. A service that is added, removed or of another kind now is named as a whole.
    pub fn restart_needed(&self, new: &Self) -> Vec<String> {
        // Without `..`, so that a new key cannot be forgotten here.
        let Self { trust_domain, data_dir, gateway, admin, telemetry, services } = self;
        let Telemetry { logs, access_log } = telemetry;
        let GatewaySettings {
            listen,
            workers,
            tls,
            proxy_protocol: _,
            trusted_proxies: _,
            limits: _,
            tiers: _,
        } = gateway;
        let access_log_moved = beneath(data_dir, access_log.as_deref())
            != beneath(&new.data_dir, new.telemetry.access_log.as_deref());
        let mut keys = Changes::default();
        keys.push(*trust_domain != new.trust_domain, "trustDomain");
        keys.push(*data_dir != new.data_dir, "dataDir");
        keys.push(*listen != new.gateway.listen, "gateway.listen");
        keys.push(*workers != new.gateway.workers, "gateway.workers");
        keys.push(tls.is_some() != new.gateway.tls.is_some(), "gateway.tls");
        keys.push(*admin != new.admin, "admin.listen");
        keys.push(*logs != new.telemetry.logs, "telemetry.logs");
        keys.push(access_log_moved, "telemetry.accessLog");
        let (before, after) = (by_name(services), by_name(&new.services));
        for service in services {
            keys.service(service, after.get(&service.name).copied());
        }
        for service in new.services.iter().filter(|service| !before.contains_key(&service.name)) {
            keys.service(service, None);
        }
        keys.0
    }
}

fn by_name(services: &[ServiceSettings]) -> HashMap<&ServiceName, &ServiceSettings> {
    services.iter().map(|service| (&service.name, service)).collect()
}

/// The keys that changed.
#[derive(Default)]
struct Changes(Vec<String>);

impl Changes {
    fn push(&mut self, changed: bool, key: &str) {
        if changed {
            self.0.push(key.to_owned());
        }
    }

    /// `other` is what became of the service, or `None` when only one of the two files has it.
    fn service(&mut self, service: &ServiceSettings, other: Option<&ServiceSettings>) {
        let key = format!("services.{}", service.name);
        match (&service.runs, other.map(|other| (other, &other.runs))) {
            (Runs::Endpoints(_), None | Some((_, Runs::Endpoints(_)))) => {}
            (Runs::Builtin(before), Some((other, Runs::Builtin(after)))) => {
                let drain = service.drain_timeout != other.drain_timeout || before.grace != after.grace;
                self.push(service.version != other.version, &format!("{key}.version"));
                self.process(&key, before, after);
                self.push(drain, &format!("{key}.drain"));
            }
            (Runs::Builtin(_), _) | (Runs::Endpoints(_), Some((_, Runs::Builtin(_)))) => self.0.push(key),
        }
    }

    fn process(&mut self, key: &str, before: &ProcessSettings, after: &ProcessSettings) {
        let ProcessSettings { builtin, replicas, config, grace: _, restart, start_timeout } = before;
        self.push(*builtin != after.builtin, &format!("{key}.builtin"));
        self.push(*replicas != after.replicas, &format!("{key}.replicas"));
        self.push(*config != after.config, &format!("{key}.config"));
        self.push(*restart != after.restart, &format!("{key}.restart"));
        self.push(*start_timeout != after.start_timeout, &format!("{key}.startTimeout"));
    }
}

/// A path as it is seen from the data directory, which may itself have moved.
fn beneath(data_dir: &Path, path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| path.strip_prefix(data_dir).unwrap_or(path).to_owned())
}
