//! Being a member of the mesh: the identity is renewed at half of its life, once a join would give other secrets, or with another
//! manifest, and what is revoked is watched.
//!
//! A refused renewal ends the membership; one that only failed is tried again until the identity ends, and it is never used
//! beyond that.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_protocol::tls::{Clients, Identity, RootPin, server_config};
use mesh_protocol::{Bytes, EvidenceSource, MeshCoordinates, Protocol, SecretSet, WatchAnswer};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Configs;
use crate::configuring::Configuring;
use crate::join::{Applicant, InForce, Joined};
use crate::mesh_client::{MeshClient, MeshError};
use crate::outgoing::Outgoing;
use crate::state::{Connections, State};
use crate::trusted::{Trusted, admits};
use crate::{RunError, StartError};

/// How the codes begin that say nothing but that a nonce came too late, or over another connection.
const OF_A_NONCE: &str = "NONCE_";
/// Between tries of a renewal that failed, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Within which all replicas join again once another manifest is in force.
const REJOINING: Duration = Duration::from_secs(10);
/// The same once a join would give other secrets, of the replicas of their service.
const TAKING_SECRETS: Duration = Duration::from_secs(1);
/// Between tries to reach the mesh API for what is revoked.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// A member, from its first join to its end.
pub struct Member<E> {
    applicant: Applicant<E>,
    identity: Identity,
    trusted: watch::Sender<Trusted>,
    /// The certificate so far and when it ends, which no setting of the clock moves.
    current: watch::Sender<([u8; 32], Instant)>,
    /// Told where a new certificate is wanted before its time.
    wanted: Notify,
    random: Mutex<fastrand::Rng>,
    /// T_n of the transition that is in force, as the authority has signed it last.
    transition: watch::Sender<[u8; 32]>,
    /// What the authority runs, as the root of the mesh has said it last.
    authority: Mutex<[u8; 32]>,
    /// T_n of the transition that it has joined in.
    joined_in: Mutex<[u8; 32]>,
    /// What it is given.
    secrets: watch::Sender<SecretSet>,
    /// Which secrets a join would give, as the authority has said it last.
    granted: watch::Sender<Option<[u8; 32]>>,
    held: Mutex<Held>,
    /// What its service works with.
    configuring: Configuring,
    /// Locked while the authority is asked for another certificate, until that is the one.
    renewing: tokio::sync::Mutex<()>,
    /// Told when the mesh API answers over another connection: it may have been away.
    reached: Notify,
}

/// Which secrets it has, as digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// Those that the last join gave.
    joined: [u8; 32],
    /// Those that the authority had said by then. It may have given others, and is not asked for these again.
    said: Option<[u8; 32]>,
}

