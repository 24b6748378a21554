//! What the operator takes trust from, and gives it back to.

use std::sync::Arc;

use mesh_protocol::{Revocations, RevokedType, SignedRevocations, SpiffeId, to_hex};
use serde_json::json;
use store::{Outcome as Committed, Transaction};

use super::opening::REVOCATIONS;
use super::{Authority, extend};
use crate::audit::{Entry, Outcome};
use crate::{Standing, TrustError, revocations};

/// How often a list is made that another node was quicker than.
const TRIES: u32 = 8;

impl Authority {
    /// Revokes something. Every replica that it is about is refused from now on; everybody who holds a connection learns of it
    /// by the list.
    ///
    /// # Errors
    /// The value is none, the list is full, or it could not be written down.
    pub async fn revoke(&self, about: RevokedType, value: &str, actor: &str) -> Result<u64, TrustError> {
        let (authority, value, actor) = (self.clone(), value.to_owned(), actor.to_owned());
        // In a task of its own: whoever asks may go, and what is written down must be said too.
        let revoked = tokio::spawn(async move { authority.revoke_whole(about, &value, &actor).await });
        revoked.await.map_err(|_| TrustError::Failed)?
    }

    async fn revoke_whole(&self, about: RevokedType, value: &str, actor: &str) -> Result<u64, TrustError> {
        let now = self.0.clock.latest() / 1000;
        self.change_list((about, value), "revoke", actor, |known| {
            let Some(list) = revocations::with(known, about, value, now)? else { return Ok(None) };
            // Replicas and the mesh API know others by their certificates alone, so these are named beside what they rest on.
            let is_seen = matches!(about, RevokedType::Instance | RevokedType::Leaf);
            let leaves = if is_seen { Vec::new() } else { self.leaves_of(&list) };
            named(list, &leaves, now).map(Some)
        })
        .await
    }

    /// Takes a revocation back.
    ///
    /// # Errors
    /// It could not be written down.
    pub async fn restore(&self, about: RevokedType, value: &str, actor: &str) -> Result<u64, TrustError> {
        let (authority, value, actor) = (self.clone(), value.to_owned(), actor.to_owned());
        let restored = tokio::spawn(async move { authority.restore_whole(about, &value, &actor).await });
        restored.await.map_err(|_| TrustError::Failed)?
    }

    async fn restore_whole(&self, about: RevokedType, value: &str, actor: &str) -> Result<u64, TrustError> {
        self.change_list((about, value), "restore", actor, |known| {
            Ok(revocations::without(known, about, value))
        })
        .await
    }

    /// Makes another list of the one in force, and publishes it; gives its epoch. Where another node is quicker, it is made of
    /// that node's.
    async fn change_list(
        &self,
        what: (RevokedType, &str),
        kind: &str,
        actor: &str,
        change: impl Fn(&Revocations) -> Result<Option<Revocations>, TrustError>,
    ) -> Result<u64, TrustError> {
        let _alone = self.0.revoking.lock().await;
        self.change_until_it_counts(what, kind, actor, change).await
    }

    /// `revoking` is held.
    async fn change_until_it_counts(
        &self,
        what: (RevokedType, &str),
        kind: &str,
        actor: &str,
        change: impl Fn(&Revocations) -> Result<Option<Revocations>, TrustError>,
    ) -> Result<u64, TrustError> {
        for _ in 0..TRIES {
            let known = self.0.revocations.borrow().revocations.clone();
            let Some(list) = change(&known)? else { return Ok(known.epoch) };
            match self.say(list, kind, what, actor).await {
                Err(TrustError::Overtaken) => {
                    let row = self.0.store.get(REVOCATIONS).await?;
                    if let Some(row) = &row {
                        self.take_revocations(row)?;
                    }
                    // Also where the list there is no newer, as in a store out of a backup: that of this node replaces it.
                    self.state().revocations_at = row.map(|row| row.mod_revision);
                }
                said => return said,
            }
        }
        Err(TrustError::Overtaken)
    }

