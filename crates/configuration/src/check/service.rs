//! One service: its name, what it runs, and how its replicas are kept.

use types::{NameError, ServiceName};

use super::Checker;
use super::routes::RouteTable;
use crate::nearest::nearest;
use crate::raw::{RawHealthCheck, RawService, RawServices};
use crate::report::Origin;
use crate::scalar::{Field, Text, quoted};
use crate::settings::{Builtin, Drain, HealthCheck, Restart, Retry, ServiceSettings};

/// The most replicas of one service.
const MAX_REPLICAS: i128 = 1_000;
/// The most additional tries of a call.
const MAX_ATTEMPTS: i128 = 5;
/// Results in a row that change a replica's health.
const MAX_THRESHOLD: i128 = 1_000;
/// The longest label of a version, in bytes.
const MAX_VERSION_BYTES: usize = 40;
/// The longest path of a health check, in bytes.
const MAX_PATH_BYTES: usize = 512;

impl Checker {
    pub(super) fn services(&mut self, raw: RawServices) -> Vec<ServiceSettings> {
        if raw.0.is_empty() {
            self.no_services();
        }
        let mut table = RouteTable::default();
        raw.0.into_iter().filter_map(|(name, service)| self.service(&name, service, &mut table)).collect()
    }

    fn service(&mut self, name: &Text, raw: RawService, table: &mut RouteTable) -> Option<ServiceSettings> {
        let key = format!("services.{}", name.value);
        let parsed = self.name(name);
        let builtin = self.builtin(name, parsed.is_some(), raw.builtin);
        let version = self.version(&key, raw.version);
        let replicas = self.whole(&format!("{key}.replicas"), raw.replicas, 0..=MAX_REPLICAS);
        let required = self.flag(&format!("{key}.required"), raw.required);
        let config = self.config(&key, builtin, raw.config);
        let health_check = self.health_check(&format!("{key}.healthCheck"), raw.health_check);
        let retry = Retry {
            attempts: self.whole(&format!("{key}.retry.attempts"), raw.retry.attempts, 0..=MAX_ATTEMPTS),
            per_try_timeout: self.duration(&format!("{key}.retry.perTryTimeout"), raw.retry.per_try_timeout),
        };
        let drain = Drain {
            timeout: self.duration(&format!("{key}.drain.timeout"), raw.drain.timeout),
            grace: self.duration(&format!("{key}.drain.grace"), raw.drain.grace),
        };
        let [min, max] =
            self.ordered(&format!("{key}.restart"), ("min", raw.restart.min), ("max", raw.restart.max));
        let reset_after = self.duration(&format!("{key}.restart.resetAfter"), raw.restart.reset_after);
        let start_timeout = self.duration(&format!("{key}.startTimeout"), raw.start_timeout);
        let routes = self.routes(&key, name.origin, parsed.as_ref(), raw.routes, table);
        Some(ServiceSettings {
            name: parsed?,
            version,
            replicas,
            required,
            builtin: builtin?,
            config,
            health_check,
            routes,
            retry,
            drain,
            restart: Restart { min, max, reset_after },
            start_timeout,
        })
    }

    fn name(&mut self, name: &Text) -> Option<ServiceName> {
        match name.value.parse() {
            Ok(parsed) => Some(parsed),
            Err::<_, NameError>(error) => {
                self.wrong(name.origin, format!("services: {}: {error}", quoted(&name.value)), None);
                None
            }
        }
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
            Some(format!("{meant}the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name")),
        );
    }

    fn version(&mut self, key: &str, version: Text) -> String {
        let visible = version.value.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=MAX_VERSION_BYTES).contains(&version.value.len()) {
            let found = quoted(&version.value);
            let message = format!(
                "{key}.version: expected 1 to {MAX_VERSION_BYTES} visible ASCII characters such as 1.0.0, found {found}"
            );
            self.wrong(version.origin, message, None);
        }
        version.value
    }

    fn config(
        &mut self,
        key: &str,
        builtin: Option<Builtin>,
        written: Option<serde_saphyr::Spanned<serde_json::Value>>,
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

    fn health_check(&mut self, key: &str, raw: RawHealthCheck) -> HealthCheck {
        let path = raw.path.value;
        let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !path.starts_with('/') || !visible || path.len() > MAX_PATH_BYTES {
            let message = format!("{key}.path: expected a path that begins with /, found {}", quoted(&path));
            self.wrong(raw.path.origin, message, None);
        }
        let [timeout, interval] = self.ordered(key, ("timeout", raw.timeout), ("interval", raw.interval));
        let range = 1..=MAX_THRESHOLD;
        HealthCheck {
            path,
            interval,
            timeout,
            healthy_threshold: self.whole(
                &format!("{key}.healthyThreshold"),
                raw.healthy_threshold,
                range.clone(),
            ),
            unhealthy_threshold: self.whole(
                &format!("{key}.unhealthyThreshold"),
                raw.unhealthy_threshold,
                range,
            ),
        }
    }
}
