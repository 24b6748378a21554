//! Arguments of the commands about the lives of replicas.

use clap::Args;
use types::{ReplicaId, ServiceName};

use super::PlaceArgs;
use crate::commands::logs::{Whose, whose};

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Which service, and how many replicas of it, such as `vrf=5`.
    #[arg(value_name = "SERVICE=N", value_parser = wanted)]
    pub(crate) wanted: Wanted,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

/// So many replicas of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) service: ServiceName,
    pub(crate) replicas: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Which one, such as `vrf/2`.
    #[arg(value_name = "SERVICE/N")]
    pub(crate) replica: ReplicaId,
}

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Which service, such as `vrf`, or which replica, such as `vrf/2`.
    #[arg(value_name = "SERVICE|SERVICE/N", value_parser = whose)]
    pub(crate) whose: Whose,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Of which service; of all when left out.
    pub(crate) service: Option<ServiceName>,
    /// Go on with what comes, until Ctrl-C or until serviceos ends.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print a line of JSON for each, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

fn wanted(argument: &str) -> Result<Wanted, String> {
    let parsed = argument.split_once('=').and_then(|(service, replicas)| {
        Some(Wanted { service: service.parse().ok()?, replicas: replicas.parse().ok()? })
    });
    parsed.ok_or_else(|| "expected a service and a number of replicas, such as vrf=5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_scaled_to_a_whole_number() {
        let vrf = Wanted { service: "vrf".parse().unwrap(), replicas: 5 };
        assert_eq!((wanted("vrf=5"), wanted("vrf=0").map(|wanted| wanted.replicas)), (Ok(vrf), Ok(0)));
        for wrong in ["vrf", "vrf=", "=5", "vrf=-1", "vrf=1.5", "VRF=1", "vrf=5=5", "vrf =5"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
