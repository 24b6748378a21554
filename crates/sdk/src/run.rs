//! The life of a replica's process: assignment → joined → self-test → listening → drained.

use std::future::Future;
use std::os::fd::AsFd;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderName;
use axum::middleware::map_request;
use hyper_util::service::TowerToHyperService;
use mesh_protocol::{FrameError, Handover, Protocol, QuoterSource, Subject};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::headers::RESERVED_PREFIX;

use crate::join::Applicant;
use crate::membership::{Left, Member};
use crate::mesh_client::MeshError;
use crate::serve::{Caller, Cut, serve};
use crate::supervised::Supervised;
use crate::{Start, StartError};

/// Why a replica's process ended with an error. Its text is whole, since the supervisor is told nothing else; so it names no
/// source, which whoever shows it would say once more.
#[derive(Debug, Error)]
pub enum RunError {
    /// Standard input is not the descriptor of a supervisor.
    #[error(
        "a service is started by `serviceos up`, which hands it its configuration and keys; it cannot run by itself"
    )]
    NoSupervisor,
    /// The supervisor and the replica did not understand each other.
    #[error("the handover failed: {0}")]
    Handover(FrameError),
    /// The authority does not let it in.
    #[error("it may not join the mesh: {0}")]
    Refused(MeshError),
    /// It was in, and is not any more.
    #[error(transparent)]
    Left(#[from] Left),
    /// The service cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The machine refused something.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
}

impl From<FrameError> for RunError {
    fn from(error: FrameError) -> Self {
        Self::Handover(error)
    }
}

impl From<MeshError> for RunError {
    fn from(error: MeshError) -> Self {
        Self::Refused(error)
    }
}

/// Runs a service as a replica until it is told to stop.
///
/// `build` makes the service's routes; it runs the self-tests, and what it refuses is reported to the supervisor.
pub fn run<F, Fut>(build: F) -> Result<(), RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let handover = handover()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("starting the event loop", error))?;
    runtime.block_on(live(build, handover))
}

/// The inherited descriptor stands in the place of standard input: the one descriptor that can be handed to a child
/// without code between fork and exec.
fn handover() -> Result<Handover, RunError> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| RunError::NoSupervisor)?;
    rustix::net::sockopt::socket_domain(&descriptor)
        .ok()
        .filter(|domain| *domain == rustix::net::AddressFamily::UNIX)
        .ok_or(RunError::NoSupervisor)?;
    Ok(Handover::take(descriptor)?)
}

async fn live<F, Fut>(build: F, handover: Handover) -> Result<(), RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let mut supervised = Supervised::new(handover.supervisor)?;
    let source = handover.quoter.ok_or(RunError::NoSupervisor)?;
    let source = QuoterSource::new(source).map_err(|error| RunError::Io("reaching the quoter", error))?;
    let Some(assignment) = supervised.assignment().await? else { return Ok(()) };
    let applicant = Applicant { assignment, workload: handover.workload, source };
    let Some(replica) = supervised.prepare(prepare(build, applicant)).await? else { return Ok(()) };
    let Replica { listener, router, tls, member, leaf } = replica;
    let address = listener.local_addr().map_err(|error| RunError::Io("reading the address", error))?;
    supervised.listens(address, leaf).await?;

    let (stop, stopped) = watch::channel(Cut::No);
    let of_gateway = TowerToHyperService::new(router.clone());
    // Only a gateway may say for whom somebody calls.
    let of_service = TowerToHyperService::new(router.layer(map_request(without_reserved)));
    let service = move |caller: Caller| match caller.peer.id.subject {
        Subject::Gateway(_) => of_gateway.clone(),
        Subject::Service { .. } | Subject::Authority(_) => of_service.clone(),
    };
    let serving = serve(listener, service, tls, member.trusted(), stopped);
    tokio::pin!(serving);
    let end = tokio::select! {
        () = &mut serving => return Ok(()),
        end = supervised.end(&member) => end,
    };
    end.drain(&stop, serving, &member).await;
    Ok(())
}

/// The request without the headers that are a gateway's own.
async fn without_reserved(mut request: Request) -> Request {
    let is_reserved = |name: &&HeaderName| name.as_str().replace('_', "-").starts_with(RESERVED_PREFIX);
    let reserved: Vec<_> = request.headers().keys().filter(is_reserved).cloned().collect();
    for name in reserved {
        request.headers_mut().remove(name);
    }
    request
}

/// A replica that is ready to serve.
struct Replica {
    listener: TcpListener,
    router: axum::Router,
    tls: Arc<ServerConfig>,
    member: Member<QuoterSource>,
    leaf: [u8; 32],
}

/// Joins, builds the service with its secrets, and binds a port.
async fn prepare<F, Fut>(build: F, applicant: Applicant<QuoterSource>) -> Result<Replica, RunError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<axum::Router, StartError>>,
{
    let assignment = applicant.assignment.clone();
    let (member, joined) = Member::join(applicant).await?;
    let tls = member.server_config(&[Protocol::Http1])?;
    let start =
        Start::new(assignment.clone(), joined.secrets, member.secrets(), member.configs(), member.state());
    let router = crate::router(build(start).await?);
    let listener = TcpListener::bind(assignment.listen())
        .await
        .map_err(|error| RunError::Io("binding a port", error))?;
    Ok(Replica { listener, router, tls: Arc::new(tls), member, leaf: joined.leaf })
}

#[cfg(test)]
mod tests {
    use mesh_protocol::Refusal;

    use super::*;

    #[test]
    fn why_it_ended_is_said_once() {
        let refusal = Refusal { code: "REVOKED".into(), detail: "the instance is revoked".into() };
        let ends = [
            RunError::from(MeshError::Refused(refusal)),
            FrameError::Closed.into(),
            Left::Expired.into(),
            StartError::new("there is no model").into(),
            RunError::Io("binding a port", std::io::ErrorKind::AddrInUse.into()),
        ];
        assert_eq!(ends[0].to_string(), "it may not join the mesh: REVOKED: the instance is revoked");
        for end in ends {
            assert!(std::error::Error::source(&end).is_none(), "{end}");
        }
    }
}
