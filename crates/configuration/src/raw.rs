//! The file as it is written: its keys, and the only place where defaults live.
//!
//! Nothing is judged here but the shape. A null stands for all defaults wherever a mapping may stand, so that `datafeed:`
//! alone is a service, and for an empty list wherever a list may: one whose items are all commented out has none.

mod attestation;
mod authentication;
mod gateway;
mod rollout;
mod service;
mod store;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use types::{ByteSize, Mode};

use crate::scalar::{AccessLog, Field, Spanned, StoreWord, Text, Whole, WordOr};
use crate::settings::{GenerateType, LogFormat};

pub(crate) use attestation::{
    RawAttestation, RawNitro, RawPlatform, RawRelease, RawSevSnp, RawSgx, RawTcb, RawTdx,
};
pub(crate) use authentication::{RawAuthentication, RawClientCertificates, RawIssuer};
pub(crate) use gateway::{RawCertificate, RawGateway, RawLimit, RawLimits, RawRateLimits, RawTier, RawTls};
pub(crate) use rollout::{RawGate, RawRollout, RawStep};
pub(crate) use service::{
    RawCircuit, RawEndpoint, RawHealthCheck, RawLoadBalancing, RawMatch, RawOpenApi, RawOutlier, RawRequest,
    RawResources, RawRestart, RawRetry, RawRoute, RawService, RawTraffic,
};
pub(crate) use store::{RawStore, RawStoreTls};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawFile {
    pub(crate) mode: Field<Mode>,
    pub(crate) trust_domain: Text,
    pub(crate) data_dir: Text,
    /// The host's name, as far as it can be one.
    pub(crate) node: Option<Text>,
    /// In the data directory.
    pub(crate) store: Option<Spanned<WordOr<StoreWord, RawStore>>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) gateway: RawGateway,
    #[serde(deserialize_with = "or_default")]
    pub(crate) admin: RawAdmin,
    #[serde(deserialize_with = "or_default")]
    pub(crate) mesh: RawMesh,
    #[serde(deserialize_with = "or_default")]
    pub(crate) telemetry: RawTelemetry,
    #[serde(deserialize_with = "or_default")]
    pub(crate) secrets: Entries<Option<RawSecret>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) services: Entries<Option<RawService>>,
}

impl Default for RawFile {
    fn default() -> Self {
        Self {
            mode: Field::default_of(Mode::Development),
            trust_domain: Text::default_of("serviceos.dev.invalid"),
            data_dir: Text::default_of(".serviceos"),
            node: None,
            store: None,
            gateway: RawGateway::default(),
            admin: RawAdmin::default(),
            mesh: RawMesh::default(),
            telemetry: RawTelemetry::default(),
            secrets: Entries::default(),
            services: Entries::default(),
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawAdmin {
    pub(crate) listen: Field<SocketAddr>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { listen: loopback(7070) }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawMesh {
    pub(crate) listen: Field<SocketAddr>,
}

impl Default for RawMesh {
    fn default() -> Self {
        Self { listen: loopback(7071) }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawSecret {
    #[serde(deserialize_with = "written")]
    pub(crate) generate: Option<Spanned<RawGenerate>>,
    /// Left out: only by hand.
    pub(crate) rotate: Option<Field<Duration>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawGenerate {
    pub(crate) r#type: Option<Field<GenerateType>>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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

/// A mapping whose keys are the file's own words, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Entries<T>(pub(crate) Vec<(Text, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (&key.value, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": generator.subschema_for::<T>()})
    }
}

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<Text, T>()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// For what is off when it is left out: a null is not left out, it is all defaults.
fn written<'de, D, T>(deserializer: D) -> Result<Option<Spanned<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let Spanned { value, referenced } = Spanned::<Option<T>>::deserialize(deserializer)?;
    Ok(Some(Spanned { value: value.unwrap_or_default(), referenced }))
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
