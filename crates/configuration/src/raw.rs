//! The file as it is written: its keys, and the only place where defaults live.
//!
//! Nothing is judged here but the shape. A null stands for all defaults wherever a mapping or a list may stand, so
//! that `datafeed:` alone is a service.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;
use types::ByteSize;

use crate::scalar::{AccessLog, Field, Mode, Text, Whole, Workers};
use crate::settings::{Builtin, LogFormat};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawFile {
    pub(crate) mode: Field<Mode>,
    pub(crate) trust_domain: Text,
    pub(crate) data_dir: Text,
    #[serde(deserialize_with = "or_default")]
    pub(crate) gateway: RawGateway,
    #[serde(deserialize_with = "or_default")]
    pub(crate) admin: RawAdmin,
    #[serde(deserialize_with = "or_default")]
    pub(crate) telemetry: RawTelemetry,
    #[serde(deserialize_with = "or_default")]
    pub(crate) services: RawServices,
}

impl Default for RawFile {
    fn default() -> Self {
        Self {
            mode: Field::default_of(Mode::Development),
            trust_domain: Text::default_of("serviceos.dev.invalid"),
            data_dir: Text::default_of(".serviceos"),
            gateway: RawGateway::default(),
            admin: RawAdmin::default(),
            telemetry: RawTelemetry::default(),
            services: RawServices::default(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawGateway {
    #[serde(deserialize_with = "or_default_listen")]
    pub(crate) listen: Vec<Field<SocketAddr>>,
    pub(crate) workers: Field<Workers>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) limits: RawLimits,
}

impl Default for RawGateway {
    fn default() -> Self {
        Self {
            listen: vec![loopback(8080)],
            workers: Field::default_of(Workers::OnePerCore),
            limits: RawLimits::default(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawLimits {
    pub(crate) header_bytes: Field<ByteSize>,
    pub(crate) headers: Field<Whole>,
    pub(crate) url_bytes: Field<ByteSize>,
    pub(crate) body_bytes: Field<ByteSize>,
    pub(crate) header_timeout: Field<Duration>,
    pub(crate) idle_timeout: Field<Duration>,
    pub(crate) request_timeout: Field<Duration>,
    pub(crate) connections: Field<Whole>,
    pub(crate) requests: Field<Whole>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            header_bytes: kibibytes(64),
            headers: whole(100),
            url_bytes: kibibytes(8),
            body_bytes: kibibytes(1024),
            header_timeout: seconds(10),
            idle_timeout: seconds(300),
            request_timeout: seconds(15),
            connections: whole(10_000),
            requests: whole(10_000),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawAdmin {
    pub(crate) listen: Field<SocketAddr>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { listen: loopback(7070) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTelemetry {
    pub(crate) logs: Field<LogFormat>,
    pub(crate) access_log: Field<AccessLog>,
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self {
            logs: Field::default_of(LogFormat::Text),
            access_log: Field::default_of(AccessLog::Path("logs/access.jsonl".to_owned())),
        }
    }
}

/// Services in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawServices(pub(crate) Vec<(Text, RawService)>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawService {
    pub(crate) version: Text,
    pub(crate) replicas: Field<Whole>,
    pub(crate) required: Field<bool>,
    /// The built-in one of the service's name, if there is one.
    pub(crate) builtin: Option<Field<Builtin>>,
    /// An empty object.
    pub(crate) config: Option<Spanned<serde_json::Value>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) health_check: RawHealthCheck,
    /// The routes of the built-in one, or everything under `/<name>`.
    pub(crate) routes: Option<Vec<Spanned<RawRoute>>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) retry: RawRetry,
    #[serde(deserialize_with = "or_default")]
    pub(crate) drain: RawDrain,
    #[serde(deserialize_with = "or_default")]
    pub(crate) restart: RawRestart,
    pub(crate) start_timeout: Field<Duration>,
}

impl Default for RawService {
    fn default() -> Self {
        Self {
            version: Text::default_of("1.0.0"),
            replicas: whole(1),
            required: Field::default_of(true),
            builtin: None,
            config: None,
            health_check: RawHealthCheck::default(),
            routes: None,
            retry: RawRetry::default(),
            drain: RawDrain::default(),
            restart: RawRestart::default(),
            start_timeout: seconds(60),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawHealthCheck {
    pub(crate) path: Text,
    pub(crate) interval: Field<Duration>,
    pub(crate) timeout: Field<Duration>,
    pub(crate) healthy_threshold: Field<Whole>,
    pub(crate) unhealthy_threshold: Field<Whole>,
}

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self {
            path: Text::default_of("/health"),
            interval: seconds(10),
            timeout: seconds(5),
            healthy_threshold: whole(1),
            unhealthy_threshold: whole(3),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRoute {
    #[serde(deserialize_with = "or_default")]
    pub(crate) r#match: RawMatch,
    #[serde(deserialize_with = "or_default")]
    pub(crate) scopes: Vec<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) request: RawRequest,
    pub(crate) timeout: Option<Field<Duration>>,
    pub(crate) public: Field<bool>,
    pub(crate) strip_prefix: Field<bool>,
}

impl Default for RawRoute {
    fn default() -> Self {
        Self {
            r#match: RawMatch::default(),
            scopes: Vec::new(),
            request: RawRequest::default(),
            timeout: None,
            public: Field::default_of(false),
            strip_prefix: Field::default_of(false),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawMatch {
    pub(crate) path: Option<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) methods: Vec<Text>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRequest {
    pub(crate) body_bytes: Option<Field<ByteSize>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRetry {
    pub(crate) attempts: Field<Whole>,
    pub(crate) per_try_timeout: Field<Duration>,
}

impl Default for RawRetry {
    fn default() -> Self {
        Self { attempts: whole(1), per_try_timeout: seconds(2) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawDrain {
    pub(crate) timeout: Field<Duration>,
    pub(crate) grace: Field<Duration>,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self { timeout: seconds(30), grace: seconds(10) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRestart {
    pub(crate) min: Field<Duration>,
    pub(crate) max: Field<Duration>,
    pub(crate) reset_after: Field<Duration>,
}

impl Default for RawRestart {
    fn default() -> Self {
        Self {
            min: Field::default_of(Duration::from_millis(100)),
            max: seconds(30),
            reset_after: seconds(60),
        }
    }
}

impl<'de> Deserialize<'de> for RawServices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ServicesVisitor)
    }
}

struct ServicesVisitor;

impl<'de> Visitor<'de> for ServicesVisitor {
    type Value = RawServices;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping of service names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawServices, A::Error> {
        let mut services = Vec::new();
        while let Some((name, service)) = entries.next_entry::<Text, Option<RawService>>()? {
            services.push((name, service.unwrap_or_default()));
        }
        Ok(RawServices(services))
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn or_default_listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Field<SocketAddr>>, D::Error> {
    let written = Option::<Vec<Field<SocketAddr>>>::deserialize(deserializer)?;
    Ok(written.unwrap_or_else(|| RawGateway::default().listen))
}

fn loopback(port: u16) -> Field<SocketAddr> {
    Field::default_of(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn whole(number: i128) -> Field<Whole> {
    Field::default_of(Whole(number))
}

fn seconds(number: u64) -> Field<Duration> {
    Field::default_of(Duration::from_secs(number))
}

fn kibibytes(number: u64) -> Field<ByteSize> {
    Field::default_of(ByteSize(number * 1024))
}
