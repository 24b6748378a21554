//! The keys of a service.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::ByteSize;

use super::{Entries, RawAttestation, RawLimit, RawRollout, or_default, seconds, whole, written};
use crate::scalar::{
    AttestationWord, CheckWord, Field, PolicyWord, RetryCause, Spanned, Text, Whole, WordOr,
};
use crate::settings::{Builtin, ConfigReload, Cpus, HashOn, Percent, Protocol, Sticky};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawService {
    pub(crate) version: Text,
    pub(crate) replicas: Field<Whole>,
    pub(crate) required: Field<bool>,
    /// Left out: the built-in one of the service's name, if there is one and neither a command nor endpoints are written.
    pub(crate) builtin: Option<Field<Builtin>>,
    #[serde(deserialize_with = "written")]
    pub(crate) command: Option<Spanned<Vec<Text>>>,
    /// Left out: an empty environment.
    #[serde(deserialize_with = "written")]
    pub(crate) env: Option<Spanned<Entries<Text>>>,
    pub(crate) working_directory: Text,
    /// Left out: what the machine has.
    #[serde(deserialize_with = "written")]
    pub(crate) resources: Option<Spanned<RawResources>>,
    #[serde(deserialize_with = "written")]
    pub(crate) endpoints: Option<Spanned<Vec<Text>>>,
    #[serde(deserialize_with = "written")]
    pub(crate) endpoint_set: Option<Spanned<Vec<Spanned<RawEndpoint>>>>,
    /// Left out: in development the release that is measured, with all other defaults; endpoints and production need it written.
    pub(crate) attestation: Option<Spanned<WordOr<AttestationWord, RawAttestation>>>,
    /// Left out: those that a built-in service cannot do without.
    #[serde(deserialize_with = "written")]
    pub(crate) secrets: Option<Spanned<Vec<Text>>>,
    /// Left out: nobody inside the mesh.
    #[serde(deserialize_with = "written")]
    pub(crate) allow: Option<Spanned<Vec<Text>>>,
    pub(crate) protocol: Field<Protocol>,
    /// Left out: an empty object.
    pub(crate) config: Option<Spanned<serde_json::Value>>,
    pub(crate) config_reload: Field<ConfigReload>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) health_check: RawHealthCheck,
    /// Left out: the routes of the built-in one, or everything under `/<name>`.
    #[serde(deserialize_with = "written")]
    pub(crate) routes: Option<Spanned<Vec<Spanned<RawRoute>>>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) load_balancing: RawLoadBalancing,
    /// Left out: no split of versions, and no stickiness.
    #[serde(deserialize_with = "written")]
    pub(crate) traffic: Option<Spanned<RawTraffic>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) retry: RawRetry,
    #[serde(deserialize_with = "or_default")]
    pub(crate) circuit: RawCircuit,
    #[serde(deserialize_with = "or_default")]
    pub(crate) outlier: RawOutlier,
    #[serde(deserialize_with = "or_default")]
    pub(crate) drain: RawDrain,
    /// Left out: all of its defaults.
    #[serde(deserialize_with = "written")]
    pub(crate) restart: Option<Spanned<RawRestart>>,
    /// Left out: all of its defaults.
    #[serde(deserialize_with = "written")]
    pub(crate) rollout: Option<Spanned<RawRollout>>,
    pub(crate) start_timeout: Field<Duration>,
}

