//! Being a member of the mesh: the identity is renewed at half of its life, and what is revoked is watched.
//!
//! A refused renewal ends the membership; one that only failed is tried again until the identity ends, and it is never used
//! beyond that.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_protocol::tls::{Admits, Clients, Identity, Peer, RootPin, server_config};
use mesh_protocol::{Bytes, EvidenceSource, MeshCoordinates, Revocations, Subject, WatchAnswer};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use types::ServiceName;

use crate::join::{Applicant, Joined};
use crate::mesh_client::{MeshClient, MeshError};
use crate::outgoing::Outgoing;
use crate::serve::Protocol;
use crate::{RunError, StartError};

/// Between tries of a renewal that failed, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Within which all replicas join again once another manifest is in force.
const REJOINING: Duration = Duration::from_secs(10);
/// Between tries to reach the mesh API for what is revoked.
const WATCH_RETRY: Duration = Duration::from_secs(1);
/// A list that is older than this counts as one on which everybody stands.
const MAX_STALE: Duration = Duration::from_secs(300);
/// The same for a replica that has just joined and has no list yet.
const FIRST_STALE: Duration = Duration::from_secs(60);

/// What is known of who may no longer call.
#[derive(Debug, Clone)]
pub struct Trusted {
    list: Option<Arc<Revocations>>,
    /// Until when it counts.
    until: Instant,
    /// When the last list that was news was issued, in Unix seconds of the authority, and when it came.
    heard: Option<(u64, Instant)>,
}

impl Trusted {
    pub(crate) fn begun() -> Self {
        Self { list: None, until: Instant::now() + FIRST_STALE, heard: None }
    }

    /// With a list of the authority. It counts for longer only if it is news: one that was issued before the last, or that
    /// should have been followed by another by now, says nothing of what was revoked since.
    fn with(&self, list: &Revocations) -> Self {
        let now = Instant::now();
        let is_news = self.heard.is_none_or(|(issued, came)| {
            list.issued_at >= issued && issued.saturating_add((now - came).as_secs()) <= list.next_at
        });
        let heard = Some((list.issued_at, now));
        let list = Some(Arc::new(list.clone()));
        if is_news {
            return Self { list, until: now + MAX_STALE, heard };
        }
        tracing::warn!("the authority says no more than an old list of what is revoked");
        Self { list, ..self.clone() }
    }

    /// Whether a peer with a certificate that verifies is still trusted.
    pub(crate) fn allows(&self, peer: &Peer) -> Result<(), String> {
        if Instant::now() > self.until {
            return Err("what is revoked is not known any more".into());
        }
        match &self.list {
            Some(list) if list.revokes(&peer.id, &peer.leaf) => Err(format!("{} is revoked", peer.id)),
            _ => Ok(()),
        }
    }
}

/// Who may call a replica: gateways, and the services that are named.
pub(crate) fn admits(allow: Vec<ServiceName>, trusted: watch::Receiver<Trusted>) -> Admits {
    Arc::new(move |peer| {
        trusted.borrow().allows(peer)?;
        match &peer.id.subject {
            Subject::Gateway(_) => Ok(()),
            Subject::Service { service, .. } if allow.contains(service) => Ok(()),
            _ => Err(format!("{} may not call this service", peer.id)),
        }
    })
}

/// A member, from its first join to its end.
pub struct Member<E> {
    applicant: Applicant<E>,
    identity: Identity,
    trusted: watch::Sender<Trusted>,
    /// The certificate so far and when it ends, which no setting of the clock moves.
    current: Mutex<([u8; 32], Instant)>,
    random: Mutex<fastrand::Rng>,
    /// T_n of the transition that is in force, as the authority has signed it last.
    transition: watch::Sender<[u8; 32]>,
    /// T_n of the transition that it has joined in.
    joined_in: Mutex<[u8; 32]>,
    /// Locked while the authority is asked for another certificate, until that is the one.
    renewing: tokio::sync::Mutex<()>,
}

/// How a membership ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Left {
    /// The authority refused the renewal: finish, then end.
    #[error("the authority refused to renew the identity: {0}")]
    Refused(String),
    /// The identity ended without a new one.
    #[error("the identity ended and could not be renewed")]
    Expired,
}

