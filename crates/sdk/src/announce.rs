//! A replica that nobody speaks for says itself that it is there, and where it listens. It does so over a connection of its own
//! with each certificate; the newest is made before the one before ends, so that the mesh sees no gap.

use std::time::Duration;

use mesh_protocol::tls::Identity;
use mesh_protocol::{
    AnnounceAnswer, AnnounceRequest, Bytes, EvidenceSource, LeaveRequest, MeshCoordinates, RUN_BYTES,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::RunError;
use crate::membership::Member;
use crate::mesh_client::{MeshClient, MeshError};

/// Between tries to be announced.
const RETRY: Duration = Duration::from_secs(1);
/// How long it may take to say that it leaves.
const LEAVE: Duration = Duration::from_secs(5);
/// What the mesh API says to a replica that joined before it was started.
const NOT_JOINED: &str = "NOT_JOINED";

/// That this process listens on a port.
#[derive(Debug, Clone)]
pub(crate) struct Announcement(AnnounceRequest);

/// An announcement that is kept up, as long as this is polled and the member stays.
pub(crate) struct Announced<'a, E> {
    member: &'a Member<E>,
    request: AnnounceRequest,
    certificates: watch::Receiver<([u8; 32], Instant)>,
    connections: JoinSet<Result<AnnounceAnswer, MeshError>>,
}

impl Announcement {
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn of_port(port: u16) -> Result<Self, RunError> {
        let mut run = vec![0; RUN_BYTES];
        aws_lc_rs::rand::fill(&mut run)
            .map_err(|_| RunError::Io("naming this run", std::io::Error::other("no randomness")))?;
        Ok(Self(AnnounceRequest { port, run: Bytes(run) }))
    }

    pub(crate) fn begin<'a, E: EvidenceSource>(&self, member: &'a Member<E>) -> Announced<'a, E> {
        let mut announced = Announced {
            member,
            request: self.0.clone(),
            certificates: member.certificates(),
            connections: JoinSet::new(),
        };
        announced.connect();
        announced
    }
}

impl<E: EvidenceSource> Announced<'_, E> {
    /// Returns once the mesh tells the replica to end, with the reason.
    pub(crate) async fn told(&mut self) -> String {
        loop {
            match self.ended().await {
                Ok(answer) => return answer.reason,
                Err(error) => {
                    tracing::warn!(%error, "this replica is not announced; it is tried again");
                    if matches!(&error, MeshError::Retryable(reason) if reason.starts_with(NOT_JOINED)) {
                        self.member.renew_now();
                    }
                    sleep(RETRY).await;
                    self.connect();
                }
            }
        }
    }

    /// Says that the replica leaves, and returns once nothing is asked of it any more. Nothing is waited for where the mesh cannot
    /// be reached.
    pub(crate) async fn leave(&mut self) {
        let said = timeout(LEAVE, self.say_that_it_leaves()).await;
        let said = said.unwrap_or_else(|_| Err(MeshError::Retryable("no answer in time".into())));
        let ended = match said {
            Ok(()) => self.ended().await.map(|answer| answer.reason),
            Err(error) => Err(error),
        };
        match ended {
            Ok(reason) => tracing::info!(reason, "this replica was drained"),
            Err(error) => tracing::warn!(%error, "the mesh does not hear that this replica leaves"),
        }
    }

    /// Returns once none of its connections is open, and how the last one ended, or what one was told. Each new certificate makes
    /// another one.
    async fn ended(&mut self) -> Result<AnnounceAnswer, MeshError> {
        loop {
            tokio::select! {
                changed = self.certificates.changed() => if changed.is_ok() {
                    self.connect();
                },
                ended = self.connections.join_next() => match ended {
                    Some(Ok(Ok(answer))) => return Ok(answer),
                    // The certificate that it was made with has ended, and another is announced.
                    Some(_) if !self.connections.is_empty() => {}
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Err(_)) | None => return Err(MeshError::Retryable("it was given up".into())),
                },
            }
        }
    }

    fn connect(&mut self) {
        let (mesh, identity) = (self.member.mesh().clone(), self.member.identity().clone());
        self.connections.spawn(announced(mesh, identity, self.request.clone()));
    }

    async fn say_that_it_leaves(&self) -> Result<(), MeshError> {
        let mut client = MeshClient::connect(self.member.mesh(), self.member.identity()).await?;
        client.post("/v1/leave", &LeaveRequest { run: self.request.run.clone() }).await
    }
}

async fn announced(
    mesh: MeshCoordinates,
    identity: Identity,
    request: AnnounceRequest,
) -> Result<AnnounceAnswer, MeshError> {
    let mut client = MeshClient::connect(&mesh, &identity).await?;
    client.post_and_wait("/v1/announce", &request).await
}