impl Default for RawService {
    fn default() -> Self {
        Self {
            version: Text::default_of("1.0.0"),
            replicas: whole(1),
            required: Field::default_of(true),
            builtin: None,
            command: None,
            env: None,
            working_directory: Text::default_of("."),
            resources: None,
            endpoints: None,
            endpoint_set: None,
            attestation: None,
            secrets: None,
            allow: None,
            protocol: Field::default_of(Protocol::Http1),
            config: None,
            config_reload: Field::default_of(ConfigReload::File),
            health_check: RawHealthCheck::default(),
            routes: None,
            load_balancing: RawLoadBalancing::default(),
            traffic: None,
            retry: RawRetry::default(),
            circuit: RawCircuit::default(),
            outlier: RawOutlier::default(),
            drain: RawDrain::default(),
            restart: None,
            rollout: None,
            start_timeout: seconds(60),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawResources {
    /// Left out: without a limit.
    pub(crate) memory: Option<Field<ByteSize>>,
    /// Left out: all of the machine.
    pub(crate) cpus: Option<Field<Cpus>>,
    /// Left out: as many as the system gives a program that asks for no more.
    pub(crate) open_files: Option<Field<Whole>>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawEndpoint {
    pub(crate) url: Option<Text>,
    /// Left out: the service's own.
    pub(crate) version: Option<Text>,
    pub(crate) weight: Field<Whole>,
    pub(crate) priority: Field<Whole>,
    /// It is not said where it stands.
    pub(crate) zone: Option<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) metadata: Entries<Text>,
}

impl Default for RawEndpoint {
    fn default() -> Self {
        Self {
            url: None,
            version: None,
            weight: whole(1),
            priority: whole(0),
            zone: None,
            metadata: Entries::default(),
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawHealthCheck {
    /// Left out: `grpc` for a service that speaks it, else `http`.
    pub(crate) protocol: Option<Field<CheckWord>>,
    pub(crate) path: Text,
    pub(crate) interval: Field<Duration>,
    pub(crate) timeout: Field<Duration>,
    pub(crate) healthy_threshold: Field<Whole>,
    pub(crate) unhealthy_threshold: Field<Whole>,
}

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self {
            protocol: None,
            path: Text::default_of("/health"),
            interval: seconds(10),
            timeout: seconds(5),
            healthy_threshold: whole(1),
            unhealthy_threshold: whole(3),
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRoute {
    #[serde(deserialize_with = "or_default")]
    pub(crate) r#match: RawMatch,
    #[serde(deserialize_with = "or_default")]
    pub(crate) scopes: Vec<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) request: RawRequest,
    /// Left out: the limits of addresses and callers alone.
    #[serde(deserialize_with = "written")]
    pub(crate) rate_limit: Option<Spanned<RawLimit>>,
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
            rate_limit: None,
            timeout: None,
            public: Field::default_of(false),
            strip_prefix: Field::default_of(false),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawMatch {
    /// Left out: every host.
    pub(crate) host: Option<Text>,
    pub(crate) path: Option<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) methods: Vec<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) headers: Entries<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRequest {
    /// Left out: JSON where there is a schema, else anything.
    pub(crate) content_type: Option<Text>,
    pub(crate) body_bytes: Option<Field<ByteSize>>,
    /// A path, or the schema itself. Left out: the content is passed on as it comes.
    #[serde(deserialize_with = "written")]
    pub(crate) schema: Option<Spanned<serde_json::Value>>,
    /// Left out: no operation says what is taken.
    #[serde(deserialize_with = "written")]
    pub(crate) openapi: Option<Spanned<RawOpenApi>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawOpenApi {
    pub(crate) document: Option<Text>,
    pub(crate) operation: Option<Text>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawLoadBalancing {
    pub(crate) policy: Field<PolicyWord>,
    pub(crate) slow_start: Field<Duration>,
    pub(crate) panic_threshold: Field<Percent>,
    pub(crate) hash_on: Option<Field<HashOn>>,
}

impl Default for RawLoadBalancing {
    fn default() -> Self {
        Self {
            policy: Field::default_of(PolicyWord::PeakEwma),
            slow_start: seconds(0),
            panic_threshold: percent(0),
            hash_on: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTraffic {
    /// Left out: no split.
    #[serde(deserialize_with = "written")]
    pub(crate) weights: Option<Spanned<Entries<Field<Whole>>>>,
    pub(crate) header: Text,
    /// Left out: no stickiness.
    pub(crate) sticky: Option<Field<Sticky>>,
    /// Left out: who calls makes no difference.
    #[serde(deserialize_with = "written")]
    pub(crate) callers: Option<Spanned<Entries<Text>>>,
}

impl Default for RawTraffic {
    fn default() -> Self {
        Self { weights: None, header: Text::default_of("Service-Version"), sticky: None, callers: None }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRetry {
    pub(crate) attempts: Field<Whole>,
    pub(crate) per_try_timeout: Field<Duration>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) on: Vec<Field<RetryCause>>,
    pub(crate) budget: Field<Percent>,
}

impl Default for RawRetry {
    fn default() -> Self {
        let causes = [
            RetryCause::Connect,
            RetryCause::Reset,
            RetryCause::Status(502),
            RetryCause::Status(503),
            RetryCause::Status(504),
        ];
        Self {
            attempts: whole(1),
            per_try_timeout: seconds(2),
            on: causes.map(Field::default_of).into(),
            budget: percent(20),
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawCircuit {
    pub(crate) connections: Field<Whole>,
    pub(crate) pending: Field<Whole>,
    pub(crate) requests: Field<Whole>,
}

impl Default for RawCircuit {
    fn default() -> Self {
        Self { connections: whole(1024), pending: whole(1024), requests: whole(1024) }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawOutlier {
    pub(crate) consecutive_failures: Field<Whole>,
    pub(crate) ejection: Field<Duration>,
    pub(crate) max_ejected: Field<Percent>,
}

impl Default for RawOutlier {
    fn default() -> Self {
        Self { consecutive_failures: whole(5), ejection: seconds(30), max_ejected: percent(50) }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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

fn percent(number: u8) -> Field<Percent> {
    Field::default_of(Percent::new(number).expect("every default is at most 100%"))
}