impl<E: EvidenceSource> Member<E> {
    /// Joins. What may succeed on another try is tried until whoever started this process has no more patience.
    ///
    /// # Errors
    /// The authority refuses.
    pub async fn join(applicant: Applicant<E>) -> Result<(Self, Joined), MeshError> {
        // From here on this process holds keys: nobody of the same user may read its memory. The kernel refuses only a value
        // that it does not know.
        let _known_to_every_kernel = set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
        let identity = Identity::default();
        let mut wait = Duration::from_millis(50);
        let transition = assigned_transition(&applicant);
        let joined = loop {
            match applicant.join(&identity, None, transition).await {
                Ok(joined) => break joined,
                Err(MeshError::Retryable(reason)) => {
                    tracing::warn!(reason, "joining the mesh failed; it is tried again");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
                // Whoever starts it again tells it of the manifest that is in force then.
                Err(refused @ (MeshError::Refused(_) | MeshError::NotTheAuthority(_))) => {
                    return Err(refused);
                }
            }
        };
        let member = Self::joined(applicant, identity, (joined.leaf, joined.not_after));
        // Nobody is let in before it is known who may not be.
        while let Err(error) = member.know_the_revoked().await {
            tracing::warn!(%error, "what is revoked cannot be asked for; it is tried again");
            sleep(WATCH_RETRY).await;
        }
        Ok((member, joined))
    }

    pub(crate) fn joined(applicant: Applicant<E>, identity: Identity, current: ([u8; 32], u64)) -> Self {
        let trusted = watch::Sender::new(Trusted::begun());
        let random = Mutex::new(fastrand::Rng::new());
        let transition = assigned_transition(&applicant);
        Self {
            applicant,
            identity,
            trusted,
            current: Mutex::new((current.0, Instant::now() + remaining(current.1))),
            random,
            transition: watch::Sender::new(transition),
            joined_in: Mutex::new(transition),
            renewing: tokio::sync::Mutex::default(),
        }
    }

    /// What it serves with: gateways and the services that it allows may call, by one of these protocols.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn server_config(&self, protocols: &[Protocol]) -> Result<ServerConfig, RunError> {
        let mesh = self.mesh();
        let allow = self.applicant.assignment.allow.clone();
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.alpn()).collect();
        let config = server_config(
            self.identity.clone(),
            RootPin::Spki(mesh.root_spki.0.clone()),
            &mesh.trust_domain,
            Clients::Known,
            admits(allow, self.trusted()),
            &protocols,
        );
        Ok(config.map_err(|error| StartError::new(format_args!("TLS cannot be set up: {error}")))?)
    }

    /// What it calls other services with.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing::new(self.mesh().clone(), self.identity.clone(), self.trusted())
    }

    /// The authority says that these are revoked.
    #[cfg(any(test, feature = "fakes"))]
    pub fn revoke(&self, entries: Vec<mesh_protocol::Revoked>) {
        let list = Revocations { entries, ..Revocations::none([0; 32], 0) };
        self.trusted.send_replace(Trusted { list: Some(Arc::new(list)), ..Trusted::begun() });
    }

    /// What is known of who may no longer call.
    pub fn trusted(&self) -> watch::Receiver<Trusted> {
        self.trusted.subscribe()
    }

    fn mesh(&self) -> &MeshCoordinates {
        &self.applicant.assignment.mesh
    }

    /// SHA-256 of the certificate that it shows now.
    pub fn leaf(&self) -> [u8; 32] {
        self.current().0
    }

    /// The same once a renewal that has begun is over, which [`stay`](Self::stay) has to be polled for meanwhile. It can be
    /// dropped then without losing a certificate that the authority has given already.
    pub async fn settled(&self) -> [u8; 32] {
        let _none_is_begun = self.renewing.lock().await;
        self.leaf()
    }

    fn current(&self) -> ([u8; 32], Instant) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews and watches, until the membership ends.
    pub async fn stay(&self) -> Left {
        tokio::select! {
            left = self.renew() => left,
            never = self.watch() => match never {},
        }
    }

    async fn renew(&self) -> Left {
        loop {
            let (leaf, ends) = self.current();
            let left = ends.saturating_duration_since(Instant::now());
            let jitter = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
            tokio::select! {
                () = sleep(left.mul_f64(0.45 + 0.1 * jitter)) => {}
                // Another manifest: everybody joins again, and not all in the same moment.
                () = self.another_transition() => sleep(REJOINING.min(left / 4).mul_f64(jitter)).await,
            }
            let joined = tokio::select! {
                joined = self.renewed(leaf) => joined,
                () = sleep_until(ends) => return Left::Expired,
            };
            match joined {
                Ok(joined) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
                        (joined.leaf, Instant::now() + remaining(joined.not_after));
                    tracing::info!(not_after = joined.not_after, "the identity was renewed");
                }
                Err(reason) => return Left::Refused(reason),
            }
        }
    }

    /// Returns once another transition is in force than the last one that was joined in.
    async fn another_transition(&self) {
        let mut transitions = self.transition.subscribe();
        let joined = *self.joined_in.lock().unwrap_or_else(PoisonError::into_inner);
        let _this_holds_the_sender = transitions.wait_for(|now| *now != joined).await.is_ok();
    }

    /// Tries until there is a new identity or a refusal.
    async fn renewed(&self, leaf: [u8; 32]) -> Result<Joined, String> {
        let mut wait = FIRST_RETRY;
        loop {
            let transition = *self.transition.borrow();
            let begun = self.renewing.lock().await;
            let joined = self.applicant.join(&self.identity, Some(leaf), transition).await;
            // The caller takes it without waiting in between.
            drop(begun);
            match joined {
                Ok(joined) => {
                    *self.joined_in.lock().unwrap_or_else(PoisonError::into_inner) = transition;
                    return Ok(joined);
                }
                Err(refused @ MeshError::Refused(_)) => return Err(refused.to_string()),
                Err(error @ (MeshError::Retryable(_) | MeshError::NotTheAuthority(_))) => {
                    tracing::warn!(%error, "renewing the identity failed; it is tried again");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Watches what is revoked.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            if let Err(error) = self.watch_over_one_connection().await {
                tracing::debug!(%error, "what is revoked cannot be watched now");
            }
            sleep(WATCH_RETRY).await;
        }
    }

    async fn know_the_revoked(&self) -> Result<(), MeshError> {
        let mut client = MeshClient::connect(self.mesh(), &self.identity).await?;
        self.ask_for_the_revoked(&mut client).await
    }

    async fn watch_over_one_connection(&self) -> Result<(), MeshError> {
        let mut client = MeshClient::connect(self.mesh(), &self.identity).await?;
        loop {
            self.ask_for_the_revoked(&mut client).await?;
        }
    }

    /// Asks once, and waits for something new where something is known.
    async fn ask_for_the_revoked(&self, client: &mut MeshClient) -> Result<(), MeshError> {
        let known = self.trusted.borrow().list.as_ref().map(|list| list.epoch);
        let path = match known {
            None => "/v1/watch".to_owned(),
            Some(epoch) => {
                format!("/v1/watch?epoch={epoch}&tn={}", Bytes(self.transition.borrow().to_vec()))
            }
        };
        let answer: WatchAnswer = client.get(&path).await?;
        let list = answer.revocations.verify(&self.mesh().root_spki.0);
        let list = list.filter(|list| list.epoch >= known.unwrap_or(0)).ok_or_else(|| {
            MeshError::Retryable("the list of what is revoked is not the authority's, or an older one".into())
        })?;
        self.trusted.send_modify(|trusted| *trusted = trusted.with(list));
        if let Ok(transition) = <[u8; 32]>::try_from(list.t_n.0.as_slice()) {
            self.transition.send_if_modified(|known| std::mem::replace(known, transition) != transition);
        }
        Ok(())
    }
}

/// T_n as the supervisor has said it. One of another length is none, and the authority's evidence will be over another.
fn assigned_transition<E>(applicant: &Applicant<E>) -> [u8; 32] {
    applicant.assignment.mesh.transition.0.as_slice().try_into().unwrap_or_default()
}

fn remaining(not_after: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(not_after).saturating_sub(now)
}

/// Returns once a peer is no longer trusted, or the certificate that it has shown has ended.
pub async fn distrusted(peer: Peer, mut trusted: watch::Receiver<Trusted>) {
    // Fixed now: a clock that is set back afterwards gives nobody more time.
    let ends = Instant::now() + peer.remaining();
    loop {
        let until = {
            let known = trusted.borrow_and_update();
            if known.allows(&peer).is_err() {
                return;
            }
            known.until
        };
        tokio::select! {
            changed = trusted.changed() => if changed.is_err() {
                // Nobody watches any more: the process ends.
                std::future::pending::<()>().await;
            },
            () = sleep_until(until + Duration::from_millis(1)) => {}
            () = sleep_until(ends) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeMesh;

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_no_news_gives_nobody_more_time() {
        let list = |issued| Revocations::none([0; 32], issued);
        let first = Trusted::begun().with(&list(1_000));
        assert_eq!(first.until, Instant::now() + MAX_STALE);
        assert_eq!(first.with(&list(999)).until, first.until, "it is older");
        tokio::time::advance(Duration::from_secs(60)).await;
        let again = first.with(&list(1_000));
        assert_eq!(again.until, Instant::now() + MAX_STALE, "nothing newer is due yet");
        let newer = again.with(&list(1_060));
        tokio::time::advance(Duration::from_secs(61)).await;
        let stuck = newer.with(&list(1_060));
        assert_eq!(stuck.until, newer.until, "the authority has not said it again in time");
        assert_eq!(stuck.with(&list(1_121)).until, Instant::now() + MAX_STALE);
        // What it says counts in either case.
        let revoked =
            mesh_protocol::Revoked { about: mesh_protocol::RevokedType::Leaf, value: "09".repeat(32), at: 0 };
        let late = Revocations { epoch: 1, entries: vec![revoked], ..list(999) };
        let id = "spiffe://test.dev.invalid/service/vrf/0".parse().unwrap();
        let peer = Peer { id, leaf: [9; 32], not_after: u64::MAX };
        assert!(stuck.allows(&peer).is_ok() && stuck.with(&late).allows(&peer).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_has_begun_is_over_before_it_is_said_which_certificate_it_is() {
        let (member, leaf) = FakeMesh::new().member("vrf", &[]);
        assert_eq!(member.settled().await, leaf);
        let begun = member.renewing.lock().await;
        let waited = tokio::time::timeout(Duration::from_secs(1), member.settled()).await;
        assert!(waited.is_err());
        let renews = async {
            let ends = member.current().1;
            *member.current.lock().unwrap() = ([9; 32], ends);
            drop(begun);
        };
        assert_eq!(tokio::join!(member.settled(), renews).0, [9; 32]);
    }
}
