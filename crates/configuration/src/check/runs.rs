//! Who answers the calls of a service: a built-in one or a command, which are started here, replicas that are started elsewhere
//! and join, or endpoints. Exactly one of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use types::ServiceName;

use super::Checker;
use super::attestation::WrittenAttestation;
use super::command::BesideCommand;
use super::service::WholeFile;
use crate::nearest::nearest;
use crate::raw::{RawEndpoint, RawRestart, RawRollout};
use crate::report::Origin;
use crate::scalar::{Field, Spanned, Text, Whole, WordOr, quoted};
use crate::settings::{
    Builtin, ConfigReload, EndpointSettings, MAX_CONFIG_BYTES, ProcessSettings, Program, Restart, Runs,
};

/// The most replicas of one service.
const MAX_REPLICAS: i128 = 1_000;
/// Of more unknown names none is compared with all services: a report shows fewer, and a hostile file costs nothing.
const MAX_COMPARED: usize = 100;
/// The key of a built-in service's `config` that opens ports of this machine to it.
const LOOPBACK_KEY: &str = "allowLoopback";

/// The keys of a service that say what it runs, and those that only a process has.
pub(super) struct RawRuns {
    pub(super) builtin: Option<Field<Builtin>>,
    pub(super) command: Option<Spanned<Vec<Text>>>,
    pub(super) beside_command: BesideCommand,
    pub(super) endpoints: Option<Spanned<Vec<Text>>>,
    pub(super) endpoint_set: Option<Spanned<Vec<Spanned<RawEndpoint>>>>,
    pub(super) attestation: Option<WrittenAttestation>,
    pub(super) secrets: Option<Spanned<Vec<Text>>>,
    pub(super) allow: Option<Spanned<Vec<Text>>>,
    pub(super) replicas: Field<Whole>,
    pub(super) config: Option<Spanned<serde_json::Value>>,
    pub(super) config_reload: Field<ConfigReload>,
    pub(super) grace: Field<Duration>,
    pub(super) restart: Option<Spanned<RawRestart>>,
    pub(super) rollout: Option<Spanned<RawRollout>>,
    pub(super) start_timeout: Field<Duration>,
}

impl RawRuns {
    pub(super) fn has_endpoints(&self) -> bool {
        self.endpoints.is_some() || self.endpoint_set.is_some()
    }

    /// Whether what it speaks is the operator's choice.
    pub(super) fn chooses_protocol(&self, name: &Text) -> bool {
        self.has_endpoints() || self.command.is_some() || self.joins_from_elsewhere(name)
    }

    /// Whether nothing says what it runs but which releases are admitted.
    fn joins_from_elsewhere(&self, name: &Text) -> bool {
        let has_releases = self.attestation.as_ref().is_some_and(|written| match &written.value {
            WordOr::Larger(attestation) => attestation.releases.is_some(),
            WordOr::Word(_) => false,
        });
        has_releases && self.builtin.is_none() && Builtin::of_name(&name.value).is_none()
    }

    /// Where a key stands that means nothing to replicas that are started elsewhere.
    fn only_where_started(&self) -> impl Iterator<Item = (Origin, &'static str)> {
        let restart = self.restart.as_ref().map_or(Origin::Default, |restart| restart.referenced.into());
        let rollout = self.rollout.as_ref().map_or(Origin::Default, |rollout| rollout.referenced.into());
        [(restart, "restart"), (rollout, "rollout"), (self.grace.origin, "drain.grace")]
            .into_iter()
            .filter(|(origin, _)| *origin != Origin::Default)
    }

    /// Where a key stands that means nothing to endpoints, with its name and why.
    fn only_for_processes(&self) -> impl Iterator<Item = (Origin, &'static str, &'static str)> {
        let written = |origin| (origin != Origin::Default).then_some(origin);
        let spanned = |place| written(Origin::from(place));
        let list =
            |list: &Option<Spanned<Vec<Text>>>| list.as_ref().and_then(|list| spanned(list.referenced));
        let [(env, _), (directory, _), (resources, _)] = self.beside_command.written();
        [
            (
                self.builtin.as_ref().and_then(|builtin| written(builtin.origin)),
                "builtin",
                "a service runs a built-in one or has endpoints, not both",
            ),
            (list(&self.command), "command", "a service is started by a command or has endpoints, not both"),
            (written(env), "env", "endpoints are not started here"),
            (written(directory), "workingDirectory", "endpoints are not started here"),
            (written(resources), "resources", "endpoints are not started here"),
            (
                list(&self.secrets),
                "secrets",
                "endpoints do not join the mesh, and secrets are handed over there",
            ),
            (list(&self.allow), "allow", "nothing inside the mesh calls endpoints"),
            (written(self.replicas.origin), "replicas", "every endpoint is one replica"),
            (
                self.config.as_ref().and_then(|config| spanned(config.referenced)),
                "config",
                "endpoints are not started here, so nothing can be handed to them",
            ),
            (
                written(self.config_reload.origin),
                "configReload",
                "endpoints are not started here, so nothing can be handed to them",
            ),
            (written(self.grace.origin), "drain.grace", "endpoints are not stopped here"),
            (
                self.restart.as_ref().and_then(|restart| spanned(restart.referenced)),
                "restart",
                "endpoints are not started here, and not again either",
            ),
            (
                self.rollout.as_ref().and_then(|rollout| spanned(rollout.referenced)),
                "rollout",
                "endpoints are not started here; `traffic.weights` moves calls from one version to another",
            ),
            (written(self.start_timeout.origin), "startTimeout", "endpoints are not started here"),
        ]
        .into_iter()
        .filter_map(|(origin, key, why)| origin.map(|origin| (origin, key, why)))
    }
}

