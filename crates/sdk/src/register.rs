//! A replica that nobody speaks for registers itself with the mesh, and renews the lease that it is given. When that is lost it
//! registers again, with a larger fencing token; when another process has its place, it ends.
//!
//! Each renewal waits at the other end for an order to end. With another certificate there is another connection, and the one
//! before ends only once that is answered, so that the mesh sees no gap.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mesh_protocol::{
    Bytes, EndOrder, EvidenceSource, LeaseRequest, RUN_BYTES, RegisterAnswer, RegisterRequest, RenewAnswer,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use types::Description;

use crate::RunError;
use crate::membership::Member;
use crate::mesh_client::{MeshClient, MeshError, retryable};

/// Between tries to reach the mesh: none at first, since it waits a second for whoever has lost a connection, then this, and at
/// most so long.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(3);
/// How long it may take to connect and to register, and how much later than it should an answer to a renewal may come.
const ANSWER: Duration = Duration::from_secs(5);
/// Renewals within the time of a lease.
const RENEWALS: u32 = 3;
/// What the mesh API says to a replica that joined before it was started, and to one whose lease is over.
const NOT_JOINED: &str = "NOT_JOINED";
const LEASE_ENDED: &str = "LEASE_ENDED";

/// What this process registers itself with.
#[derive(Debug, Clone)]
pub(crate) struct Registration(RegisterRequest);

/// A registration that is kept up, as long as this is polled and the member stays.
pub(crate) struct Registered<'a, E> {
    member: &'a Member<E>,
    shared: Arc<Shared>,
    keeping: Pin<Box<dyn Future<Output = Result<EndOrder, MeshError>> + Send + 'a>>,
}

/// What is known while it is kept up.
struct Shared {
    lease: Mutex<Option<LeaseRequest>>,
    /// Whether it registers again where the lease is over.
    again: AtomicBool,
}

/// Keeps a registration up.
struct Keeper<'a, E> {
    member: &'a Member<E>,
    request: RegisterRequest,
    shared: Arc<Shared>,
    certificates: watch::Receiver<([u8; 32], Instant)>,
    connection: Option<Connection>,
    /// Of the certificate before.
    former: Option<Connection>,
    ttl: Duration,
    /// When the lease was renewed last.
    renewed: Instant,
}

struct Connection {
    client: MeshClient,
    leaf: [u8; 32],
}

impl Registration {
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn of(address: SocketAddr, description: Description) -> Result<Self, RunError> {
        let mut run = vec![0; RUN_BYTES];
        aws_lc_rs::rand::fill(&mut run)
            .map_err(|_| RunError::Io("naming this run", std::io::Error::other("no randomness")))?;
        Ok(Self(RegisterRequest::new(Bytes(run), address, description)))
    }

    pub(crate) fn begin<'a, E: EvidenceSource + Sync>(&self, member: &'a Member<E>) -> Registered<'a, E> {
        let shared = Arc::new(Shared { lease: Mutex::default(), again: AtomicBool::new(true) });
        let keeper = Keeper {
            member,
            request: self.0.clone(),
            shared: Arc::clone(&shared),
            certificates: member.certificates(),
            connection: None,
            former: None,
            ttl: Duration::ZERO,
            renewed: Instant::now(),
        };
        Registered { member, shared, keeping: Box::pin(keeper.keep()) }
    }
}

impl<E: EvidenceSource> Registered<'_, E> {
    /// Returns once the mesh has an end for the replica: it says so, or will not have it. Until then it registers again whenever
    /// its lease is lost.
    pub(crate) async fn told(&mut self) -> EndOrder {
        self.ended().await.unwrap_or_else(|error| EndOrder::Failed(error.to_string()))
    }

    /// The same where it does not register again: what ends the lease ends the replica.
    pub(crate) async fn told_or_lost(&mut self) {
        self.shared.again.store(false, Ordering::Relaxed);
        if let Err(error) = self.ended().await {
            tracing::warn!(%error, "this replica is not registered any more");
        }
    }

    /// Says that the replica leaves, and returns once nothing is asked of it any more. Nothing is waited for where the mesh cannot
    /// be reached.
    pub(crate) async fn leave(&mut self) {
        self.shared.again.store(false, Ordering::Relaxed);
        let said = timeout(ANSWER, self.say_that_it_leaves()).await;
        let said = said.unwrap_or_else(|_| Err(retryable("no answer in time")));
        let ended = match said {
            Ok(()) => self.ended().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(EndOrder::Wanted(reason) | EndOrder::Failed(reason)) => {
                tracing::info!(reason, "this replica was drained");
            }
            Err(error) => tracing::warn!(%error, "the mesh does not hear that this replica leaves"),
        }
    }

    async fn ended(&mut self) -> Result<EndOrder, MeshError> {
        self.keeping.as_mut().await
    }

    async fn say_that_it_leaves(&mut self) -> Result<(), MeshError> {
        let lease = self.shared.lease().ok_or_else(|| retryable("it is not registered"))?;
        let mut client = MeshClient::connect(self.member.mesh(), self.member.identity()).await?;
        client.post("/v1/leave", &lease).await
    }
}

