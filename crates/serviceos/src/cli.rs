//! The command line.

mod config;
mod exec;
mod explain;
mod lifecycle;
mod rollout;
mod top;
mod trust;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use types::{ReplicaId, ServiceName};

use crate::commands::logs::{Whose, whose};
pub(crate) use config::{ChangeArgs, ConfigArgs, ConfigCommand, ConfigStatusArgs};
pub(crate) use exec::ExecArgs;
pub(crate) use explain::ExplainArgs;
pub(crate) use lifecycle::{DrainArgs, EventsArgs, RestartArgs, ScaleArgs};
pub(crate) use rollout::{RolloutArgs, RolloutCommand, RolloutOf};
pub(crate) use top::TopArgs;
pub(crate) use trust::{
    AttestationArgs, AttestationCommand, AuditArgs, AuditCommand, SecretsArgs, SecretsCommand, Which,
};

/// Runs confidential services: starts their replicas, watches their health, and puts a gateway in front.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything that the configuration names, and keep it running.
    Up(UpArgs),
    /// Drain and stop the running serviceos, or what a killed one has left; returns when it has ended.
    Down(PlaceArgs),
    /// Show services and replicas.
    Status(StatusArgs),
    /// Show services and replicas as they are, once a second, with rates and what they use.
    Top(TopArgs),
    /// List the services.
    Services(ServicesArgs),
    /// List the instances of a service, or of all, or print what becomes of them.
    Instances(InstancesArgs),
    /// Change how many replicas a service has.
    Scale(ScaleArgs),
    /// Let a replica finish and stay stopped; returns when it is.
    Drain(DrainArgs),
    /// Start a replica again, or all of a service, one after the other.
    Restart(RestartArgs),
    /// Say what becomes of a request: its route, what it has to bring along, who may answer, and why.
    Explain(ExplainArgs),
    /// Show, pause, resume, promote and undo the change of a service to another version.
    Rollout(RolloutArgs),
    /// Show what has happened to services and replicas: who wanted it, and why.
    Events(EventsArgs),
    /// Show what the replicas of a service, of all, or one of them have written last.
    Logs(LogsArgs),
    /// Say whether requests may reach a replica, and if not, why not; exit code 4 then.
    Why(WhyArgs),
    /// Create, list, rotate and revoke API keys.
    Keys(KeysArgs),
    /// Show what replicas proved, and revoke what is trusted no longer.
    Attestation(AttestationArgs),
    /// Set, list, rotate and remove secrets.
    Secrets(SecretsArgs),
    /// Verify and show the trail of what was decided.
    Audit(AuditArgs),
    /// Check, compare, apply and take back configurations.
    Config(ConfigArgs),
    /// Join the mesh for a command that knows nothing of it, and run it as a replica.
    Exec(ExecArgs),
    /// Run one backend service as a replica (started by `up`).
    Service(ServiceArgs),
    /// Become a replica (started by `up`).
    #[command(hide = true)]
    Launch,
    /// Make evidence for development (started by `up`).
    #[cfg(feature = "development")]
    #[command(hide = true)]
    DevQuoter(DevQuoterArgs),
}

#[cfg(feature = "development")]
#[derive(Debug, Args)]
pub(crate) struct DevQuoterArgs {
    /// The folder of the development root.
    pub(crate) folder: PathBuf,
    /// The socket to listen on.
    pub(crate) socket: PathBuf,
    /// The file for the control key.
    pub(crate) control_key: PathBuf,
    /// End with whoever started it.
    #[arg(long)]
    pub(crate) with_parent: bool,
}

