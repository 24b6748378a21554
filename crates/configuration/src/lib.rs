//! Configuration: the YAML file in, validated settings out, with errors that point at the line.
//!
//! A file takes three steps. `raw` reads it with serde, where only the shape can fail; `check` turns what was
//! written into [`Settings`] and collects everything that is wrong with it; `report` shows what was found. Nothing
//! here starts, binds or writes anything, and the configuration of a service (`config:`) is passed on
//! unread, judged only by the check that the caller brings along.

mod builtin;
mod check;
mod load;
mod nearest;
mod raw;
mod report;
mod restart_needed;
mod scalar;
mod settings;
mod syntax;

pub use load::{ConfigCheck, MAX_FILE_BYTES, Overrides, any_config, cores, from_bytes, load, parse, read};
pub use report::LoadError;
pub use settings::{
    AttestationSettings, BalancingPolicy, Builtin, CertificateFiles, Circuit, CommandSettings, ConfigReload,
    EndpointSettings, GatewayLimits, GatewaySettings, GenerateType, HashOn, HealthCheck, HostPattern,
    LoadBalancing, LogFormat, MAX_CONFIG_BYTES, Measurement, Outlier, Percent, PlatformAllow,
    PlatformSettings, Probe, ProcessSettings, Program, Protocol, Rate, ReleaseSettings, Releases, Restart,
    Retry, RetryOn, RouteAccess, RouteSettings, Runs, Scheme, SecretSettings, ServiceSettings, Settings,
    SgxRelease, Sticky, TcbSettings, TcbStatus, Telemetry, TierSettings, TlsSettings, Traffic,
};

#[cfg(test)]
mod tests;
