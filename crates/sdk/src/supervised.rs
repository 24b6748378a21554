//! A process under a supervisor: what it is told, what it reports, and why it ends.

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use mesh_protocol::{
    Assignment, Bytes, EndOrder, EvidenceSource, RegisteredBy, Report, read_frame, write_frame,
};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::RunError;
use crate::membership::{Left, Member};
use crate::register::{Registered, Registration};
use crate::serve::Cut;

/// How long requests may take to finish after whoever started the replica by hand is gone.
const ORPHAN_DRAIN: Duration = Duration::from_secs(10);
/// The same once it is told to stop by a signal. The supervisor has waited for the requests in flight before that, so what is
/// still open then is a connection that somebody else holds.
const TERMINATED_DRAIN: Duration = Duration::from_secs(5);

/// The supervisor's end of a replica's life.
pub struct Supervised {
    /// The assignment comes over it, and it is the leash.
    stream: UnixStream,
    terminate: Signal,
    registered_by: RegisteredBy,
    /// There once it listens, where nobody else tells the mesh.
    registration: Option<Registration>,
}

/// Why a replica ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Terminated,
    /// Whoever started it by hand is gone. One of `up` waits for the next `up` instead.
    Orphaned,
    /// The mesh, or who supervises it, has no use for it, as this says.
    Failed(String),
    /// It is no member any more.
    Left(Left),
}

impl End {
    /// How long open requests may take, and whether their connections are cut at once.
    fn limit(&self) -> (Duration, Cut) {
        match self {
            Self::Terminated | Self::Failed(_) => (TERMINATED_DRAIN, Cut::WhenDone),
            Self::Orphaned => (ORPHAN_DRAIN, Cut::WhenDone),
            Self::Left(Left::Refused(_)) => (TERMINATED_DRAIN, Cut::WhenDone),
            // Nothing is served under an identity that has ended.
            Self::Left(Left::Expired) => (Duration::ZERO, Cut::Now),
        }
    }

    /// Lets open requests finish, within what this end allows. What is revoked is still watched meanwhile.
    pub async fn drain<E: EvidenceSource>(
        &self,
        stop: &watch::Sender<Cut>,
        serving: impl Future<Output = ()>,
        member: &Member<E>,
    ) {
        let (limit, cut) = self.limit();
        stop.send_replace(cut);
        tokio::select! {
            _done_or_cut_off = timeout(limit, serving) => {}
            never = member.watch() => match never {},
        }
    }
}

impl Supervised {
    /// Under whoever holds the other end of this. Within a runtime.
    ///
    /// # Errors
    /// The machine's.
    pub fn new(stream: StdUnixStream) -> Result<Self, RunError> {
        let terminate =
            signal(SignalKind::terminate()).map_err(|error| RunError::Io("listening for SIGTERM", error))?;
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let stream = stream.map_err(|error| RunError::Io("reaching the supervisor", error))?;
        Ok(Self { stream, terminate, registered_by: RegisteredBy::Supervisor, registration: None })
    }

    /// The assignment; none where it is told to stop before that.
    ///
    /// # Errors
    /// The supervisor says something else, or is gone.
    pub async fn assignment(&mut self) -> Result<Option<Assignment>, RunError> {
        let read = tokio::select! {
            payload = read_frame(&mut self.stream) => payload.and_then(|payload| Assignment::decode(&payload)),
            _ = self.terminate.recv() => return Ok(None),
        };
        match read {
            Ok(assignment) => {
                self.registered_by = assignment.registered_by.clone();
                Ok(Some(assignment))
            }
            Err(error) => {
                self.failed(&error).await;
                Err(error.into())
            }
        }
    }

    /// Does what comes before the replica listens; gives nothing where it is told to stop, or nobody supervises it any more.
    ///
    /// # Errors
    /// The work's own, which are reported to the supervisor too.
    pub async fn prepare<T, E: Display>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, E> {
        let prepared = tokio::select! {
            prepared = work => prepared,
            _ = self.terminate.recv() => return Ok(None),
            () = gone(&mut self.stream) => return Ok(None),
        };
        match prepared {
            Ok(prepared) => Ok(Some(prepared)),
            Err(error) => {
                self.failed(&error).await;
                Err(error)
            }
        }
    }