    /// Names the certificates of this node's replicas that a list of another node's is about. `revoking` is held.
    pub(super) async fn name_leaves(&self, actor: &str) -> Result<(), TrustError> {
        let leaves = self.state().unnamed.clone();
        let Some(first) = leaves.first().cloned() else { return Ok(()) };
        let now = self.0.clock.latest() / 1000;
        let change = |known: &Revocations| {
            let list = named(known.clone(), &leaves, now)?;
            let is_news = list.entries.len() > known.entries.len();
            Ok(is_news.then(|| Revocations { epoch: known.epoch + 1, ..list }))
        };
        self.change_until_it_counts((RevokedType::Leaf, &first), "revoke", actor, change).await?;
        // Those that were noted meanwhile stay.
        self.state().unnamed.retain(|leaf| !leaves.contains(leaf));
        Ok(())
    }

    /// The certificates, in hexadecimal, of everybody whom a list is about.
    pub(super) fn leaves_of(&self, list: &Revocations) -> Vec<String> {
        let standings = self.0.standings.borrow();
        let admissions = standings.values().filter_map(|standing| match standing {
            Standing::Valid(admission) | Standing::Expired(admission) => Some(admission),
            Standing::Pending { .. } | Standing::Refused { .. } => None,
        });
        let revoked = admissions.filter(|admission| {
            revocations::allow(list, &admission.id, Some(admission.leaf), &admission.appraised).is_err()
        });
        let leaves = revoked.flat_map(|admission| {
            std::iter::once(admission.leaf).chain(admission.renewed.map(|(leaf, _)| leaf))
        });
        leaves.map(|leaf| to_hex(&leaf)).collect()
    }

    async fn say(
        &self,
        list: Revocations,
        kind: &str,
        (about, value): (RevokedType, &str),
        actor: &str,
    ) -> Result<u64, TrustError> {
        let now = self.0.clock.latest() / 1000;
        let (_, transition) = self.transition();
        let signed = revocations::sign(list.renewed(transition, now), &self.0.signer)?;
        let entry = Entry {
            kind: kind.into(),
            actor: actor.into(),
            subject: value.into(),
            outcome: Outcome::Done,
            reason: None,
            data: json!({"type": about, "epoch": signed.revocations.epoch}),
        };
        self.audit(entry.clone(), now).await?;
        match self.keep_list(&signed).await {
            Ok(revision) => self.state().revocations_at = Some(revision),
            Err(error) => {
                self.audit_failure(entry, &error, now).await;
                return Err(error);
            }
        }
        let epoch = signed.revocations.epoch;
        self.publish(signed, now);
        Ok(epoch)
    }

    /// Gives the revision in which it was written.
    async fn keep_list(&self, signed: &SignedRevocations) -> Result<u64, TrustError> {
        let json = serde_json::to_vec(signed).map_err(|error| TrustError::Record(error.to_string()))?;
        let before = self.state().revocations_at;
        let transaction = match before {
            Some(revision) => Transaction::new().if_revision(REVOCATIONS, revision),
            None => Transaction::new().if_absent(REVOCATIONS),
        };
        match self.0.store.commit(transaction.put(REVOCATIONS, json)).await? {
            Committed::Committed { revision } => Ok(revision),
            Committed::Conflict { .. } => Err(TrustError::Overtaken),
        }
    }

    /// Everybody sees the list; whoever it is about is refused.
    pub(super) fn publish(&self, signed: SignedRevocations, now: u64) {
        let signed = Arc::new(signed);
        self.0.revocations.send_replace(Arc::clone(&signed));
        self.0.standings.send_if_modified(|standings| {
            let mut refused = Vec::new();
            for (key, standing) in standings.iter() {
                let (Standing::Valid(admission) | Standing::Expired(admission)) = standing else { continue };
                let (id, leaf) = (&admission.id, Some(admission.leaf));
                if let Err(fault) = revocations::allow(&signed.revocations, id, leaf, &admission.appraised) {
                    refused.push((key.clone(), Standing::Refused { fault, since: now }));
                }
            }
            extend(standings, refused)
        });
    }

    /// Whether a certificate that verifies names somebody who is revoked.
    pub fn is_revoked(&self, id: &SpiffeId, leaf: &[u8; 32]) -> bool {
        self.0.revocations.borrow().revocations.revokes(id, leaf)
    }
}

/// A list with these certificates beside what it has, under the same epoch.
fn named(mut list: Revocations, leaves: &[String], now: u64) -> Result<Revocations, TrustError> {
    for leaf in leaves {
        if let Some(with) = revocations::with(&list, RevokedType::Leaf, leaf, now)? {
            list = Revocations { epoch: list.epoch, ..with };
        }
    }
    Ok(list)
}
