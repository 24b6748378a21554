//! `serviceos exec`: a replica that somebody starts by hand. This process is to its launcher what `up` is to those of the other
//! replicas, and ends with it.

use std::fs::DirBuilder;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use launcher::{CommandOrder, Directory, Limits, Measurer};
use mesh_protocol::{
    Assignment, LaunchTicket, OwnWords, Protocol, QuoterControl, RegisteredBy, Report, sha256, to_hex,
};
use types::Mode;

use crate::cli::ExecArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::launcher_process::LauncherProcess;
use crate::output::{note, print};
use crate::signals::Orders;
use crate::up::quoter::Quoter;

/// The largest file that is read as a ticket: the service's `config` is in it.
const MAX_TICKET_BYTES: u64 = 1 << 20;
/// From the end of the requests to the end of the launcher, of which half is the command's.
const GRACE: Duration = Duration::from_secs(10);
/// What a shell adds to the number of the signal that has ended a process.
const OF_A_SIGNAL: i32 = 128;

pub(crate) fn run(args: ExecArgs) -> Result<(), Failure> {
    if args.measure {
        // Where it would run and what it would speak are no part of what is measured.
        let workload = measured(&order(&args, Protocol::Http1, Path::new("/"))?)?;
        return print(format_args!("simulated: {{w: \"{}\"}}", to_hex(&workload)));
    }
    let description = args.description().context("--zone, --weight and --meta say what cannot be said")?;
    let mut ticket = ticket(&args)?;
    let listen = match args.listen {
        Some(listen) => listen,
        None => SocketAddr::new(own_address(ticket.assignment.mesh.address)?, 0),
    };
    ticket.assignment.registered_by = RegisteredBy::Itself(OwnWords { listen: Some(listen), description });
    let run = args.place.data_dir().join("run");
    let order = order(&args, ticket.protocol, &run)?;
    // Whatever is wrong with the command is said before anything is begun.
    measured(&order)?;
    let evidence = Evidence { run: &run, root: development_root(&args) };
    let ended = block_on(async { Ok(replica(evidence, order, ticket.assignment).await?) })?;
    match ended.code().or_else(|| ended.signal().map(|signal| OF_A_SIGNAL + signal)) {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

/// What is to be run, as the launcher is told.
fn order(args: &ExecArgs, protocol: Protocol, run: &Path) -> Result<CommandOrder> {
    let path = std::env::current_dir().context("failed to find the working directory")?;
    Ok(CommandOrder {
        service: args.service.clone(),
        arguments: args.command.clone(),
        environment: args.env.iter().cloned().collect(),
        directory: Directory { path, hashed: ".".to_owned() },
        protocol,
        run: std::path::absolute(run).context("failed to find the data directory")?,
        grace: GRACE,
        // Who runs it by hand says elsewhere what it may use.
        limits: Limits::default(),
    })
}

fn measured(order: &CommandOrder) -> Result<[u8; 32]> {
    let mut measurer = Measurer::new();
    let own = measurer.own_digest().context("failed to measure serviceos itself")?;
    Ok(measurer.measure(&order.program(own))?.workload_digest())
}

/// From where this machine reaches the mesh API, and so where others most likely reach this machine. Nothing is sent.
fn own_address(mesh: SocketAddr) -> Result<IpAddr> {
    let any: IpAddr =
        if mesh.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(mesh)?;
        socket.local_addr()
    });
    let own = own.with_context(|| {
        format!("failed to find the way to the mesh API at {mesh}; --listen says where to listen")
    });
    Ok(own?.ip())
}

/// The ticket, for this service, of the authority that is believed.
fn ticket(args: &ExecArgs) -> Result<LaunchTicket> {
    let (Some(address), Some(authority), Some(path)) = (args.mesh, args.authority, &args.ticket_file) else {
        bail!("--mesh, --authority and --ticket-file are needed");
    };
    let mut ticket = read(path).with_context(|| {
        let path = path.display();
        format!(
            "failed to read the launch ticket {path}; `serviceos attestation ticket {}` writes one",
            args.service
        )
    })?;
    let replica = &ticket.assignment.replica;
    if replica.service != args.service {
        bail!("{} is a ticket for {replica}, and no replica of {}", path.display(), args.service);
    }
    let mesh = &mut ticket.assignment.mesh;
    let found = sha256(&mesh.root_spki.0);
    if found != authority.0 {
        bail!(
            "{} is a ticket of another mesh: the key of its root has the SHA-256 {}, and not {}",
            path.display(),
            to_hex(&found),
            to_hex(&authority.0)
        );
    }
    mesh.address = address;
    Ok(ticket)
}

fn read(path: &PathBuf) -> Result<LaunchTicket> {
    let mut json = Vec::new();
    std::fs::File::open(path)?.take(MAX_TICKET_BYTES).read_to_end(&mut json)?;
    Ok(LaunchTicket::decode(&json)?)
}