    /// Reports that it listens, with a certificate of which this is the SHA-256.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn listens(&mut self, address: SocketAddr, leaf: [u8; 32]) -> Result<(), RunError> {
        if let RegisteredBy::Itself(words) = &self.registered_by {
            self.registration = Some(Registration::of(address, words.description.clone())?);
        }
        let report = Report::Listening { address, leaf: Bytes(leaf.to_vec()) };
        Ok(write_frame(&mut self.stream, &report.encode()).await?)
    }

    async fn failed(&mut self, reason: &impl Display) {
        let report = Report::Failed(reason.to_string()).encode();
        let _nobody_listens = write_frame(&mut self.stream, &report).await.is_err();
    }

    /// Waits, as a member, for what ends it.
    pub async fn end<E: EvidenceSource + Sync>(&mut self, member: &Member<E>) -> End {
        let mut registered = self.registration.as_ref().map(|registration| registration.begin(member));
        let end = tokio::select! {
            _ = self.terminate.recv() => End::Terminated,
            () = orphaned(&mut self.stream, &self.registered_by) => End::Orphaned,
            left = member.stay() => End::Left(left),
            end = told(registered.as_mut()) => return end,
        };
        let end = match (end, registered) {
            (end @ (End::Terminated | End::Orphaned), Some(mut registered)) => tokio::select! {
                () = Box::pin(registered.leave()) => end,
                () = expired(member) => End::Left(Left::Expired),
            },
            (End::Left(Left::Refused(reason)), registered) => {
                tracing::warn!(
                    reason,
                    "the authority refused to renew the identity: nothing new is taken on"
                );
                self.end_of_the_refused(member, registered, reason).await
            }
            (end, _) => end,
        };
        match &end {
            End::Terminated | End::Failed(_) | End::Left(Left::Refused(_)) => {}
            End::Orphaned => {
                tracing::warn!("who has started this replica is gone: finishing open requests");
            }
            End::Left(Left::Expired) => tracing::error!("the identity ended and could not be renewed"),
        }
        end
    }

    /// Waits for what ends a replica whose identity is not renewed. Nobody selects it any more, and the supervisor knows how long
    /// what is open may take.
    async fn end_of_the_refused<E: EvidenceSource>(
        &mut self,
        member: &Member<E>,
        mut registered: Option<Registered<'_, E>>,
        reason: String,
    ) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminated,
            () = no_longer_registered(registered.as_mut()) => End::Failed(reason),
            () = orphaned(&mut self.stream, &self.registered_by) => End::Orphaned,
            () = member.expired() => End::Left(Left::Expired),
            never = member.watch() => match never {},
        }
    }
}

/// Renews as long as that is granted; returns when the identity ends.
async fn expired<E: EvidenceSource>(member: &Member<E>) {
    if let Left::Refused(reason) = member.stay().await {
        tracing::warn!(reason, "the authority refused to renew the identity, which holds for a while");
        tokio::select! {
            () = member.expired() => {}
            never = member.watch() => match never {},
        }
    }
}

/// Waits for the mesh to tell a replica to end, that has registered itself there.
async fn told<E: EvidenceSource>(registered: Option<&mut Registered<'_, E>>) -> End {
    let Some(registered) = registered else { return std::future::pending().await };
    match registered.told().await {
        EndOrder::Wanted(reason) => {
            tracing::info!(reason, "the mesh tells this replica to end");
            End::Terminated
        }
        EndOrder::Failed(reason) => {
            tracing::error!(reason, "the mesh has no use for this replica");
            End::Failed(reason)
        }
    }
}

/// The same where it does not register again.
async fn no_longer_registered<E: EvidenceSource>(registered: Option<&mut Registered<'_, E>>) {
    match registered {
        Some(registered) => registered.told_or_lost().await,
        None => std::future::pending().await,
    }
}

/// Waits for the supervisor to be gone: after the assignment nothing more is said, so any end of waiting means that.
async fn gone(stream: &mut UnixStream) {
    let _nothing_is_said = read_frame(stream).await.is_ok();
}

