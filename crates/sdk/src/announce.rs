//! A replica that nobody speaks for says itself that it is there, and where it listens. It does so over a connection of its own
//! with each certificate; the newest is made before the one before ends, so that the mesh sees no gap.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_protocol::tls::Identity;
use mesh_protocol::{
    AnnounceAnswer, AnnounceRequest, Bytes, EvidenceSource, LeaveRequest, MeshCoordinates, RUN_BYTES,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::RunError;
use crate::membership::Member;
use crate::mesh_client::{MeshClient, MeshError};

/// Between tries to be announced, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// With the newest certificate, with the one before, and one on its way.
const MAX_CONNECTIONS: usize = 3;
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
    connections: JoinSet<Connected>,
    /// Of those, the newest last.
    newest: VecDeque<AbortHandle>,
    /// Before the next try.
    wait: Duration,
}

/// How a connection ended.
struct Connected {
    /// Of the certificate that it was made with.
    leaf: [u8; 32],
    lasted: Duration,
    outcome: Result<AnnounceAnswer, MeshError>,
}

impl Announcement {
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn of(address: SocketAddr) -> Result<Self, RunError> {
        let mut run = vec![0; RUN_BYTES];
        aws_lc_rs::rand::fill(&mut run)
            .map_err(|_| RunError::Io("naming this run", std::io::Error::other("no randomness")))?;
        Ok(Self(AnnounceRequest { address, run: Bytes(run) }))
    }

    pub(crate) fn begin<'a, E: EvidenceSource>(&self, member: &'a Member<E>) -> Announced<'a, E> {
        let mut announced = Announced {
            member,
            request: self.0.clone(),
            certificates: member.certificates(),
            connections: JoinSet::new(),
            newest: VecDeque::new(),
            wait: FIRST_RETRY,
        };
        announced.connect(Duration::ZERO);
        announced
    }
}

impl<E: EvidenceSource> Announced<'_, E> {
    /// Returns once the mesh has an end for the replica: it says so, or will not have it. Until then it is announced again
    /// whenever that is lost.
    pub(crate) async fn told(&mut self) -> AnnounceAnswer {
        loop {
            let error = match self.ended().await {
                Ok(answer) => return answer,
                Err(MeshError::Refused(refusal)) => {
                    return AnnounceAnswer::Failed(format!("{}: {}", refusal.code, refusal.detail));
                }
                Err(error) => error,
            };
            tracing::warn!(%error, "this replica is not announced; it is tried again");
            if matches!(&error, MeshError::Retryable(reason) if reason.starts_with(NOT_JOINED)) {
                self.member.renew_now();
            }
            self.connect(self.wait);
            self.wait = (self.wait * 2).min(LONGEST_RETRY);
        }
    }

    /// Says that the replica leaves, and returns once nothing is asked of it any more. Nothing is waited for where the mesh cannot
    /// be reached.
    pub(crate) async fn leave(&mut self) {
        let said = timeout(LEAVE, self.say_that_it_leaves()).await;
        let said = said.unwrap_or_else(|_| Err(MeshError::Retryable("no answer in time".into())));
        let ended = match said {
            Ok(()) => self.ended().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(AnnounceAnswer::Wanted(reason) | AnnounceAnswer::Failed(reason)) => {
                tracing::info!(reason, "this replica was drained");
            }
            Err(error) => tracing::warn!(%error, "the mesh does not hear that this replica leaves"),
        }
    }

    /// Returns what a connection was told, or how the one with the newest certificate ended. Those of certificates before end with
    /// these, which says nothing.
    pub(crate) async fn ended(&mut self) -> Result<AnnounceAnswer, MeshError> {
        loop {
            tokio::select! {
                changed = self.certificates.changed() => if changed.is_ok() {
                    self.wait = FIRST_RETRY;
                    self.connect(Duration::ZERO);
                },
                ended = self.connections.join_next() => {
                    let ended = match ended {
                        Some(Ok(ended)) => ended,
                        Some(Err(error)) if error.is_cancelled() => continue,
                        Some(Err(_)) | None => return Err(MeshError::Retryable("it was given up".into())),
                    };
                    if ended.lasted > LONGEST_RETRY {
                        self.wait = FIRST_RETRY;
                    }
                    if ended.outcome.is_ok() || ended.leaf == self.member.leaf() {
                        return ended.outcome;
                    }
                }
            }
        }
    }

    /// With the certificate that there is now, after a wait. The mesh API keeps each connection for as long as its certificate
    /// lives, and has room for few of one replica: the oldest are given up here.
    fn connect(&mut self, wait: Duration) {
        let (mesh, identity) = (self.member.mesh().clone(), self.member.identity().clone());
        let (leaf, request) = (self.member.leaf(), self.request.clone());
        self.newest.push_back(self.connections.spawn(async move {
            sleep(wait).await;
            let begun = Instant::now();
            let outcome = announced(mesh, identity, request).await;
            Connected { leaf, lasted: begun.elapsed(), outcome }
        }));
        while self.newest.len() > MAX_CONNECTIONS
            && let Some(oldest) = self.newest.pop_front()
        {
            oldest.abort();
        }
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
