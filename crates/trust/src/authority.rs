//! The authority: it gives out nonces and tickets, appraises who wants to join, issues identities and releases secrets.
//!
//! What may be asked often is cheap and kept nowhere. What is decided is written down first: the audit trail, then the store,
//! then the answer.

mod admissions;
mod applying;
mod challenge;
mod configuring;
mod evaluations;
mod granting;
mod join;
mod maintenance;
mod opening;
mod others;
mod overview;
mod revoking;
mod rotating;
mod secrets;
mod transitions;
mod undecided;

pub use granting::{Grants, MAX_GRANTED_BYTES};
pub use join::Channel;
pub use opening::Opening;
pub use overview::AuditState;
pub use secrets::GrantedSecret;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::secrets::{Domain, Vault};
use appraisal::{Fault, Policy, Roots};
use mesh_protocol::tls::Peer;
use mesh_protocol::{
    AuthorityWorkload, Bytes, Evidence, EvidenceError, SignedRevocations, SpiffeId, Subject,
};
use rustls::pki_types::CertificateDer;
use store::{Store, StoreError};
use tokio::sync::watch;
use types::{NodeName, ReplicaId, ServiceName};

use crate::audit::{AuditError, AuditTrail, Entry, Outcome};
use crate::ca::{IssuingCa, LeafRequest, SubjectKey};
use crate::clock::CheckedClock;
use crate::nonces::{Minter, Used};
use crate::quota::Quota;
use crate::seal_key::OpeningKey;
use crate::{Admission, Signer, Standing, Standings, TrustError};
use evaluations::Evaluations;
use rotating::Schedule;

/// Evidence of the authority itself over 64 bytes.
type OwnEvidence = Arc<
    dyn Fn([u8; 64]) -> Pin<Box<dyn Future<Output = Result<Evidence, EvidenceError>> + Send>> + Send + Sync,
>;

/// What the authority itself shows.
#[derive(Clone)]
pub struct Own {
    /// The workload digest of the program that it runs.
    pub workload: [u8; 32],
    /// Evidence that names it.
    pub evidence: OwnEvidence,
}

/// What a service's replicas must be to be admitted, and what they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePolicy {
    /// What their evidence must show.
    pub policy: Policy,
    /// The label of the version that those run of which nothing else was [said](Authority::runs).
    pub version: String,
    /// How many there are.
    pub replicas: u32,
    /// SHA-256 of the canonical `config`.
    pub config_digest: [u8; 32],
    /// The secrets that the manifest names for them.
    pub secrets: Vec<SecretGrant>,
}

/// A secret that a service is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    /// The name under which the service knows it.
    pub name: String,
    /// The name of its records.
    pub record: String,
}

/// The authority; its clones are the same one.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    domain: Domain,
    /// T_0.
    genesis: [u8; 32],
    node: Option<NodeName>,
    roots: Roots,
    clock: CheckedClock,
    minter: Minter,
    signer: Signer,
    store: Store,
    vault: Arc<tokio::sync::Mutex<Vault>>,
    /// Behind a lock that is held while a line is written, so only on threads that may wait for the disk.
    audit: Arc<Mutex<AuditTrail>>,
    own: Own,
    /// What an operator's values come sealed to.
    opening_key: OpeningKey,
    state: Mutex<State>,
    standings: watch::Sender<Arc<Standings>>,
    revocations: watch::Sender<Arc<SignedRevocations>>,
    /// The number of the transition in force.
    in_force: watch::Sender<u64>,
    grants: watch::Sender<Arc<Grants>>,
    /// How often a secret was changed, or may have been.
    secret_changes: watch::Sender<u64>,
    schedule: Mutex<Schedule>,
    evaluations: Evaluations,
    /// Held by whoever makes another list of revocations out of the last one, until it is published.
    revoking: tokio::sync::Mutex<()>,
    first_joins: Quota,
    /// Renewals have turns of their own, so that no crowd of newcomers makes an identity expire.
    renewals: Quota,
    /// How many were refused without a line of the audit trail, by code, since the last one that says so.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// Replicas that are wanted no more, and of which the store may still say that they are admitted.
    dismissed: Mutex<BTreeSet<(ServiceName, String)>>,
}

/// What changes. Held for moments, never across an await.
struct State {
    ca: Arc<IssuingCa>,
    /// The transition before, if there was one since the start.
    before: Option<Before>,
    /// Since when the transition is in force, or this authority runs, in Unix seconds.
    in_force_since: u64,
    /// What the transition is one to.
    manifest: Arc<serde_json::Value>,
    /// What this node lives by as soon as another one does, beside its own manifest.
    expected: Option<Expected>,
    /// What other nodes have brought into force, where this one has another manifest.
    behind: Option<Behind>,
    /// The revision of the row of the revocations.
    revocations_at: Option<u64>,
    /// The certificates, in hexadecimal, of this node's replicas that a list of another node's is about and does not name yet.
    unnamed: Vec<String>,
    services: Arc<Services>,
    used: Used,
    /// The digest of the configuration that a replica has rejected last.
    rejected: BTreeMap<(ServiceName, String), [u8; 32]>,
    /// The labels of the versions of replicas of which it was said.
    versions: BTreeMap<(ServiceName, String), String>,
}

