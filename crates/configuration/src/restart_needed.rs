//! What of a new file a running system cannot take over. Everything about listeners and who may join is such; routes, limits,
//! policies of calls, endpoints, what replicas run and the `config` of services are not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use types::ServiceName;

use crate::settings::{
    GatewaySettings, GenerateType, ProcessSettings, Program, Runs, SecretSettings, ServiceSettings, Settings,
    Telemetry,
};

impl Settings {
    /// The keys, such as `gateway.listen` or `services.vrf.replicas`, whose change from these settings to the new ones takes
    /// effect only at the next start. A service that is added, removed or of another kind now is named as a whole.
    pub fn restart_needed(&self, new: &Self) -> Vec<String> {
        // Without `..`, so that a new key cannot be forgotten here.
        let Self {
            mode,
            trust_domain,
            data_dir,
            node,
            store,
            gateway,
            admin,
            mesh,
            telemetry,
            secrets,
            services,
        } = self;
        let Telemetry { logs, access_log } = telemetry;
        let GatewaySettings {
            listen,
            workers,
            tls,
            proxy_protocol: _,
            trusted_proxies: _,
            limits: _,
            authentication: _,
            rate_limits: _,
        } = gateway;
        let access_log_moved = beneath(data_dir, access_log.as_deref())
            != beneath(&new.data_dir, new.telemetry.access_log.as_deref());
        let mut keys = Changes::default();
        keys.push(*mode != new.mode, "mode");
        keys.push(*trust_domain != new.trust_domain, "trustDomain");
        keys.push(*data_dir != new.data_dir, "dataDir");
        keys.push(*node != new.node, "node");
        keys.push(*store != new.store, "store");
        keys.push(*listen != new.gateway.listen, "gateway.listen");
        keys.push(*workers != new.gateway.workers, "gateway.workers");
        keys.push(tls.is_some() != new.gateway.tls.is_some(), "gateway.tls");
        keys.push(*admin != new.admin, "admin.listen");
        keys.push(*mesh != new.mesh, "mesh.listen");
        keys.push(*logs != new.telemetry.logs, "telemetry.logs");
        keys.push(access_log_moved, "telemetry.accessLog");
        keys.push(made(secrets) != made(&new.secrets), "secrets");
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

/// What is made for each secret. When another epoch of it is made may change at any time.
fn made(secrets: &BTreeMap<String, SecretSettings>) -> Vec<(&str, GenerateType)> {
    secrets.iter().map(|(name, secret)| (name.as_str(), secret.generate)).collect()
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
            (Runs::Process(before), Some((other, Runs::Process(after)))) => {
                if !is_started_by_the_same(&before.program, &after.program) {
                    self.0.push(key);
                    return;
                }
                let is_elsewhere = before.program == Program::Elsewhere;
                self.push(is_elsewhere && service.version != other.version, &format!("{key}.version"));
                self.push(service.protocol != other.protocol, &format!("{key}.protocol"));
                self.process(&key, before, after);
            }
            (Runs::Process(_), _) | (Runs::Endpoints(_), Some((_, Runs::Process(_)))) => self.0.push(key),
        }
    }

    fn process(&mut self, key: &str, before: &ProcessSettings, after: &ProcessSettings) {
        let ProcessSettings {
            program,
            replicas,
            config: _,
            config_reload,
            secrets,
            allow,
            attestation,
            grace,
            restart: _,
            rollout: _,
            start_timeout: _,
        } = before;
        // Whoever starts them somewhere else has been told of so many places.
        let is_elsewhere = *program == Program::Elsewhere;
        self.push(is_elsewhere && *replicas != after.replicas, &format!("{key}.replicas"));
        self.push(is_elsewhere && *config_reload != after.config_reload, &format!("{key}.configReload"));
        // The launcher that stays beside a command knows it from its start.
        let is_command = matches!(program, Program::Command(_));
        self.push(is_command && *grace != after.grace, &format!("{key}.drain.grace"));
        self.push(*secrets != after.secrets, &format!("{key}.secrets"));
        self.push(*allow != after.allow, &format!("{key}.allow"));
        self.push(*attestation != after.attestation, &format!("{key}.attestation"));
    }
}

/// Whether the replicas of both are started in the same way. What they run is rolled out.
fn is_started_by_the_same(before: &Program, after: &Program) -> bool {
    match (before, after) {
        (Program::Elsewhere, Program::Elsewhere) => true,
        (Program::Builtin(_) | Program::Command(_), Program::Builtin(_) | Program::Command(_)) => true,
        (Program::Elsewhere, _) | (_, Program::Elsewhere) => false,
    }
}

/// A path as it is seen from the data directory, which may itself have moved.
fn beneath(data_dir: &Path, path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| path.strip_prefix(data_dir).unwrap_or(path).to_owned())
}
