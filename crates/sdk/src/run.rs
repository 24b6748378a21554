//! The life of a replica's process: assignment → self-test → listening → drained.

use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_protocol::{Assignment, FrameError, Report, read_frame, write_frame};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Start, StartError};

/// How long requests may take to finish after the supervisor died.
const ORPHAN_DRAIN: Duration = Duration::from_secs(10);
/// The same once it is told to stop by a signal. The supervisor has waited for the requests in flight before that, so what is
/// still open then is a connection that somebody else holds.
const TERMINATED_DRAIN: Duration = Duration::from_secs(5);

/// Open connections of a replica; the gateway keeps far fewer.
const MAX_CONNECTIONS: usize = 4096;

/// What a request's head may be: far above what a gateway lets through and adds, since the gateway is who judges.
const MAX_HEADERS: usize = 1024;
const MAX_HEAD_BYTES: usize = 1 << 20;

/// Why a replica's process ended with an error.
#[derive(Debug, Error)]
pub enum RunError {
    /// Standard input is not the descriptor of a supervisor.
    #[error(
        "a service is started by `serviceos up`, which hands it its configuration and keys; it cannot run by itself"
    )]
    NoSupervisor,
    /// The supervisor and the replica did not understand each other.
    #[error("the handover failed: {0}")]
    Handover(#[from] FrameError),
    /// The service cannot start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The machine refused something.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
}

/// Runs a service as a replica until it is told to stop.
///
/// `build` makes the service's routes; it runs the self-tests, and what it refuses is reported to the supervisor.
pub fn run<F, Fut>(build: F) -> Result<(), RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("starting the event loop", error))?;
    runtime.block_on(live(build))
}

async fn live<F, Fut>(build: F) -> Result<(), RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| RunError::Io("listening for SIGTERM", error))?;
    let mut supervisor = supervisor()?;
    let assignment = tokio::select! {
        frame = read_frame(&mut supervisor) => Assignment::decode(&frame?)?,
        _ = terminate.recv() => return Ok(()),
    };
    let (listener, router) = tokio::select! {
        prepared = prepare(build, assignment.into()) => match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                write_frame(&mut supervisor, &Report::Failed(error.to_string()).encode()).await?;
                return Err(error);
            }
        },
        _ = terminate.recv() => return Ok(()),
    };
    let address = listener.local_addr().map_err(|error| RunError::Io("reading the address", error))?;
    write_frame(&mut supervisor, &Report::Listening(address).encode()).await?;

    let (stop, stopped) = watch::channel(false);
    let serving = serve(listener, router, stopped);
    tokio::pin!(serving);
    let orphaned = tokio::select! {
        () = &mut serving => return Ok(()),
        _ = terminate.recv() => false,
        // Nothing more is said on the descriptor, so any end of waiting means that the supervisor is gone.
        _ = read_frame(&mut supervisor) => true,
    };
    stop.send_replace(true);
    if orphaned {
        tracing::warn!("the supervisor is gone: finishing open requests");
    }
    let limit = if orphaned { ORPHAN_DRAIN } else { TERMINATED_DRAIN };
    let _cut_off = tokio::time::timeout(limit, serving).await.is_err();
    Ok(())
}

/// The inherited descriptor stands in the place of standard input: the one descriptor that can be handed to a child
/// without code between fork and exec.
fn supervisor() -> Result<UnixStream, RunError> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| RunError::NoSupervisor)?;
    rustix::net::sockopt::socket_domain(&descriptor)
        .ok()
        .filter(|domain| *domain == rustix::net::AddressFamily::UNIX)
        .ok_or(RunError::NoSupervisor)?;
    let stream = StdUnixStream::from(descriptor);
    stream.set_nonblocking(true).map_err(|_| RunError::NoSupervisor)?;
    UnixStream::from_std(stream).map_err(|_| RunError::NoSupervisor)
}

async fn prepare<F, Fut>(build: F, start: Start) -> Result<(TcpListener, axum::Router), RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let router = crate::router(build(start).await?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(|error| RunError::Io("binding a port on 127.0.0.1", error))?;
    Ok((listener, router))
}

/// Serves until told to stop, then until the last open request is answered.
async fn serve(listener: TcpListener, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), stopped.clone()));
                }
                // Out of descriptors, most likely: existing connections must end before another can begin.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Returns once the replica is told to stop, or nobody is left to tell it.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _told_or_nobody_left = stopped.wait_for(|stopped| *stopped).await.is_ok();
}

async fn connection(stream: TcpStream, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let _delayed = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
