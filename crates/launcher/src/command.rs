//! A launcher that stays: it is the replica, and runs a command that knows nothing of the mesh behind it.
//!
//! ```text
//! order ─▶ measured, registered ─▶ joined ─▶ files written ─▶ command started ─▶ it accepts connections ─▶ listening
//!          callers ── mutual TLS ─▶ launcher ── HTTP, in the clear ─▶ command ── its mesh socket ─▶ launcher ─▶ other services
//! ```
//!
//! The command is in the launcher's process group, so that whoever ends the group leaves nothing of the replica, also after the
//! launcher was killed itself: nothing else ends the command then. What the command has started is told to end with it, and the
//! launcher leaves nobody behind.

mod calls;
mod changes;
mod child;
mod folder;
mod forward;
mod group;
mod guarded;
mod headers;
mod mesh_socket;
mod plan;
mod port;
#[cfg(test)]
mod testing;
mod trailers;
mod upstream;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::{Handover, QuoterSource};
use rustls::ServerConfig;
use sdk::{
    Applicant, ConfigReload, Cut, End, Left, Member, MeshError, Protocol, RunError, StartError, Supervised,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::{CommandOrder, Measured};
use calls::Calls;
use changes::Changes;
use child::{Child, Ended};
use folder::Folder;
use forward::Forward;
use group::Group;
use plan::Plan;
use upstream::Upstream;

/// How much of the grace is left to this process itself, at most, and of how many parts of a short one it is one.
const OWN_GRACE: Duration = Duration::from_millis(500);
const OWN_PART: u32 = 4;
/// How long a command may take to end where nobody says how long.
const UNWATCHED_GRACE: Duration = Duration::from_secs(5);

/// A launcher beside a command, which is measured and registered, and not started yet.
pub struct Staying {
    order: CommandOrder,
    measured: Measured,
    handover: Handover,
}

/// A replica that is ready to serve.
struct Replica {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    member: Member<QuoterSource>,
    /// Of the certificate that it has now.
    leaf: [u8; 32],
    upstream: Arc<Upstream>,
    child: Child,
    /// Answers the command's own calls.
    calls: JoinSet<Infallible>,
    /// What the command is given, as it changes.
    changes: Changes,
    /// Removed when this is dropped, which comes last.
    folder: Folder,
}

/// Why there is no replica.
enum Failure {
    Run(RunError),
    /// The command has ended before it listened.
    Ended(Ended),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => error.fmt(formatter),
            Self::Ended(ended) => write!(
                formatter,
                "the command ended ({ended}) before it accepted a connection; its output says why, and it is told where to \
                 listen by SERVICEOS_LISTEN"
            ),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Run(error.into())
    }
}

impl From<MeshError> for Failure {
    fn from(error: MeshError) -> Self {
        Self::Run(error.into())
    }
}

impl Staying {
    pub(crate) fn new(order: CommandOrder, measured: Measured, handover: Handover) -> Self {
        Self { order, measured, handover }
    }

    /// W, the digest of the workload that is registered.
    pub fn workload(&self) -> [u8; 32] {
        self.handover.workload
    }

    /// Joins, starts the command, and serves until either is told to end or does; gives what this process is to end with.
    ///
    /// # Errors
    /// The command is no replica. The supervisor was told so.
    pub fn run(self) -> Result<u8, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| RunError::Io("starting the event loop", error))?;
        let code = runtime.block_on(self.live());
        // A disk or a pipe that never answers must not keep the process from ending.
        runtime.shutdown_background();
        code
    }

    async fn live(self) -> Result<u8, RunError> {
        let Self { order, measured, handover } = self;
        let mut supervised = Supervised::new(handover.supervisor)?;
        let source = handover.quoter.ok_or(RunError::NoSupervisor)?;
        let source = QuoterSource::new(source).map_err(|error| RunError::Io("reaching the quoter", error))?;
        let Some(assignment) = supervised.assignment().await? else { return Ok(0) };
        let applicant = Applicant { assignment, workload: handover.workload, source };
        let replica = match supervised.prepare(Box::pin(prepare(applicant, &order, &measured))).await {
            Ok(Some(replica)) => replica,
            Ok(None) => return Ok(0),
            Err(Failure::Ended(ended)) => return Ok(ended.code()),
            Err(Failure::Run(error)) => return Err(error),
        };
        let address = replica.listener.local_addr();
        let address = address.map_err(|error| RunError::Io("reading the address", error))?;
        supervised.listens(address, replica.leaf).await?;
        Ok(replica.serve(&mut supervised, order.grace).await)
    }
}

