//! Configuration: the YAML file in, validated settings out, with errors that point at the line.
//!
//! A file takes three steps. `raw` reads it with serde, where only the shape can fail; `check` turns what was
//! written into [`Settings`] and collects everything that is wrong with it; `report` shows what was found. Beside them
//! `meaning` says in what two files differ, and `schema` what may stand in one. Nothing
//! here starts, binds or writes anything, and the configuration of a service (`config:`) is passed on
//! unread, judged only by the check that the caller brings along.

mod builtin;
mod check;
mod load;
mod meaning;
mod nearest;
mod raw;
mod report;
mod restart_needed;
mod scalar;
mod scaling;
mod schema;
mod settings;
mod spec;
mod syntax;
mod unknown_keys;

pub use load::{
    ConfigCheck, Document, MAX_FILE_BYTES, Overrides, any_config, any_document, cores, from_bytes, load,
    meaning, parse, read,
};
pub use meaning::{Difference, Meaning};
pub use nearest::nearest;
pub use report::{LoadError, Mistake};
pub use scaling::{with_replicas, with_spec_of};
pub use schema::schema;
pub use settings::{
    AttestationSettings, Authentication, BalancingPolicy, Builtin, CallerName, CanaryGate, CanaryStep,
    CertificateFiles, CertificateSettings, Circuit, ClientTlsFiles, CommandSettings, ConfigReload,
    ContentRule, Cpus, EndpointSettings, EtcdLogin, EtcdStore, GatewayLimits, GatewaySettings, GenerateType,
    HashOn, HealthCheck, HostPattern, IssuerSettings, JwksSource, LimitSettings, Line, LoadBalancing,
    LogFormat, MAX_CONFIG_BYTES, Measurement, OnSharedFailure, Outlier, Percent, Placed, PlatformAllow,
    PlatformSettings, Probe, ProcessSettings, Program, Protocol, Rate, RateLimitSettings, ReleaseSettings,
    Releases, RequestSettings, Resources, Restart, Retry, RetryOn, Rollout, RolloutStrategy, RouteAccess,
    RouteSettings, RuleFile, Runs, Scheme, SecretSettings, ServiceSettings, Settings, SgxRelease,
    SharedLimitSettings, SignedRequests, Sticky, StoreSettings, TcbSettings, TcbStatus, Telemetry, TenantOf,
    TierSettings, TlsSettings, TokenAlgorithm, Traffic,
};

#[cfg(test)]
mod tests;
