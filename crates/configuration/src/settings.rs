//! The validated settings: what the rest of the system reads. Nothing here can be out of range.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use types::{ByteSize, ServiceName};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The trust domain of every identity, such as `serviceos.dev.invalid`.
    pub trust_domain: String,
    /// Where state lives; absolute.
    pub data_dir: PathBuf,
    /// The Edge Gateway.
    pub gateway: GatewaySettings,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Logs.
    pub telemetry: Telemetry,
    /// The services in the order of the file; at least one.
    pub services: Vec<ServiceSettings>,
}

/// The Edge Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// Where clients connect; at least one, no two the same (port 0 may repeat).
    pub listen: Vec<SocketAddr>,
    /// Worker threads; one per core unless the file says otherwise.
    pub workers: NonZeroUsize,
    /// Limits of every client connection and request.
    pub limits: GatewayLimits,
}

/// Limits of client connections and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayLimits {
    /// All header lines of a request together.
    pub header_bytes: ByteSize,
    /// Header lines of a request.
    pub headers: usize,
    /// The request target.
    pub url_bytes: ByteSize,
    /// A request body, unless the route says otherwise.
    pub body_bytes: ByteSize,
    /// From the first byte a connection waits for until its request head is complete.
    pub header_timeout: Duration,
    /// Between two bytes of a body.
    pub idle_timeout: Duration,
    /// From the request head until the response head, unless the route says otherwise.
    pub request_timeout: Duration,
    /// Open client connections of the whole process.
    pub connections: usize,
    /// Requests in flight in the whole process.
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

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSettings {
    /// Its name.
    pub name: ServiceName,
    /// The label of its version, such as `1.0.0`; at most 40 visible ASCII characters.
    pub version: String,
    /// How many replicas are wanted, 0 to 1,000.
    pub replicas: u32,
    /// Whether its being down makes the whole unhealthy.
    pub required: bool,
    /// What its replicas run.
    pub builtin: Builtin,
    /// Handed to the replicas as it is; an object.
    pub config: serde_json::Value,
    /// How its replicas are checked.
    pub health_check: HealthCheck,
    /// Where the gateway reaches it.
    pub routes: Vec<RouteSettings>,
    /// Additional tries.
    pub retry: Retry,
    /// How a replica is stopped.
    pub drain: Drain,
    /// How a replica that died is started again.
    pub restart: Restart,
    /// From the start of the process until it must be Ready.
    pub start_timeout: Duration,
}

/// The backend services that ship with ServiceOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// Verifiable randomness.
    Vrf,
    /// Data feeds.
    Datafeed,
    /// The oracle.
    Oracle,
}

/// How replicas are checked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path of the check, beginning with a slash.
    pub path: String,
    /// Between two checks of a replica whose state does not change.
    pub interval: Duration,
    /// Until a check counts as failed; at most `interval`.
    pub timeout: Duration,
    /// Checks passed in a row that make a replica healthy; at least 1.
    pub healthy_threshold: u32,
    /// Checks failed in a row that make a replica unhealthy; at least 1.
    pub unhealthy_threshold: u32,
}

/// One route of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSettings {
    /// A matchit pattern that begins with a slash.
    pub path: String,
    /// The methods it takes, upper case; empty for all.
    pub methods: Vec<String>,
    /// The scopes a caller needs, all of them.
    pub scopes: Vec<String>,
    /// The largest request body, where it differs from the gateway's.
    pub body_bytes: Option<ByteSize>,
    /// Until the response head, where it differs from the gateway's.
    pub timeout: Option<Duration>,
    /// Whether anybody may call.
    pub access: RouteAccess,
    /// Whether the literal beginning of the path (`/name` of `/name/{*rest}`) is taken off before the replica sees it.
    pub strip_prefix: bool,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAccess {
    /// A caller with every scope of the route.
    Callers,
    /// Anybody, with or without a key.
    Public,
}

/// Additional tries of a call on another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Additional tries after a failure that a retry may hide, 0 to 5.
    pub attempts: u32,
    /// How long a try may take while another is still allowed.
    pub per_try_timeout: Duration,
}

/// How a replica is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long requests in flight may take to finish.
    pub timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

/// Back-off of restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The first wait.
    pub min: Duration,
    /// The longest wait; at least `min`.
    pub max: Duration,
    /// How long a replica must have been Ready for the wait to begin at `min` again.
    pub reset_after: Duration,
}