impl Held {
    /// Whether it is worth a join that the authority says this.
    fn lacks(&self, said: Option<[u8; 32]>) -> bool {
        said.is_some_and(|said| said != self.joined && Some(said) != self.said)
    }
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
        let config_digest = Configuring::new(&applicant.assignment.config).held();
        let (transition, authority) = (assigned_transition(&applicant), assigned_authority(&applicant));
        let in_force = InForce { transition, config_digest, authority };
        let joined = loop {
            match applicant.join(&identity, None, in_force).await {
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
        let member = Self::joined(applicant, identity, &joined);
        // Nobody is let in before it is known who may not be.
        while let Err(error) = member.know_the_revoked().await {
            tracing::warn!(%error, "what is revoked cannot be asked for; it is tried again");
            sleep(WATCH_RETRY).await;
        }
        Ok((member, joined))
    }

    pub(crate) fn joined(applicant: Applicant<E>, identity: Identity, joined: &Joined) -> Self {
        let trusted = watch::Sender::new(Trusted::begun());
        let random = Mutex::new(fastrand::Rng::new());
        let (transition, authority) = (assigned_transition(&applicant), assigned_authority(&applicant));
        let configuring = Configuring::new(&applicant.assignment.config);
        Self {
            applicant,
            identity,
            trusted,
            current: watch::Sender::new((joined.leaf, Instant::now() + remaining(joined.not_after))),
            wanted: Notify::new(),
            random,
            transition: watch::Sender::new(transition),
            authority: Mutex::new(authority),
            joined_in: Mutex::new(transition),
            secrets: watch::Sender::new(joined.secrets.clone()),
            granted: watch::Sender::new(None),
            held: Mutex::new(Held { joined: joined.granted, said: None }),
            configuring,
            renewing: tokio::sync::Mutex::default(),
            reached: Notify::new(),
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

    /// What it shares with the other replicas of its service.
    pub fn state(&self) -> State {
        State::of(Connections::new(self.mesh().clone(), self.identity.clone(), self.certificates()))
    }

    /// The authority says that these are revoked.
    #[cfg(any(test, feature = "fakes"))]
    pub fn revoke(&self, entries: Vec<mesh_protocol::Revoked>) {
        let none = mesh_protocol::Revocations::none([0; 32], 0);
        let list = mesh_protocol::Revocations { entries, ..none };
        self.trusted.send_replace(Trusted::begun().with(&list));
    }

    /// The authority wants another configuration; gives what the service has made of it.
    #[cfg(any(test, feature = "fakes"))]
    pub async fn offer(&self, revision: u64, config: serde_json::Value) -> Result<(), StartError> {
        self.configuring.offer(revision, config).await
    }

    /// What is known of who may no longer call.
    pub fn trusted(&self) -> watch::Receiver<Trusted> {
        self.trusted.subscribe()
    }

    /// What it is given of the secrets, as it changes. What it is given now is seen already.
    pub fn secrets(&self) -> watch::Receiver<SecretSet> {
        self.secrets.subscribe()
    }

    /// The configuration of its service, as it changes. What it was started with is seen already.
    pub fn configs(&self) -> Configs {
        self.configuring.configs()
    }

    pub(crate) fn mesh(&self) -> &MeshCoordinates {
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
        *self.current.borrow()
    }

    /// Changes with each certificate.
    pub(crate) fn certificates(&self) -> watch::Receiver<([u8; 32], Instant)> {
        self.current.subscribe()
    }

    /// Lets [`stay`](Self::stay) renew at once.
    pub(crate) fn renew_now(&self) {
        self.wanted.notify_waiters();
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Renews, watches, and takes other configurations over, until the membership ends.
    pub async fn stay(&self) -> Left {
        // Boxed, since whoever awaits this is large already.
        tokio::select! {
            left = Box::pin(self.renew()) => left,
            never = self.watch() => match never {},
            never = Box::pin(self.configuring.follow(self.mesh(), &self.identity)) => match never {},
        }
    }

    #[cfg(test)]
    pub(crate) fn ends_in(&self, left: Duration) {
        self.current.send_modify(|(_, ends)| *ends = Instant::now() + left);
    }

    /// Returns once the identity has ended.
    pub(crate) async fn expired(&self) {
        sleep_until(self.current().1).await;
    }

    async fn renew(&self) -> Left {
        loop {
            let (leaf, ends) = self.current();
            let left = ends.saturating_duration_since(Instant::now());
            let jitter = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
            tokio::select! {
                () = sleep(left.mul_f64(0.45 + 0.1 * jitter)) => {}
                () = self.wanted.notified() => {}
                // Another manifest: everybody joins again, and not all in the same moment.
                () = self.another_transition() => sleep(REJOINING.min(left / 4).mul_f64(jitter)).await,
                () = self.other_secrets() => sleep(TAKING_SECRETS.min(left / 4).mul_f64(jitter)).await,
            }
            let joined = tokio::select! {
                joined = self.renewed(leaf) => joined,
                () = sleep_until(ends) => return Left::Expired,
            };
            match joined {
                Ok(joined) => {
                    self.current.send_replace((joined.leaf, Instant::now() + remaining(joined.not_after)));
                    tracing::info!(not_after = joined.not_after, "the identity was renewed");
                    self.take(joined);
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

    /// Returns once the authority says that a join would give other secrets than the last one has given.
    async fn other_secrets(&self) {
        let mut said = self.granted.subscribe();
        let held = self.held();
        let _this_holds_the_sender = said.wait_for(|said| held.lacks(*said)).await.is_ok();
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands secrets on, where they are others.
    fn take(&self, joined: Joined) {
        let before = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut held.joined, joined.granted)
        };
        if before != joined.granted {
            self.secrets.send_replace(joined.secrets);
            tracing::info!("its secrets have changed, and it was given them");
        }
    }

    /// Tries until there is a new identity or a refusal.
    async fn renewed(&self, leaf: [u8; 32]) -> Result<Joined, String> {
        let mut wait = FIRST_RETRY;
        loop {
            let in_force = self.in_force().await;
            let (transition, said) = (in_force.transition, *self.granted.borrow());
            let begun = self.renewing.lock().await;
            let joined = self.applicant.join(&self.identity, Some(leaf), in_force).await;
            // The caller takes it without waiting in between.
            drop(begun);
            match joined {
                Ok(joined) => {
                    *self.joined_in.lock().unwrap_or_else(PoisonError::into_inner) = transition;
                    self.held.lock().unwrap_or_else(PoisonError::into_inner).said = said;
                    return Ok(joined);
                }
                Err(MeshError::Refused(refusal)) if !refusal.code.starts_with(OF_A_NONCE) => {
                    return Err(MeshError::Refused(refusal).to_string());
                }
                // The next one has another nonce.
                Err(error) => {
                    tracing::warn!(%error, "renewing the identity failed; it is tried again");
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.reached.notified() => {}
                    }
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// What the evidence of a join is bound to. Another transition may be one for another configuration, which is taken over first.
    async fn in_force(&self) -> InForce {
        loop {
            let is_in_time = self.configuring.settled().await;
            // A configuration is told before the transition that it came with.
            let transition = *self.transition.borrow();
            let config_digest = self.configuring.held();
            if !is_in_time || self.configuring.is_settled() {
                let authority = *self.authority.lock().unwrap_or_else(PoisonError::into_inner);
                return InForce { transition, config_digest, authority };
            }
        }
    }

    /// Watches what is revoked, and what a join would give.
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
        self.configuring.report_again();
        self.ask_for_the_revoked(&mut client).await?;
        self.reached.notify_waiters();
        loop {
            self.ask_for_the_revoked(&mut client).await?;
        }
    }

    /// Asks once, and waits for something new where something is known.
    async fn ask_for_the_revoked(&self, client: &mut MeshClient) -> Result<(), MeshError> {
        let known = self.trusted.borrow().epoch();
        let mut path = match known {
            None => "/v1/watch".to_owned(),
            Some(epoch) => {
                format!("/v1/watch?epoch={epoch}&tn={}", Bytes(self.transition.borrow().to_vec()))
            }
        };
        if let (Some(_), Some(granted)) = (known, *self.granted.borrow()) {
            path += &format!("&granted={}", Bytes(granted.to_vec()));
        }
        if let (Some(_), Some(revision)) = (known, self.configuring.known()) {
            path += &format!("&config={revision}");
        }
        self.learn(client.get(&path).await?)
    }

    fn learn(&self, answer: WatchAnswer) -> Result<(), MeshError> {
        let MeshCoordinates { root_spki, trust_domain, .. } = self.mesh();
        let known = self.trusted.borrow().epoch();
        let list = answer.revocations.verify(&root_spki.0);
        let list = list.filter(|list| list.epoch >= known.unwrap_or(0)).ok_or_else(|| {
            MeshError::Retryable("the list of what is revoked is not the authority's, or an older one".into())
        })?;
        self.trusted.send_modify(|trusted| *trusted = trusted.with(list));
        // Before the transition: whoever joins in that has to know of it.
        self.configuring.wants(answer.config);
        if let Ok(transition) = <[u8; 32]>::try_from(list.t_n.0.as_slice()) {
            let authority = match &answer.authority {
                Some(said) => said.verify(&root_spki.0, trust_domain, transition).ok_or_else(|| {
                    MeshError::Retryable(
                        "who the authority is now was not said by the root of this mesh".into(),
                    )
                })?,
                // One of a binary that does not say it is expected to be the one that launched this process.
                None => assigned_authority(&self.applicant),
            };
            *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = authority;
            self.transition.send_if_modified(|known| std::mem::replace(known, transition) != transition);
        }
        let granted = answer.granted.and_then(|granted| granted.0.try_into().ok());
        self.granted.send_if_modified(|known| std::mem::replace(known, granted) != granted);
        Ok(())
    }
}

/// T_n as the supervisor has said it. One of another length is none, and the authority's evidence will be over another.
fn assigned_transition<E>(applicant: &Applicant<E>) -> [u8; 32] {
    applicant.assignment.mesh.transition.0.as_slice().try_into().unwrap_or_default()
}

/// What the authority that launched this process runs; the one that follows it says by the root of the mesh what it runs itself.
fn assigned_authority<E>(applicant: &Applicant<E>) -> [u8; 32] {
    applicant.assignment.mesh.authority_workload.0.as_slice().try_into().unwrap_or_default()
}

fn remaining(not_after: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(not_after).saturating_sub(now)
}

#[cfg(test)]
mod tests;
