//! The validated settings: what the rest of the system reads. Nothing here can be out of range.

mod attestation;
mod authentication;
mod policies;
mod request;
mod rollout;
mod service;
mod shared_limits;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use types::{ByteSize, Mode, NodeName};

pub use attestation::{
    AttestationSettings, Measurement, PlatformAllow, PlatformSettings, ReleaseSettings, Releases, SgxRelease,
    TcbSettings, TcbStatus,
};
pub use authentication::{
    Authentication, CertificateSettings, IssuerSettings, JwksSource, Placed, SignedRequests, TenantOf,
    TokenAlgorithm,
};
pub use policies::{
    BalancingPolicy, CallerName, Circuit, HashOn, HealthCheck, LoadBalancing, Outlier, Percent, Probe, Retry,
    RetryOn, Sticky, Traffic,
};
pub use request::{ContentRule, Line, RequestSettings, RuleFile};
pub use rollout::{CanaryGate, CanaryStep, Rollout, RolloutStrategy};
pub use service::{
    Builtin, CommandSettings, ConfigReload, Cpus, EndpointSettings, HostPattern, MAX_CONFIG_BYTES,
    ProcessSettings, Program, Protocol, Resources, Restart, RouteAccess, RouteSettings, Runs, Scheme,
    ServiceSettings,
};
pub use shared_limits::{OnSharedFailure, SharedLimitSettings};
pub use store::{ClientTlsFiles, EtcdLogin, EtcdStore, StoreSettings};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whose roots judge evidence.
    pub mode: Mode,
    /// The trust domain of every identity, such as `serviceos.dev.invalid`. It ends in `.dev.invalid` in development and never
    /// in production.
    pub trust_domain: String,
    /// Where state lives; absolute.
    pub data_dir: PathBuf,
    /// The name of this machine in the mesh. Without one, its host name.
    pub node: Option<NodeName>,
    /// Where keys, secrets and what was decided are kept.
    pub store: StoreSettings,
    /// The Edge Gateway.
    pub gateway: GatewaySettings,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Where replicas join the mesh.
    pub mesh: SocketAddr,
    /// Logs.
    pub telemetry: Telemetry,
    /// The secrets that are made inside, by name.
    pub secrets: BTreeMap<String, SecretSettings>,
    /// The services in the order of the file; at least one.
    pub services: Vec<ServiceSettings>,
}

/// A secret that is made inside and never seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSettings {
    /// What is made.
    pub generate: GenerateType,
    /// After how long a new epoch is made, an hour to ten years; only by hand when there is none.
    pub rotate: Option<Duration>,
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerateType {
    /// A private key of Ed25519.
    Ed25519,
    /// A private key of P-256.
    P256,
    /// Random bytes.
    Random,
}

/// The Edge Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// Where clients connect; at least one, no two the same (port 0 may repeat).
    pub listen: Vec<SocketAddr>,
    /// Worker threads; one per core unless the file says otherwise.
    pub workers: NonZeroUsize,
    /// TLS on every one of its listeners, or none.
    pub tls: Option<TlsSettings>,
    /// Who begins its connections with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits of every client connection and request.
    pub limits: GatewayLimits,
    /// The credentials that are taken.
    pub authentication: Authentication,
    /// How often clients may call.
    pub rate_limits: RateLimitSettings,
}

/// TLS of the gateway. Whether the files can be read and hold what they should is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where it stands.
    pub line: Line,
    /// Chosen by the name that the client asks for; at least one, the first for every other name.
    pub certificates: Vec<CertificateFiles>,
    /// Whose certificates clients may show; absolute.
    pub client_ca: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate with its chain, in PEM; absolute.
    pub certificate: PathBuf,
    /// Its private key, in PEM; absolute.
    pub key: PathBuf,
}

/// How often clients may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// From one address, or from one /64 in IPv6; without a limit where there is none.
    pub per_address: Option<LimitSettings>,
    /// How often one address may present a credential that is refused.
    pub failed_authentication: LimitSettings,
    /// The tiers of the file, by name: added to the built-in ones or in the place of one of them, never of `unlimited`.
    pub tiers: BTreeMap<String, TierSettings>,
    /// Where several gateways count together; each by itself where there is nothing.
    pub shared: Option<SharedLimitSettings>,
}

/// A rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// In the long run.
    pub rate: Rate,
    /// At once, after a pause; from 1 to [`Rate::MAX_COUNT`].
    pub burst: u32,
}

/// How often a caller of a tier may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierSettings {
    /// In the long run and at once.
    pub limit: LimitSettings,
    /// A day in UTC, from 1 to [`Rate::MAX_COUNT`]; without a quota where there is none.
    pub daily: Option<u32>,
}

/// So many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// From 1 to [`Rate::MAX_COUNT`].
    pub count: u32,
    /// A second, a minute, an hour or a day.
    pub per: Duration,
}

impl Rate {
    /// The highest count: one for each nanosecond of the shortest period, so that the time between two is never zero.
    pub const MAX_COUNT: u32 = 1_000_000_000;
    /// What stands for a rate that could not be read, in settings that nobody gets.
    pub(crate) const SLOWEST: Self = Self { count: 1, per: Duration::from_secs(86_400) };
}

/// Limits of client connections and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayLimits {
    /// All header lines of a request together, 256 B to 512 KiB.
    pub header_bytes: ByteSize,
    /// Header lines of a request, 1 to 1,000.
    pub headers: usize,
    /// The request target, 64 B to 32 KiB.
    pub url_bytes: ByteSize,
    /// A request body, unless the route says otherwise; 1 B to 1 TiB.
    pub body_bytes: ByteSize,
    /// From the first byte a connection waits for until its request head is complete.
    pub header_timeout: Duration,
    /// Between two bytes of a body.
    pub idle_timeout: Duration,
    /// From the request head until the response head, unless the route says otherwise.
    pub request_timeout: Duration,
    /// Open client connections of the whole process, 1 to 1,000,000.
    pub connections: usize,
    /// Requests in flight in the whole process, 1 to 1,000,000.
    pub requests: usize,
}

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// The form of the process's own log on standard error.
    pub logs: LogFormat,
    /// The access log; absolute, or none when the file says `accessLog: off`.
    pub access_log: Option<PathBuf>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one JSON object a line.
    Json,
}