/// Where the configuration and the data directory are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "serviceos.yaml")]
    pub(crate) config: PathBuf,
    /// The data directory; else the file's `dataDir`, else `.serviceos` beside the file.
    #[arg(long, value_name = "DIR", env = "SERVICEOS_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// `development` or `production`; instead of the file's `mode`.
    #[arg(long)]
    pub(crate) mode: Option<String>,
    /// Where clients connect, instead of the file's `gateway.listen`; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Where the admin API listens, instead of the file's `admin.listen`; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Where replicas join the mesh, instead of the file's `mesh.listen`; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    pub(crate) mesh: Option<SocketAddr>,
    /// Take the place of the serviceos that runs on the data directory, without a lost request.
    #[arg(long)]
    pub(crate) takeover: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstancesArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Of which service.
    pub(crate) service: Option<ServiceName>,
    /// Go on with a line for each change, until Ctrl-C or until serviceos ends.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print JSON, a stable contract; with `--watch` a line for each event, as also where the output is no terminal.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Of which service, such as `vrf`, or which replica, such as `vrf/2`; of all when left out.
    #[arg(value_name = "SERVICE|SERVICE/N", value_parser = whose)]
    pub(crate) whose: Option<Whose>,
    /// Go on with what comes, until Ctrl-C or until serviceos ends.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// No line that was read longer ago, such as `10m` or `1h30m`.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub(crate) since: Option<Duration>,
    /// Print a line of JSON for each, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Which one, such as `vrf/2`.
    #[arg(value_name = "SERVICE/N")]
    pub(crate) replica: ReplicaId,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key and print it; it is shown this once.
    Create {
        #[command(flatten)]
        place: PlaceArgs,
        /// What people call it.
        #[arg(long)]
        name: String,
        /// What it may do, separated by commas: `randomness`, `datafeed`, `oracle`, or what your routes ask for.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Whom it acts for.
        #[arg(long)]
        tenant: Option<String>,
        /// How much it may ask for: `free`, `developer`, `production`, a tier of the file, or `unlimited`, which it is when left
        /// out in development; in production that is `free`.
        #[arg(long)]
        tier: Option<String>,
        /// After how long it is refused, such as `90d` or `12h`.
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        expires: Option<Duration>,
        /// The public key, as PEM, that its requests are signed with: Ed25519, P-256, or RSA of 2048 bits or more. A key that has
        /// one has no secret.
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Give a key another secret and print it, this once; the old one is good for a while longer.
    Rotate {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its id, as listed.
        id: String,
        /// For how long the old secret is good too: `0s` to `7d`. One that was good before the old one ends at once.
        #[arg(long, value_name = "DURATION", value_parser = overlap, default_value = "24h")]
        overlap: Duration,
        /// The new public key of a key that has one, as PEM.
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// List the keys; never their values.
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: every gateway worker refuses it from now on.
    Revoke {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its id, as listed.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Which one.
    pub(crate) service: BuiltinService,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BuiltinService {
    /// Verifiable randomness.
    Vrf,
    /// Data feeds.
    Datafeed,
    /// The oracle.
    Oracle,
}

/// A century is longer than any key should live, and far from what a timestamp can hold.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A lifetime such as `90d`, `12h` or `1h30m`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime =
        types::duration::parse(text).filter(|lifetime| !lifetime.is_zero() && *lifetime <= LONGEST_LIFE);
    lifetime.ok_or_else(|| "expected a duration such as 90d, 12h or 30m".to_owned())
}

/// How old a line may be.
fn age(text: &str) -> Result<Duration, String> {
    types::duration::parse(text).ok_or_else(|| "expected a duration such as 30s, 10m or 1h30m".to_owned())
}

/// For how long an old secret stays good.
fn overlap(text: &str) -> Result<Duration, String> {
    let overlap = types::duration::parse(text).filter(|overlap| *overlap <= access::MAX_OVERLAP);
    overlap.ok_or_else(|| "expected a duration of 0s to 7d, such as 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lifetimes_are_whole_numbers_with_units() {
        assert_eq!(lifetime("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(lifetime("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "90", "d", "-1d", "1.5h", "0s", "1w", "99999999999999999999d", "9999999999999d"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_old_secret_stays_good_for_a_week_at_the_most() {
        assert_eq!(overlap("0s"), Ok(Duration::ZERO));
        assert_eq!(overlap("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "7d1ms", "8d", "1w", "-1s"] {
            assert!(overlap(bad).is_err(), "{bad}");
        }
    }
}
