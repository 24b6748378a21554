//! `serviceos dev-quoter`: evidence for machines without a trusted execution environment, started by `up`.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use configuration::LogFormat;
use dev_quoter::{Parent, Place, Quoter};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DevQuoterArgs;
use crate::commands::block_on;
use crate::failure::Failure;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(crate) fn run(args: DevQuoterArgs) -> Result<(), Failure> {
    let log = observability::start_process_log(LogFormat::Json, "info");
    let served = block_on(serve(args));
    log.flush(LAST_LINES);
    served
}

async fn serve(args: DevQuoterArgs) -> Result<(), Failure> {
    // Its keys must not end up in a dump, and nobody of this user may read its memory.
    let _stays_readable =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_err();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for signals")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let quoter = Quoter::open(&args.folder, now).context("failed to open the development root")?;
    let place = Place { socket: args.socket, control_key: args.control_key };
    let shutdown = async {
        let _told = terminate.recv().await;
    };
    let served = dev_quoter::run(quoter, &place, parent(args.with_parent), shutdown).await;
    Ok(served.context("failed to serve")?)
}

/// The one who started it, where standard input is a socket.
fn parent(takes_it_along: bool) -> Option<Parent> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let domain = rustix::net::sockopt::socket_domain(&descriptor).ok()?;
    (domain == rustix::net::AddressFamily::UNIX)
        .then(|| Parent { stream: UnixStream::from(descriptor), takes_it_along })
}
