//! The arguments of the commands about attestation, secrets and the audit trail.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use mesh_protocol::RevokedType;
use types::{NameError, ReplicaId, ServiceName};

use super::PlaceArgs;

#[derive(Debug, Args)]
pub(crate) struct AttestationArgs {
    #[command(subcommand)]
    pub(crate) command: AttestationCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttestationCommand {
    /// Show what the authority says of each replica, what it goes by, and what is revoked.
    Show {
        #[command(flatten)]
        place: PlaceArgs,
        /// Only this service, or this replica of it, such as `vrf` or `vrf/2`.
        #[arg(value_name = "SERVICE[/N]")]
        which: Option<Which>,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Let somebody start a replica with `serviceos exec` within 120 seconds, once.
    ///
    /// For a service of which the file says nothing but which releases are admitted.
    Ticket {
        #[command(flatten)]
        place: PlaceArgs,
        /// The service, or which replica of it; else the first that is free.
        #[arg(value_name = "SERVICE[/N]")]
        which: Which,
        /// The file for the ticket, readable for its owner alone.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Trust something no longer: replicas that it is about are cut off at once, and refused until it is taken back.
    Revoke {
        #[command(flatten)]
        place: PlaceArgs,
        /// What it is.
        #[arg(value_name = "TYPE")]
        about: RevokedKind,
        /// Which one; of an instance its SPIFFE ID, or the replica as `vrf/2`.
        value: String,
        /// Take the revocation back.
        #[arg(long)]
        undo: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RevokedKind {
    /// A replica, whatever it runs and wherever.
    Instance,
    /// A certificate, by its SHA-256.
    Leaf,
    /// Code, by its measurement.
    Measurement,
    /// A machine, by one of its hardware ids.
    Platform,
    /// Every machine that an advisory applies to.
    Advisory,
}

impl From<RevokedKind> for RevokedType {
    fn from(kind: RevokedKind) -> Self {
        match kind {
            RevokedKind::Instance => Self::Instance,
            RevokedKind::Leaf => Self::Leaf,
            RevokedKind::Measurement => Self::Measurement,
            RevokedKind::Platform => Self::Platform,
            RevokedKind::Advisory => Self::Advisory,
        }
    }
}

/// A service, or a replica of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Service(ServiceName),
    Replica(ReplicaId),
}

impl FromStr for Which {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('/') { text.parse().map(Self::Replica) } else { text.parse().map(Self::Service) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Give a secret a value, which becomes its newest version.
    ///
    /// It is read from a file or from standard input, and sealed to the authority once that has proved what it is.
    Set {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its name: lower-case letters, digits and hyphens.
        name: String,
        /// The file that holds the value, every byte of it.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the secrets; never their values.
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the versions of a secret; never their values.
    Versions {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its name, as listed.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new epoch of a secret that was generated; the earlier ones stay.
    Rotate {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its name, as listed.
        name: String,
    },
    /// Remove a secret that no service is given, with all of its versions.
    Rm {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its name, as listed.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify the audit trail from its first line to its last, also while no serviceos runs; exit code 4 where it does not
    /// verify.
    Verify {
        #[command(flatten)]
        place: PlaceArgs,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Show the last records of the audit trail. Nothing is verified.
    Tail {
        #[command(flatten)]
        place: PlaceArgs,
        /// How many, at most 10,000.
        #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        count: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_service_or_a_replica() {
        assert_eq!("vrf".parse(), Ok(Which::Service("vrf".parse().unwrap())));
        assert_eq!("vrf/2".parse(), Ok(Which::Replica("vrf/2".parse().unwrap())));
        for bad in ["", "VRF", "vrf/", "vrf/x", "vrf/0/1"] {
            assert!(bad.parse::<Which>().is_err(), "{bad}");
        }
    }
}
