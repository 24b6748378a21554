//! One service: its name, and the parts that others check.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use types::{NameError, ServiceName};

use super::Checker;
use super::balancing::Changes;
use super::command::BesideCommand;
use super::releases::ReleaseTable;
use super::routes::RouteTable;
use super::runs::RawRuns;
use crate::raw::{Entries, RawService};
use crate::scalar::{Field, Text, quoted};
use crate::settings::{Program, Protocol, Runs, ServiceSettings};

/// The longest label, of a version or a zone, in bytes.
pub(super) const MAX_LABEL_BYTES: usize = 40;
/// What the gateway itself is called where services are named.
const RESERVED: &str = "gateway";

/// What a service is checked against besides itself.
pub(super) struct WholeFile<'a> {
    pub(super) base_dir: &'a Path,
    /// The names of all services, as they are written.
    pub(super) names: BTreeSet<String>,
    pub(super) routes: RouteTable,
    pub(super) releases: ReleaseTable,
}

impl Checker {
    pub(super) fn services(
        &mut self,
        raw: Entries<Option<RawService>>,
        base_dir: &Path,
    ) -> Vec<ServiceSettings> {
        if raw.0.is_empty() {
            self.no_services();
        }
        let mut file = WholeFile {
            base_dir,
            names: raw.0.iter().map(|(name, _)| name.value.clone()).collect(),
            routes: RouteTable::default(),
            releases: ReleaseTable::default(),
        };
        let services = raw.0.into_iter();
        services
            .filter_map(|(name, service)| self.service(&name, service.unwrap_or_default(), &mut file))
            .collect()
    }

    fn service(&mut self, name: &Text, raw: RawService, file: &mut WholeFile<'_>) -> Option<ServiceSettings> {
        let key = format!("services.{}", name.value);
        let parsed = self.name(name);
        let version: Arc<str> = self.version(&format!("{key}.version"), raw.version).into();
        let runs = RawRuns {
            builtin: raw.builtin,
            command: raw.command,
            beside_command: BesideCommand {
                env: raw.env,
                working_directory: raw.working_directory,
                resources: raw.resources,
            },
            endpoints: raw.endpoints,
            endpoint_set: raw.endpoint_set,
            attestation: raw.attestation,
            secrets: raw.secrets,
            allow: raw.allow,
            replicas: raw.replicas,
            config: raw.config,
            config_reload: raw.config_reload,
            grace: raw.drain.grace,
            restart: raw.restart,
            rollout: raw.rollout,
            start_timeout: raw.start_timeout,
        };
        let protocol = self.protocol(&key, raw.protocol, runs.chooses_protocol(name));
        let runs = self.runs(&key, name, parsed.is_some(), &version, runs, file);
        let before = self.findings.len();
        let written_routes = raw.routes.map(|routes| routes.value);
        let routes = self.routes(&key, name.origin, parsed.as_ref(), written_routes, file, protocol);
        // A wrong route is left out, so what it would have had cannot be missed.
        let known_routes = (self.findings.len() == before).then_some(&routes[..]);
        let versions = runs.as_ref().map(|runs| versions(&version, runs));
        let changes = match &runs {
            Some(Runs::Endpoints(_)) => Changes::InTheFile,
            Some(Runs::Process(process)) if process.program == Program::Elsewhere => Changes::InTheFile,
            Some(Runs::Process(_)) | None => Changes::ByRollout,
        };
        let load_balancing =
            self.load_balancing(&format!("{key}.loadBalancing"), raw.load_balancing, known_routes);
        let traffic = raw.traffic.map(|traffic| {
            self.traffic(&format!("{key}.traffic"), traffic.value, versions.as_ref(), changes)
        });
        let required = self.flag(&format!("{key}.required"), raw.required);
        let health_check = self.health_check(&format!("{key}.healthCheck"), raw.health_check, protocol);
        let retry = self.retry(&format!("{key}.retry"), raw.retry);
        let circuit = self.circuit(&format!("{key}.circuit"), raw.circuit);
        let outlier = self.outlier(&format!("{key}.outlier"), raw.outlier);
        let drain_timeout = self.duration(&format!("{key}.drain.timeout"), raw.drain.timeout);
        Some(ServiceSettings {
            name: parsed?,
            version,
            required,
            runs: runs?,
            protocol: protocol?,
            health_check,
            routes,
            load_balancing,
            traffic,
            retry,
            circuit,
            outlier,
            drain_timeout,
        })
    }

    fn name(&mut self, name: &Text) -> Option<ServiceName> {
        match name.value.parse() {
            Ok(parsed) => {
                if name.value == RESERVED {
                    let message = format!(
                        "services: the name {RESERVED} is reserved: the gateway counts under it in metrics"
                    );
                    self.wrong(name.origin, message, Some("choose another name".to_owned()));
                }
                Some(parsed)
            }
            Err::<_, NameError>(error) => {
                self.wrong(name.origin, format!("services: {}: {error}", quoted(&name.value)), None);
                None
            }
        }
    }

    fn protocol(&mut self, key: &str, written: Field<Protocol>, is_chosen: bool) -> Option<Protocol> {
        let origin = written.origin;
        let protocol = self.value(&format!("{key}.protocol"), written)?;
        if protocol != Protocol::Http1 && !is_chosen {
            self.wrong(
                origin,
                format!("{key}.protocol: the built-in services speak http1 only"),
                Some("leave it out; it is for a service with `command` or endpoints".to_owned()),
            );
        }
        Some(protocol)
    }

    pub(super) fn version(&mut self, key: &str, version: Text) -> String {
        self.label(key, version, MAX_LABEL_BYTES, "1.0.0")
    }

    pub(super) fn label(&mut self, key: &str, label: Text, longest: usize, example: &str) -> String {
        let visible = label.value.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=longest).contains(&label.value.len()) {
            let found = quoted(&label.value);
            let message = format!(
                "{key}: expected 1 to {longest} visible ASCII characters such as {example}, found {found}"
            );
            self.wrong(label.origin, message, None);
        }
        label.value
    }
}

/// The versions that the service has, each once.
fn versions(own: &str, runs: &Runs) -> BTreeSet<String> {
    match runs {
        Runs::Process(_) => BTreeSet::from([own.to_owned()]),
        Runs::Endpoints(endpoints) => endpoints.iter().map(|endpoint| endpoint.version.to_string()).collect(),
    }
}