/// A manifest that this node would live by, with what follows from it for the services.
#[derive(Clone)]
struct Expected {
    manifest: Arc<serde_json::Value>,
    services: Arc<Services>,
}

/// A transition that this node knows of and does not live by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    n: u64,
    /// Since when, in Unix seconds.
    since: u64,
}

type Services = BTreeMap<ServiceName, Arc<ServicePolicy>>;

/// A transition that is not in force any more.
struct Before {
    /// T_n.
    transition: [u8; 32],
    services: Arc<Services>,
}

impl Authority {
    /// The mode and the trust domain.
    pub fn domain(&self) -> &Domain {
        &self.0.domain
    }

    /// The key of the mesh's root, as DER SubjectPublicKeyInfo.
    pub fn root_spki(&self) -> &[u8] {
        self.0.signer.spki()
    }

    /// Which transition of the manifest is in force: n and T_n.
    pub fn transition(&self) -> (u64, [u8; 32]) {
        let state = self.state();
        (state.ca.n, state.ca.transition)
    }

    /// The number of the transition in force here, as it changes.
    pub fn transitions(&self) -> watch::Receiver<u64> {
        self.0.in_force.subscribe()
    }

    /// The number of the transition that the mesh lives by, as far as this node knows: another one than its own where it is behind.
    pub fn transition_of_mesh(&self) -> u64 {
        let state = self.state();
        state.behind.map_or(state.ca.n, |behind| behind.n)
    }

    /// Counts the changes of secrets. Whoever uses one looks whether it is another when the number is.
    pub fn secret_changes(&self) -> watch::Receiver<u64> {
        self.0.secret_changes.subscribe()
    }

    /// What is said of each replica, as it changes.
    pub fn standings(&self) -> watch::Receiver<Arc<Standings>> {
        self.0.standings.subscribe()
    }

    /// What is revoked, as it changes.
    pub fn revocations(&self) -> watch::Receiver<Arc<SignedRevocations>> {
        self.0.revocations.subscribe()
    }

    /// What this authority runs, as its root says it for a transition: for replicas that an earlier one has launched.
    ///
    /// # Errors
    /// `AUTHORITY_UNAVAILABLE`: there is no randomness, or this is no transition.
    pub fn own_workload(&self, transition: &Bytes) -> Result<AuthorityWorkload, Fault> {
        let transition = transition.0.as_slice().try_into().map_err(unavailable)?;
        let workload = self.0.own.workload;
        let message = AuthorityWorkload::message(&self.0.domain.trust_domain, transition, workload);
        Ok(AuthorityWorkload {
            workload: Bytes(workload.to_vec()),
            signature: Bytes(self.0.signer.sign(&message).map_err(unavailable)?),
        })
    }

