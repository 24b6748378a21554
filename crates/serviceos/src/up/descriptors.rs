//! File descriptors: every connection needs one, and the usual soft limit is far below what the gateway may hold.

use anyhow::bail;
use configuration::GatewayLimits;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What the process needs beside client connections: connections to replicas, checks, files.
const BESIDE_CLIENTS: u64 = 1024;

/// What starting takes: listeners, event loops, the store, and a few for each replica.
const FOR_STARTING: u64 = 64;
const FOR_EACH_REPLICA: u64 = 6;

/// Raises the soft limit to the hard one, and says so when even that is less than the gateway's limits promise.
///
/// # Errors
/// When it is less than starting takes: everything would begin and nothing would work.
pub(crate) fn raise_limit(limits: &GatewayLimits, replicas: u64) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _the_old_one_stays = setrlimit(Resource::Nofile, limit).is_err();
    let Some(allowed) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let least = FOR_STARTING + FOR_EACH_REPLICA * replicas;
    if allowed < least {
        bail!(
            "the limit on open files (ulimit -n) is {allowed}, and {replicas} replicas need {least}; raise it"
        );
    }
    let needed = limits.connections as u64 + BESIDE_CLIENTS;
    if allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            "the limit on open files (ulimit -n) is lower than gateway.limits.connections needs: raise it, or lower that"
        );
    }
    Ok(())
}