#[cfg(feature = "development")]
fn development_root(args: &ExecArgs) -> Option<PathBuf> {
    args.development_root.clone()
}

#[cfg(not(feature = "development"))]
fn development_root(_args: &ExecArgs) -> Option<PathBuf> {
    None
}

/// Where evidence comes from.
struct Evidence<'a> {
    /// Where the quoter of `up` is found.
    run: &'a Path,
    /// What a quoter of its own is to make it with.
    root: Option<PathBuf>,
}

/// Lives beside the launcher until that has ended.
async fn replica(evidence: Evidence<'_>, order: CommandOrder, assignment: Assignment) -> Result<ExitStatus> {
    let mut orders = Orders::listen().context("failed to listen for signals")?;
    let id = assignment.replica.clone();
    // A quoter of its own is there for as long as the replica, which asks it again when its identity is renewed.
    let (mut process, _quoter) = tokio::select! {
        started = started(&evidence, order, &assignment) => started?,
        signal = orders.first() => bail!("{signal}: {id} was stopped before anything was started"),
    };
    let report = tokio::select! {
        report = process.assign(&assignment) => report,
        signal = orders.first() => {
            note(format_args!("serviceos: {signal}: {id} is stopped before it was ready"));
            return stopped(&mut process, &mut orders).await;
        }
    };
    match report {
        Ok(Report::Listening { address, .. }) => note(format_args!(
            "serviceos: {id} has joined and serves at {address}; Ctrl-C drains and stops it"
        )),
        Ok(Report::Failed(_)) => {
            process.ended().await?;
            bail!("{id} did not start, as its launcher says above");
        }
        Err(error) => {
            let status = process.ended().await?;
            return Err(anyhow!(error).context(format!("the launcher of {id} ended ({status})")));
        }
    }
    let signal = tokio::select! {
        status = process.ended() => return Ok(status?),
        signal = orders.first() => signal,
    };
    note(format_args!("serviceos: {signal}: draining {id}; once more stops at once"));
    stopped(&mut process, &mut orders).await
}

/// The launcher, with its order, and the quoter where that is its own.
async fn started(
    evidence: &Evidence<'_>,
    order: CommandOrder,
    assignment: &Assignment,
) -> Result<(LauncherProcess, Option<Quoter>)> {
    if assignment.mesh.mode == Mode::Production {
        bail!("this version of serviceos can get no evidence for production; nothing was started");
    }
    let (registration, quoter) = match &evidence.root {
        None => (registration(evidence.run).await?, None),
        Some(root) => {
            let quoter = own_quoter(evidence.run, root, assignment).await?;
            (quoter.registration().await.context("failed to register the process")?, Some(quoter))
        }
    };
    let give = move |to: &mut StdUnixStream| order.give(to, &registration);
    let output = (Stdio::inherit(), Stdio::inherit());
    let started = LauncherProcess::start(evidence.run, output, Hold::default(), give).await;
    Ok((started.context("failed to start the launcher")?, quoter))
}

/// A quoter of this replica's, which `up` need not reach. Dropped with what holds it.
async fn own_quoter(run: &Path, root: &Path, assignment: &Assignment) -> Result<Quoter> {
    let root = root.canonicalize().with_context(|| {
        format!(
            "{} is not there; it is a copy of `development` of the data directory of `up`",
            root.display()
        )
    })?;
    if !root.join("platform.keys").is_file() {
        bail!(
            "{} is no copy of `development` of the data directory of `up`: it has no platform.keys",
            root.display()
        );
    }
    let folder = run.join(format!("{}-quoter", assignment.replica.file_stem()));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("failed to make {}", folder.display()))?;
    let folder = folder.canonicalize().context("failed to find the data directory")?;
    Quoter::of_its_own(&folder, root).await
}

/// Tells the launcher to end, and waits as long as somebody is patient.
async fn stopped(process: &mut LauncherProcess, orders: &mut Orders) -> Result<ExitStatus> {
    process.terminate();
    tokio::select! {
        status = process.ended() => return Ok(status?),
        () = orders.again() => {}
    }
    process.kill();
    process.ended().await?;
    bail!("stopped at once; requests in flight may have been cut off")
}

/// What the launcher registers itself with, where evidence comes from the quoter of `up`.
async fn registration(run: &Path) -> Result<StdUnixStream> {
    let reached = QuoterControl::connect(&run.join("quoter.sock"), &run.join("quoter.key")).await;
    let control = reached.with_context(|| {
        format!(
            "failed to reach the development quoter in {}; `serviceos up` has one, and --data-dir names its data directory; on another \
             machine, --development-root names a copy of its root",
            run.display()
        )
    })?;
    control.registration().await.context("failed to register the process")
}