impl Checker {
    pub(super) fn runs(
        &mut self,
        key: &str,
        name: &Text,
        name_valid: bool,
        version: &Arc<str>,
        raw: RawRuns,
        file: &mut WholeFile<'_>,
    ) -> Option<Runs> {
        if raw.has_endpoints() {
            return Some(Runs::Endpoints(self.served_by_endpoints(key, name, version, raw)));
        }
        let program = match raw.command {
            Some(command) => Some(self.program(key, raw.builtin, command, raw.beside_command, file.base_dir)),
            None => {
                self.only_beside_command(key, &raw.beside_command);
                if raw.joins_from_elsewhere(name) {
                    self.started_elsewhere(key, &raw);
                    Some(Program::Elsewhere)
                } else {
                    self.builtin(name, name_valid, raw.builtin).map(Program::Builtin)
                }
            }
        };
        let builtin = match program {
            Some(Program::Builtin(builtin)) => Some(builtin),
            Some(Program::Command(_) | Program::Elsewhere) | None => None,
        };
        let replicas = self.whole(&format!("{key}.replicas"), raw.replicas, 0..=MAX_REPLICAS);
        let config = self.config(key, builtin, raw.config);
        let config_reload = self.config_reload(key, builtin, raw.config_reload);
        let secrets = self.secrets_of_service(key, raw.secrets);
        let allow = self.allow(key, raw.allow, &file.names);
        let attestation = self.attestation(key, name.origin, raw.attestation, &mut file.releases);
        let grace = self.duration(&format!("{key}.drain.grace"), raw.grace);
        let restart = self.restart(&format!("{key}.restart"), raw.restart.map(|written| written.value));
        let (rollout, written) = match raw.rollout {
            Some(written) => (written.value, written.referenced.into()),
            None => (RawRollout::default(), Origin::Default),
        };
        let rollout = self.rollout(&format!("{key}.rollout"), rollout, written);
        let start_timeout = self.duration(&format!("{key}.startTimeout"), raw.start_timeout);
        Some(Runs::Process(Box::new(ProcessSettings {
            program: program?,
            replicas,
            config,
            config_reload,
            secrets,
            allow,
            attestation,
            grace,
            restart,
            rollout,
            start_timeout,
        })))
    }

    fn program(
        &mut self,
        key: &str,
        builtin: Option<Field<Builtin>>,
        command: Spanned<Vec<Text>>,
        beside: BesideCommand,
        base_dir: &Path,
    ) -> Program {
        if let Some(builtin) = builtin {
            self.wrong(
                builtin.origin,
                format!("{key}.builtin: a service runs a built-in one or a command, not both"),
                Some("keep one of the two".to_owned()),
            );
        }
        Program::Command(self.command(key, command, beside, base_dir))
    }

    fn only_beside_command(&mut self, key: &str, beside: &BesideCommand) {
        for (origin, name) in beside.written().into_iter().filter(|(origin, _)| *origin != Origin::Default) {
            let message = format!("{key}.{name}: only a service with `command` has this");
            self.wrong(origin, message, Some(format!("leave `{name}` out")));
        }
    }

    fn started_elsewhere(&mut self, key: &str, raw: &RawRuns) {
        for (origin, unused) in raw.only_where_started() {
            let message = format!(
                "{key}.{unused}: its replicas are started and stopped elsewhere, by `serviceos exec`"
            );
            self.wrong(
                origin,
                message,
                Some(format!("leave `{unused}` out, or write `command` to have them started here")),
            );
        }
    }