    /// A certificate for a process that is part of the authority's own: its listener, or a gateway beside it.
    ///
    /// # Errors
    /// The key is no P-256 key, or the clock is wrong.
    pub fn issue_own(
        &self,
        subject: Subject,
        spki: &[u8],
        not_after: u64,
    ) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let key = SubjectKey::of(spki)
            .ok_or_else(|| TrustError::Certificate("a key of the mesh is a P-256 key".into()))?;
        let id = SpiffeId { trust_domain: self.0.domain.trust_domain.clone(), subject };
        let ca = Arc::clone(&self.state().ca);
        let now = self.0.clock.holds_from() / 1000;
        let leaf = ca.issue(&LeafRequest { id: &id, key, not_after, facts: None }, now)?;
        Ok([vec![leaf], ca.chain.clone()].concat())
    }

    /// A replica is of this version of its service, by the label, whenever it joins from now on: while one version takes the place of
    /// another there are replicas of both. Its evidence is bound to that.
    pub fn runs(&self, service: &ServiceName, instance: &str, version: &str) {
        self.state().versions.insert((service.clone(), instance.to_owned()), version.to_owned());
    }

    /// A launch ticket, with which one replica may join within 120 seconds.
    ///
    /// # Errors
    /// The clock stepped back, or there is no randomness.
    pub fn ticket(&self, service: &ServiceName, instance: &str) -> Result<Vec<u8>, TrustError> {
        let (ticket, now) = self.mint(service, instance)?;
        self.stand(service, instance, |standing| match standing {
            // Until it is admitted, what it was refused for last says more than that it may try again.
            Some(Standing::Refused { .. }) => None,
            _ => Some(Standing::Pending { since: now / 1000 }),
        });
        Ok(ticket)
    }

    /// A replica is wanted no more: it is not renewed, and joins no more unless another launch of it is asked for.
    pub fn dismiss(&self, service: &ServiceName, instance: &str) {
        let key = (service.clone(), instance.to_owned());
        self.0.standings.send_if_modified(|standings| {
            let is_known = standings.contains_key(&key);
            is_known && Arc::make_mut(standings).remove(&key).is_some()
        });
        self.state().versions.remove(&key);
        self.0.dismissed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    fn mint(&self, service: &ServiceName, instance: &str) -> Result<(Vec<u8>, u64), TrustError> {
        let now = self.0.clock.checked().map_err(|fault| TrustError::Record(fault.to_string()))?;
        Ok((self.0.minter.ticket(now, service.as_str(), instance)?, now))
    }

    /// Writes down in the audit trail what is done beside the authority, such as a change of an API key: before it is done.
    ///
    /// # Errors
    /// It could not be written down, and must not be done.
    pub async fn put_on_record(&self, entry: Entry) -> Result<(), TrustError> {
        self.audit(entry, self.0.clock.latest() / 1000).await
    }

    /// The mesh's signature over what one node tells the others, so that they need not believe the store.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn sign_for_nodes(&self, message: &[u8]) -> Result<Vec<u8>, TrustError> {
        self.0.signer.sign(message)
    }

    /// Whether a certificate of a replica is one that this authority has given, or one before it in this store, and that is not over.
    pub fn has_admitted(&self, peer: &Peer) -> bool {
        let Subject::Service { service, instance } = &peer.id.subject else { return false };
        let key = (service.clone(), instance.clone());
        match self.0.standings.borrow().get(&key) {
            Some(Standing::Valid(admission)) => admission.holds_until(&peer.leaf).is_some(),
            Some(Standing::Pending { .. } | Standing::Expired(_) | Standing::Refused { .. }) | None => false,
        }
    }

    /// A launch ticket for a replica that somebody else starts, as [`Self::ticket`]; it is in the audit trail first. Whoever has
    /// the name already keeps it until somebody has joined with the ticket.
    ///
    /// # Errors
    /// Those of [`Self::ticket`], or the audit trail cannot be written.
    pub async fn ticket_by_hand(&self, replica: &ReplicaId, actor: &str) -> Result<Vec<u8>, TrustError> {
        let entry = Entry {
            kind: "ticket".into(),
            actor: actor.into(),
            subject: replica.to_string(),
            outcome: Outcome::Done,
            reason: None,
            data: serde_json::Value::Null,
        };
        self.audit(entry, self.0.clock.latest() / 1000).await?;
        Ok(self.mint(&replica.service, &replica.instance())?.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that a replica has, as far as this authority has given it.
    fn admission(&self, service: &str, instance: &str) -> Option<Arc<Admission>> {
        let key = (service.parse().ok()?, instance.to_owned());
        match self.0.standings.borrow().get(&key)? {
            Standing::Valid(admission) | Standing::Expired(admission) => Some(Arc::clone(admission)),
            Standing::Pending { .. } | Standing::Refused { .. } => None,
        }
    }

    fn service(&self, name: &str) -> Option<(ServiceName, Arc<ServicePolicy>)> {
        let name: ServiceName = name.parse().ok()?;
        let policy = self.state().services.get(&name).cloned()?;
        Some((name, policy))
    }

    /// Publishes what is said of a replica, where it changes.
    fn stand(
        &self,
        service: &ServiceName,
        instance: &str,
        change: impl FnOnce(Option<&Standing>) -> Option<Standing>,
    ) {
        self.0.standings.send_if_modified(|standings| {
            let key = (service.clone(), instance.to_owned());
            let Some(standing) = change(standings.get(&key)) else { return false };
            Arc::make_mut(standings).insert(key, standing);
            true
        });
    }

    /// Counts a refusal that leaves no line of its own: a stranger must not be able to fill the disk.
    fn count_refusal(&self, fault: &Fault) {
        *self.refusals().entry(fault.code.as_str()).or_default() += 1;
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that what the last such line says was not done after all. What is not known to be done is not taken back.
    async fn audit_failure(&self, entry: Entry, error: &TrustError, now: u64) {
        if matches!(error, TrustError::Store(StoreError::Undecided(_))) {
            return;
        }
        let failed = Entry { outcome: Outcome::Failed, reason: Some(error.to_string()), ..entry };
        if let Err(error) = self.audit(failed, now).await {
            tracing::error!(%error, "the audit trail says that something was done that was not, and this could not be added to it");
        }
    }

    /// Writes a line of the audit trail, which is on disk when this returns.
    async fn audit(&self, entry: Entry, now: u64) -> Result<(), TrustError> {
        let audit = Arc::clone(&self.0.audit);
        let written = tokio::task::spawn_blocking(move || -> Result<(), AuditError> {
            audit.lock().unwrap_or_else(PoisonError::into_inner).append(entry, now).map(|_seq| ())
        });
        Ok(written.await.map_err(|_| TrustError::Failed)??)
    }
}

/// Puts others in the place of some, and says whether there are any: of thousands no copy is made for nothing.
fn extend(standings: &mut Arc<Standings>, others: Vec<((ServiceName, String), Standing)>) -> bool {
    if others.is_empty() {
        return false;
    }
    Arc::make_mut(standings).extend(others);
    true
}

/// What somebody who joins is told when the authority itself cannot do its part.
fn unavailable(error: impl std::fmt::Display) -> Fault {
    Fault::new(appraisal::Code::AuthorityUnavailable, format!("the authority cannot decide now: {error}"))
}