impl Shared {
    fn lease(&self) -> Option<LeaseRequest> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, lease: Option<LeaseRequest>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    fn may_register(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }
}

impl<E: EvidenceSource> Keeper<'_, E> {
    async fn keep(mut self) -> Result<EndOrder, MeshError> {
        let mut wait = Duration::ZERO;
        loop {
            let error = match self.renewed().await {
                Ok(None) => {
                    wait = Duration::ZERO;
                    continue;
                }
                Ok(Some(order)) => return Ok(order),
                Err(MeshError::Refused(refusal)) => {
                    return Ok(EndOrder::Failed(MeshError::Refused(refusal).to_string()));
                }
                Err(error) => error,
            };
            self.lost(&error)?;
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.certificates.changed() => {}
            }
            wait = (wait * 2).clamp(FIRST_RETRY, LONGEST_RETRY);
        }
    }

    /// What follows from it that it was not renewed.
    fn lost(&mut self, error: &MeshError) -> Result<(), MeshError> {
        let says = |code| matches!(error, MeshError::Retryable(reason) if reason.starts_with(code));
        if says(LEASE_ENDED) {
            self.shared.set(None);
        } else {
            // Whatever has become of it, there may be no answer any more.
            (self.connection, self.former) = (None, None);
        }
        if says(NOT_JOINED) {
            self.member.renew_now();
        }
        let is_over = self.shared.lease().is_none() || self.renewed.elapsed() > self.ttl;
        if is_over && !self.shared.may_register() {
            return Err(error.clone());
        }
        tracing::warn!(%error, "this replica does not reach the mesh, or is registered no more; it is tried again");
        Ok(())
    }

    /// Renews the lease once, registering before that where there is none; gives the order to end, if there is one.
    async fn renewed(&mut self) -> Result<Option<EndOrder>, MeshError> {
        let is_current = |known: &Connection| known.leaf == self.member.leaf();
        if !self.connection.as_ref().is_some_and(is_current)
            && let Err(error) = self.connect().await
        {
            // The one with the certificate before does as well, for as long as it is good.
            if self.connection.as_ref().is_none_or(|known| !known.client.is_open()) {
                return Err(error);
            }
        }
        let connection = self.connection.as_mut().ok_or_else(|| retryable("there is no connection"))?;
        let lease = match self.shared.lease() {
            Some(lease) => lease,
            None => {
                let registered = connection.client.post_and_wait("/v1/register", &self.request);
                let registered: RegisterAnswer = in_time(ANSWER, registered).await?;
                let RegisterAnswer { lease, ttl_millis, fencing_token } = registered;
                tracing::info!(lease, fencing_token, ttl_millis, "this replica is registered with the mesh");
                let lease = LeaseRequest { lease, fencing_token };
                (self.ttl, self.renewed) = (Duration::from_millis(ttl_millis), Instant::now());
                self.shared.set(Some(lease.clone()));
                lease
            }
        };
        let asked = Instant::now();
        let answer = connection.client.post_and_wait("/v1/renew", &lease);
        let answer: RenewAnswer = in_time(self.ttl / RENEWALS + ANSWER, answer).await?;
        (self.renewed, self.former) = (asked, None);
        Ok(answer.end)
    }

    async fn connect(&mut self) -> Result<(), MeshError> {
        let (leaf, member) = (self.member.leaf(), self.member);
        let client = in_time(ANSWER, MeshClient::connect(member.mesh(), member.identity())).await?;
        self.former = self.connection.replace(Connection { client, leaf });
        Ok(())
    }
}

/// Whatever is late is lost.
async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, MeshError>>,
) -> Result<T, MeshError> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(retryable("the mesh API did not answer in time")))
}

#[cfg(test)]
mod tests;