    /// Who may call the service inside the mesh. `names` are those of all services of the file.
    fn allow(
        &mut self,
        key: &str,
        written: Option<Spanned<Vec<Text>>>,
        names: &BTreeSet<String>,
    ) -> BTreeSet<ServiceName> {
        let key = format!("{key}.allow");
        let mut callers = BTreeSet::new();
        for name in written.into_iter().flat_map(|written| written.value) {
            if names.contains(&name.value) {
                self.once(&key, name, &mut callers);
                continue;
            }
            let near = || nearest(&name.value, names.iter().map(String::as_str));
            let help = match (self.findings.len() < MAX_COMPARED).then(near).flatten() {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name services of this file".to_owned(),
            };
            let message = format!("{key}: there is no service {}", quoted(&name.value));
            self.wrong(name.origin, message, Some(help));
        }
        // A name that is none is wrong where the service stands.
        callers.iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn served_by_endpoints(
        &mut self,
        key: &str,
        name: &Text,
        version: &Arc<str>,
        raw: RawRuns,
    ) -> Vec<EndpointSettings> {
        for (origin, unused, why) in raw.only_for_processes() {
            self.wrong(origin, format!("{key}.{unused}: {why}"), Some(format!("leave `{unused}` out")));
        }
        self.attestation_of_endpoints(key, name.origin, raw.attestation);
        if let (Some(_), Some(set)) = (&raw.endpoints, &raw.endpoint_set) {
            self.wrong(
                set.referenced.into(),
                format!("{key}: `endpoints` and `endpointSet` are two ways to write the same"),
                Some("keep one of the two".to_owned()),
            );
        }
        let plain = raw.endpoints.map(|list| self.endpoints(&format!("{key}.endpoints"), list, version));
        let set = raw.endpoint_set.map(|set| self.endpoint_set(&format!("{key}.endpointSet"), set, version));
        plain.or(set).unwrap_or_default()
    }

    /// What the service runs: the built-in one of its name, or the one that it writes.
    fn builtin(&mut self, name: &Text, name_valid: bool, written: Option<Field<Builtin>>) -> Option<Builtin> {
        let own = Builtin::of_name(&name.value);
        let Some(field) = written else {
            if own.is_none() && name_valid {
                self.missing_builtin(name);
            }
            return own;
        };
        let origin = field.origin;
        let written = self.value(&format!("services.{}.builtin", name.value), field)?;
        if own.is_some_and(|own| own != written) {
            self.wrong(
                origin,
                format!(
                    "services.{0}.builtin: a service named {0} runs the built-in {0}, found `{1}`",
                    name.value,
                    written.name()
                ),
                Some(format!("give a service that runs {} another name", written.name())),
            );
        }
        Some(written)
    }

    fn missing_builtin(&mut self, name: &Text) {
        let meant = nearest(&name.value, Builtin::ALL.map(Builtin::name));
        let meant = meant.map_or(String::new(), |meant| format!("did you mean `{meant}`? "));
        self.wrong(
            name.origin,
            format!("services.{}: nothing says what it runs", name.value),
            Some(format!("{meant}the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere")),
        );
    }

    fn config(
        &mut self,
        key: &str,
        builtin: Option<Builtin>,
        written: Option<Spanned<serde_json::Value>>,
    ) -> serde_json::Value {
        let Some(config) = written else { return serde_json::Value::Object(serde_json::Map::new()) };
        let bytes = config.value.to_string().len();
        if !config.value.is_object() {
            let found = match &config.value {
                serde_json::Value::Array(_) => "a list".to_owned(),
                other => quoted(&other.to_string()),
            };
            let message = format!("{key}.config: expected a mapping, found {found}");
            self.wrong(Origin::from(config.referenced), message, None);
        } else if bytes > MAX_CONFIG_BYTES {
            let message =
                format!("{key}.config: expected at most {MAX_CONFIG_BYTES} bytes of JSON, found {bytes}");
            self.wrong(Origin::from(config.referenced), message, None);
        } else if let Some(Err(reason)) = builtin.map(|builtin| (self.config_check)(builtin, &config.value)) {
            self.wrong(Origin::from(config.referenced), format!("{key}.config.{reason}"), None);
        } else if self.is_production() && builtin.is_some() && config.value.get(LOOPBACK_KEY).is_some() {
            let message = format!(
                "{key}.config.{LOOPBACK_KEY}: ports of this machine are opened in development only, and production refuses it"
            );
            self.wrong(Origin::from(config.referenced), message, Some("leave it out".to_owned()));
        }
        config.value
    }

    fn config_reload(
        &mut self,
        key: &str,
        builtin: Option<Builtin>,
        written: Field<ConfigReload>,
    ) -> ConfigReload {
        if builtin.is_some() && written.origin != Origin::Default {
            let message = format!("{key}.configReload: a built-in service is told of its `config` by itself");
            self.wrong(written.origin, message, Some("leave `configReload` out".to_owned()));
        }
        self.value(&format!("{key}.configReload"), written).unwrap_or(ConfigReload::File)
    }

    fn restart(&mut self, key: &str, raw: Option<RawRestart>) -> Restart {
        let raw = raw.unwrap_or_default();
        let [min, max] = self.ordered(key, ("min", raw.min), ("max", raw.max));
        Restart { min, max, reset_after: self.duration(&format!("{key}.resetAfter"), raw.reset_after) }
    }
}
