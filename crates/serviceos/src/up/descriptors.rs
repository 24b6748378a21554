//! File descriptors: every connection needs one, and the usual soft limit is far below what the gateway may hold.

use configuration::GatewayLimits;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What the process needs beside client connections: connections to replicas, checks, files.
const BESIDE_CLIENTS: u64 = 1024;

/// Raises the soft limit to the hard one, and says so when even that is less than the gateway's limits promise.
pub(crate) fn raise_limit(limits: &GatewayLimits) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _the_old_one_stays = setrlimit(Resource::Nofile, limit).is_err();
    let needed = limits.connections as u64 + BESIDE_CLIENTS;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "the limit on open files (ulimit -n) is lower than gateway.limits.connections needs: raise it, or lower that"
        );
    }
}