/// Joins, writes the files, and starts the command; gives a replica once the command accepts connections.
async fn prepare(
    applicant: Applicant<QuoterSource>,
    order: &CommandOrder,
    measured: &Measured,
) -> Result<Replica, Failure> {
    let refused = |error: &dyn fmt::Display| StartError::new(error);
    let assignment = applicant.assignment.clone();
    let folder = Folder::create(&order.run, &assignment.replica).map_err(|error| refused(&error))?;
    // Before it joins, so that a mistake in the command costs nobody anything.
    let plan = Plan::new(order, assignment.mesh.mode, &folder).map_err(|error| refused(&error))?;
    let (member, joined) = Member::join(applicant).await?;
    folder
        .write(&joined.secrets, &assignment.config)
        .map_err(|error| refused(&format_args!("the command's files cannot be written: {error}")))?;
    let (reload, group) = (assignment.config_reload, Group::of_this_process());
    let address = assignment.listen();
    start(Ready { measured, plan, folder, member, reload, group, address }, order.protocol).await
}

/// What a command is started with, and whom it stands for.
struct Ready<'a> {
    measured: &'a Measured,
    plan: Plan,
    folder: Folder,
    member: Member<QuoterSource>,
    reload: ConfigReload,
    group: Group,
    /// Where callers come to.
    address: SocketAddr,
}

async fn start(ready: Ready<'_>, protocol: Protocol) -> Result<Replica, Failure> {
    let Ready { measured, plan, folder, member, reload, group, address } = ready;
    // What comes while the command starts is written once it serves.
    let changes = Changes { secrets: member.secrets(), configs: member.configs(), reload };
    let tls = Arc::new(member.server_config(spoken(protocol))?);
    let socket = mesh_socket::bind(&folder.mesh_socket())
        .map_err(|error| RunError::Io("making the socket to other services", error))?;
    let mut calls = JoinSet::new();
    calls.spawn(mesh_socket::serve(socket, Arc::new(Calls::new(Arc::new(member.outgoing())))));
    let mut child = Child::start(measured, &plan, group)
        .map_err(|error| StartError::new(format_args!("the command cannot be started: {error}")))?;
    let upstream = Arc::new(Upstream::new(protocol, plan.listen.connector()));
    let accepts = async {
        child.until_it_accepts(&plan.listen).await.map_err(Failure::Ended)?;
        // A renewal that has begun is finished: the authority may have given the new certificate already.
        Ok::<_, Failure>(member.settled().await)
    };
    let leaf = tokio::select! {
        accepts = accepts => accepts?,
        left = member.stay() => return Err(RunError::from(left).into()),
    };
    let listener = TcpListener::bind(address).await.map_err(|error| RunError::Io("binding a port", error))?;
    Ok(Replica { listener, tls, member, leaf, upstream, child, calls, changes, folder })
}

/// What callers may speak. One that does not know HTTP/2 still reaches a command that does.
fn spoken(protocol: Protocol) -> &'static [Protocol] {
    match protocol {
        Protocol::Http1 => &[Protocol::Http1],
        Protocol::Http2 => &[Protocol::Http2, Protocol::Http1],
    }
}

impl Replica {
    async fn serve(self, supervised: &mut Supervised, grace: Duration) -> u8 {
        let Self { listener, tls, member, upstream, mut child, mut calls, changes, folder, .. } = self;
        let command = child.signalled();
        let (stop, stopped) = watch::channel(Cut::No);
        let forward = move |caller| Forward::to_the_command(caller, Arc::clone(&upstream));
        let serving = sdk::serve(listener, forward, tls, member.trusted(), stopped);
        tokio::pin!(serving);
        let end = tokio::select! {
            ended = child.ended() => {
                tracing::error!(%ended, "the command ended by itself");
                // Nobody writes into its folder any more when that is removed.
                drop(child);
                return ended.code();
            }
            end = supervised.end(&member) => end,
            () = &mut serving => unreachable!("nothing has told it to stop"),
            never = changes.follow(&folder, command) => match never {},
        };
        let (told, shares) = (Instant::now(), Shares::of(grace));
        // Somebody waits for as long as the grace says.
        let is_awaited = matches!(end, End::Terminated | End::Failed(_));
        tokio::select! {
            () = end.drain(&stop, serving, &member) => {}
            // A command that was signalled together with this process ends by itself.
            _ended = child.ended() => {}
            () = sleep_until(told + shares.requests), if is_awaited => {}
        }
        if end == End::Left(Left::Expired) {
            // Nobody is called under an identity that has ended.
            calls.abort_all();
        }
        let deadline = if is_awaited {
            told + shares.requests + shares.command
        } else {
            Instant::now() + UNWATCHED_GRACE
        };
        let code = child.stop(deadline).await;
        match end {
            End::Terminated | End::Orphaned => code,
            // Nobody wanted it to end.
            End::Failed(_) | End::Left(_) => code.max(1),
        }
    }
}

/// Whose the time is between being told to end and being killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// Of the requests that are open.
    requests: Duration,
    /// Of the command, once it is told.
    command: Duration,
}

impl Shares {
    /// Half of it is the command's, and a part of the rest this process's.
    fn of(grace: Duration) -> Self {
        let (command, own) = (grace / 2, OWN_GRACE.min(grace / OWN_PART));
        Self { requests: grace - command - own, command }
    }
}

#[cfg(test)]
mod tests;
