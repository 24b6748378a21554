//! A service: what it runs, and where the gateway reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use types::{ByteSize, ServiceName};

use super::attestation::AttestationSettings;
use super::policies::{Circuit, HealthCheck, LoadBalancing, Outlier, Retry, Traffic};
use super::{LimitSettings, RequestSettings, Rollout};

/// The most that the `config` of a service may be, in bytes of JSON: it is handed over in one message.
pub const MAX_CONFIG_BYTES: usize = 960 << 10;

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSettings {
    /// Its name.
    pub name: ServiceName,
    /// The label of its version, such as `1.0.0`; at most 40 visible ASCII characters. Endpoints may have others.
    pub version: Arc<str>,
    /// Whether its being down makes the whole unhealthy.
    pub required: bool,
    /// Who answers its calls.
    pub runs: Runs,
    /// What its replicas speak.
    pub protocol: Protocol,
    /// How its replicas are checked.
    pub health_check: HealthCheck,
    /// Where the gateway reaches it.
    pub routes: Vec<RouteSettings>,
    /// How one of its replicas is chosen.
    pub load_balancing: LoadBalancing,
    /// How its calls are divided among versions; `None` when every replica is as good as another.
    pub traffic: Option<Traffic>,
    /// Additional tries.
    pub retry: Retry,
    /// How much goes to it at the same time.
    pub circuit: Circuit,
    /// When failed calls take a replica out.
    pub outlier: Outlier,
    /// How long requests in flight may take to finish when a replica is stopped or taken away.
    pub drain_timeout: Duration,
}

impl ServiceSettings {
    /// The processes that are started for it; `None` for a service with endpoints.
    pub fn process(&self) -> Option<&ProcessSettings> {
        match &self.runs {
            Runs::Process(process) => Some(process),
            Runs::Endpoints(_) => None,
        }
    }

    /// How many replicas it has when all is well: processes wanted, or endpoints.
    pub fn replicas(&self) -> usize {
        match &self.runs {
            Runs::Process(process) => usize::try_from(process.replicas).unwrap_or(usize::MAX),
            Runs::Endpoints(endpoints) => endpoints.len(),
        }
    }
}

/// Who answers the calls of a service.
#[derive(Debug, Clone, PartialEq)]
pub enum Runs {
    /// Processes that join the mesh; they are started and looked after here, but for [`Program::Elsewhere`].
    Process(Box<ProcessSettings>),
    /// Servers that run elsewhere and that nobody attests; from 1 to 1,000, no two the same.
    Endpoints(Vec<EndpointSettings>),
}

/// Replicas that join the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessSettings {
    /// What they run.
    pub program: Program,
    /// How many are wanted, 0 to 1,000.
    pub replicas: u32,
    /// Handed to them as it is; an object of at most [`MAX_CONFIG_BYTES`].
    pub config: serde_json::Value,
    /// How a program of the operator's own learns that it is another.
    pub config_reload: ConfigReload,
    /// The secrets that the file says they get, at most 64; those that a built-in service cannot do without are not among them
    /// unless they are written.
    pub secrets: BTreeSet<String>,
    /// The services that may call them inside the mesh.
    pub allow: BTreeSet<ServiceName>,
    /// Which evidence they are admitted with.
    pub attestation: AttestationSettings,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// How one that died is started again.
    pub restart: Restart,
    /// How those of a new version take the place of the others.
    pub rollout: Rollout,
    /// From the start of the process until it must be Ready.
    pub start_timeout: Duration,
}

/// How a program learns that the file of its `config` was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigReload {
    /// It looks at the file by itself.
    File,
    /// It gets a SIGHUP.
    Signal,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A built-in service.
    Builtin(Builtin),
    /// A program of the operator's own.
    Command(CommandSettings),
    /// Whatever the releases admit: its replicas are started by `serviceos exec`, each with a launch ticket.
    Elsewhere,
}

/// A program of the operator's own, as it is written: nothing in it is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// The program, then its arguments: 1 to 256, none of them empty or with a zero byte.
    pub arguments: Vec<String>,
    /// Its environment, at most 256 variables; none that chooses what the loader loads, and none of serviceos' own.
    pub environment: BTreeMap<String, String>,
    /// Where it works; absolute.
    pub directory: PathBuf,
    /// The same as it is written in the file, `.` when it is left out.
    pub directory_text: String,
    /// What each of its replicas may use.
    pub resources: Resources,
}

/// What one replica may use of the machine; where nothing is said, there is no limit of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory, 16 MiB to 16 TiB.
    pub memory: Option<ByteSize>,
    /// Time of processors.
    pub cpus: Option<Cpus>,
    /// Open files of each process, 64 to 1,048,576.
    pub open_files: Option<u32>,
}

/// So many processors all the time, in thousandths; 0.01 to 1,024 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(pub u32);

impl fmt::Display for Cpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(formatter, "{whole}");
        }
        formatter.write_str(format!("{whole}.{part:03}").trim_end_matches('0'))
    }
}

/// A server that runs elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Whether TLS is spoken with it.
    pub scheme: Scheme,
    /// An IP address, without brackets, or a DNS name in lower case.
    pub host: String,
    /// At least 1.
    pub port: u16,
    /// The label of its version.
    pub version: Arc<str>,
    /// Its share among the others of its priority, 1 to 1,000.
    pub weight: u32,
    /// 0 to 15; a higher number is used only as far as the lower ones are down.
    pub priority: u32,
    /// Where it stands, for display; at most 40 visible ASCII characters.
    pub zone: Option<Arc<str>>,
    /// What else is said of it, for display; at most 16 texts.
    pub metadata: BTreeMap<String, String>,
}

impl EndpointSettings {
    /// Host and port as a URL has them: an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]:{}", self.port),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The scheme of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// TLS.
    Https,
}

/// What the replicas of a service speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
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

/// One route of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSettings {
    /// The host of the request; any when there is none.
    pub host: Option<HostPattern>,
    /// A matchit pattern that begins with a slash.
    pub path: String,
    /// The methods it takes, upper case; empty for all.
    pub methods: Vec<String>,
    /// Headers that the request must have with exactly that value: names in lower case, in their order, at most 8.
    pub headers: Vec<(String, String)>,
    /// The scopes a caller needs, all of them.
    pub scopes: Vec<String>,
    /// What the content of a request must be, where that is said.
    pub request: Option<RequestSettings>,
    /// The largest request body, where it differs from the gateway's.
    pub body_bytes: Option<ByteSize>,
    /// How often it may be called, by everybody together; without a limit where there is none.
    pub rate_limit: Option<LimitSettings>,
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

/// Hosts that a route takes, in lower case and without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// That one.
    Exact(String),
    /// Every host that ends in a dot and this name: one label more or several.
    Beneath(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Beneath(name) => write!(formatter, "*.{name}"),
        }
    }
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