/// Waits for what ends a replica that listens once its supervisor is gone. One of `up` goes on until its identity ends: the next
/// `up` finds it, or nobody renews it.
async fn orphaned(stream: &mut UnixStream, registered_by: &RegisteredBy) {
    gone(stream).await;
    if *registered_by == RegisteredBy::Supervisor {
        tracing::warn!("the supervisor is gone: going on until the next one comes, or the identity ends");
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use mesh_protocol::{FrameError, OwnWords};

    use super::*;
    use crate::{FakeMesh, StartError};

    fn pair() -> (UnixStream, Supervised) {
        let (near, far) = StdUnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (UnixStream::from_std(near).unwrap(), Supervised::new(far).unwrap())
    }

    #[tokio::test]
    async fn what_keeps_a_replica_from_starting_is_reported() {
        let (mut supervisor, mut supervised) = pair();
        let refused: Result<Option<()>, _> =
            supervised.prepare(async { Err(StartError::new("there is no model")) }).await;
        assert_eq!(refused, Err(StartError::new("there is no model")));
        let report = Report::decode(&read_frame(&mut supervisor).await.unwrap()).unwrap();
        assert_eq!(report, Report::Failed("there is no model".into()));
    }

    #[tokio::test]
    async fn a_start_that_nobody_waits_for_any_more_is_given_up() {
        let (supervisor, mut supervised) = pair();
        drop(supervisor);
        let started: Result<Option<()>, StartError> = supervised.prepare(std::future::pending()).await;
        assert_eq!(started, Ok(None));
        let (supervisor, mut supervised) = pair();
        drop(supervisor);
        let gone = supervised.assignment().await;
        assert!(matches!(gone, Err(RunError::Handover(FrameError::Closed))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_listens_outlives_its_supervisor_until_its_identity_ends_or_it_is_told() {
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        let (supervisor, mut supervised) = pair();
        drop(supervisor);
        let waited = timeout(Duration::from_secs(600), supervised.end(&member)).await;
        assert!(waited.is_err());
        member.ends_in(Duration::from_secs(60));
        let begun = tokio::time::Instant::now();
        assert_eq!(supervised.end(&member).await, End::Left(Left::Expired));
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn without_who_started_it_by_hand_open_requests_have_ten_seconds() {
        let (supervisor, mut supervised) = pair();
        supervised.registered_by = RegisteredBy::Itself(OwnWords::default());
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        drop(supervisor);
        let end = supervised.end(&member).await;
        assert_eq!(end, End::Orphaned);
        let (stop, stopped) = watch::channel(Cut::No);
        let begun = tokio::time::Instant::now();
        end.drain(&stop, std::future::pending(), &member).await;
        assert_eq!((begun.elapsed(), *stopped.borrow()), (ORPHAN_DRAIN, Cut::WhenDone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_refused_stays_until_its_identity_ends() {
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        let (supervisor, mut supervised) = pair();
        let waited =
            timeout(Duration::from_secs(600), supervised.end_of_the_refused(&member, None, "no".into()))
                .await;
        assert!(waited.is_err());
        drop(supervisor);
        member.ends_in(Duration::from_secs(60));
        let begun = tokio::time::Instant::now();
        assert_eq!(supervised.end_of_the_refused(&member, None, "no".into()).await, End::Left(Left::Expired));
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test]
    async fn one_that_was_started_by_hand_and_is_refused_ends_with_who_started_it() {
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        let (supervisor, mut supervised) = pair();
        supervised.registered_by = RegisteredBy::Itself(OwnWords::default());
        drop(supervisor);
        assert_eq!(supervised.end_of_the_refused(&member, None, "no".into()).await, End::Orphaned);
    }

    #[tokio::test]
    async fn nothing_is_answered_under_an_identity_that_has_ended() {
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        let (stop, stopped) = watch::channel(Cut::No);
        End::Left(Left::Expired).drain(&stop, std::future::pending(), &member).await;
        assert_eq!(*stopped.borrow(), Cut::Now);
    }
}
