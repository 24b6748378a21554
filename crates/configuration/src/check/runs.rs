//! Who answers the calls of a service: a built-in one that is started here, or endpoints. Exactly one of the two.

use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::Checker;
use crate::nearest::nearest;
use crate::raw::{RawEndpoint, RawRestart};
use crate::report::Origin;
use crate::scalar::{AttestationWord, Field, Text, Whole, quoted};
use crate::settings::{Builtin, EndpointSettings, ProcessSettings, Restart, Runs};

/// The most replicas of one service.
const MAX_REPLICAS: i128 = 1_000;

/// The keys of a service that say what it runs, and those that only a process has.
pub(super) struct RawRuns {
    pub(super) builtin: Option<Field<Builtin>>,
    pub(super) endpoints: Option<Spanned<Vec<Text>>>,
    pub(super) endpoint_set: Option<Spanned<Vec<Spanned<RawEndpoint>>>>,
    pub(super) attestation: Option<Field<AttestationWord>>,
    pub(super) replicas: Field<Whole>,
    pub(super) config: Option<Spanned<serde_json::Value>>,
    pub(super) grace: Field<Duration>,
    pub(super) restart: Option<Spanned<RawRestart>>,
    pub(super) start_timeout: Field<Duration>,
}

impl RawRuns {
    pub(super) fn has_endpoints(&self) -> bool {
        self.endpoints.is_some() || self.endpoint_set.is_some()
    }

    /// Where a key stands that means nothing to endpoints, with its name and why.
    fn only_for_processes(&self) -> impl Iterator<Item = (Origin, &'static str, &'static str)> {
        let written = |origin| (origin != Origin::Default).then_some(origin);
        let spanned = |place| written(Origin::from(place));
        [
            (
                self.builtin.as_ref().and_then(|builtin| written(builtin.origin)),
                "builtin",
                "a service runs a built-in one or has endpoints, not both",
            ),
            (written(self.replicas.origin), "replicas", "every endpoint is one replica"),
            (
                self.config.as_ref().and_then(|config| spanned(config.referenced)),
                "config",
                "endpoints are not started here, so nothing can be handed to them",
            ),
            (written(self.grace.origin), "drain.grace", "endpoints are not stopped here"),
            (
                self.restart.as_ref().and_then(|restart| spanned(restart.referenced)),
                "restart",
                "endpoints are not started here, and not again either",
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
    ) -> Option<Runs> {
        if raw.has_endpoints() {
            return Some(Runs::Endpoints(self.served_by_endpoints(key, name, version, raw)));
        }
        if let Some(attestation) = &raw.attestation {
            self.wrong(
                attestation.origin,
                format!("{key}.attestation: only a service with endpoints says this"),
                Some("leave it out".to_owned()),
            );
        }
        let builtin = self.builtin(name, name_valid, raw.builtin);
        let replicas = self.whole(&format!("{key}.replicas"), raw.replicas, 0..=MAX_REPLICAS);
        let config = self.config(key, builtin, raw.config);
        let grace = self.duration(&format!("{key}.drain.grace"), raw.grace);
        let restart = self.restart(&format!("{key}.restart"), raw.restart.map(|written| written.value));
        let start_timeout = self.duration(&format!("{key}.startTimeout"), raw.start_timeout);
        let builtin = builtin?;
        Some(Runs::Builtin(ProcessSettings { builtin, replicas, config, grace, restart, start_timeout }))
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
        match raw.attestation {
            Some(attestation) => {
                self.value(&format!("{key}.attestation"), attestation);
            }
            None => self.wrong(
                name.origin,
                format!("{key}: nobody attests endpoints, and the file must say so"),
                Some("write `attestation: none` beside them".to_owned()),
            ),
        }
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
            Some(format!("{meant}the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, and `endpoints` calls servers of your own")),
        );
    }

    fn config(
        &mut self,
        key: &str,
        builtin: Option<Builtin>,
        written: Option<Spanned<serde_json::Value>>,
    ) -> serde_json::Value {
        let Some(config) = written else { return serde_json::Value::Object(serde_json::Map::new()) };
        if !config.value.is_object() {
            let found = match &config.value {
                serde_json::Value::Array(_) => "a list".to_owned(),
                other => quoted(&other.to_string()),
            };
            let message = format!("{key}.config: expected a mapping, found {found}");
            self.wrong(Origin::from(config.referenced), message, None);
        } else if let Some(Err(reason)) = builtin.map(|builtin| (self.config_check)(builtin, &config.value)) {
            self.wrong(Origin::from(config.referenced), format!("{key}.config.{reason}"), None);
        }
        config.value
    }

    fn restart(&mut self, key: &str, raw: Option<RawRestart>) -> Restart {
        let raw = raw.unwrap_or_default();
        let [min, max] = self.ordered(key, ("min", raw.min), ("max", raw.max));
        Restart { min, max, reset_after: self.duration(&format!("{key}.resetAfter"), raw.reset_after) }
    }
}
