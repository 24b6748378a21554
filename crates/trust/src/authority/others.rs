//! What the authorities of other nodes change, where several share the store: transitions, revocations, evaluations, secrets.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use secrets::Vault;
use store::{Change, KeyValue, StoreError, Watched};
use tokio::time::sleep;

use super::evaluations::EVALUATIONS;
use super::opening::{REVOCATIONS, stored_revocations};
use super::transitions::{Chain, TRANSITION, other_manifest};
use super::{Authority, Behind, Expected};
use crate::{TrustError, revocations};

/// Where all of it is but the secrets.
const TRUST: &str = "trust/";
/// How soon it is tried again to follow.
const AGAIN: Duration = Duration::from_secs(1);

/// Who takes over what another node has brought into force, in the audit trail.
const ACTOR: &str = "another node";

impl Authority {
    /// Follows for ever; where the store has one node, there is nothing to follow.
    pub(super) async fn follow_others(&self) -> Infallible {
        if self.0.node.is_none() {
            return pending().await;
        }
        tokio::join!(self.follow_trust(), self.follow_secrets()).0
    }

    async fn follow_trust(&self) -> Infallible {
        let mut is_said = false;
        loop {
            let error = match self.follow_trust_until_it_fails(&mut is_said).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if !matches!(error, TrustError::Store(StoreError::Compacted { .. })) {
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(%error, "what other nodes change about trust cannot be followed; it is read again");
                }
                sleep(AGAIN).await;
            }
        }
    }

    /// That it fails is said once, until all is read.
    async fn follow_trust_until_it_fails(&self, is_said: &mut bool) -> Result<Infallible, TrustError> {
        let range = self.0.store.range(REVOCATIONS).await?;
        let mut watch = self.0.store.watch(TRUST, range.revision);
        for row in &range.rows {
            self.meet_revocations(row).await?;
        }
        for row in self.0.store.range(EVALUATIONS).await? {
            self.meet_evaluation(row).await?;
        }
        self.meet_transition().await?;
        *is_said = false;
        loop {
            let Watched::Changes(changes) = watch.next().await? else { continue };
            for change in changes.changes {
                let Change::Put(row) = change else { continue };
                match row.key.as_slice() {
                    key if key == TRANSITION.as_bytes() => self.meet_transition().await?,
                    key if key == REVOCATIONS.as_bytes() => self.meet_revocations(&row).await?,
                    key if key.starts_with(EVALUATIONS.as_bytes()) => self.meet_evaluation(row).await?,
                    _ => {}
                }
            }
        }
    }

    /// Another transition may be in force: one to this node's own manifest is taken over, any other makes this node one that is
    /// behind. What has joined here ends with the overlap then, and nobody joins before the manifests agree.
    async fn meet_transition(&self) -> Result<(), TrustError> {
        let _alone = self.0.revoking.lock().await;
        let (known, _) = Chain::known(&self.0.store, &self.0.genesis).await?;
        let (own, manifest, services, behind, expected) = {
            let state = self.state();
            let (manifest, services) = (Arc::clone(&state.manifest), Arc::clone(&state.services));
            (state.ca.n, manifest, services, state.behind, state.expected.clone())
        };
        if known.n <= own || behind.is_some_and(|behind| behind.n == known.n) {
            return Ok(());
        }
        if known.with(&manifest)?.is_none() {
            tracing::info!(n = known.n, "another node has brought this node's manifest into force");
            return self.take_over(known, manifest.as_ref().clone(), services, None, ACTOR).await;
        }
        if let Some(Expected { manifest, services }) = expected
            && known.with(&manifest)?.is_none()
        {
            tracing::info!(
                n = known.n,
                "another node has brought the manifest into force that this one comes to"
            );
            return self.take_over(known, manifest.as_ref().clone(), services, None, ACTOR).await;
        }
        let difference = other_manifest(&self.0.store, known.n, &manifest).await;
        tracing::error!(
            "another node has changed the manifest of the mesh: {difference}. Until then no replica joins here, and those that have \
             joined end within 5 minutes"
        );
        let since = self.0.clock.latest() / 1000;
        self.state().behind = Some(Behind { n: known.n, since });
        self.overlap_begins((known.n, since));
        Ok(())
    }

    /// A newer list counts here too. What it revokes by a measurement or a machine is known to others by certificates alone, so
    /// those of this node's replicas are named beside it.
    async fn meet_revocations(&self, row: &KeyValue) -> Result<(), TrustError> {
        let _alone = self.0.revoking.lock().await;
        self.take_revocations(row)?;
        match self.name_leaves(ACTOR).await {
            // It is not tried again before there is room for it, and nothing else waits for that.
            Err(error @ TrustError::RevocationRefused(_)) => {
                tracing::error!(%error, "replicas of this node that are revoked cannot be named to the others; take revocations back");
                Ok(())
            }
            named => named,
        }
    }

    /// Takes a stored list over, unless it is no newer, and notes the certificates of this node's replicas that it is about: they
    /// are to be named, whatever comes in between. `revoking` is held.
    pub(super) fn take_revocations(&self, row: &KeyValue) -> Result<(), TrustError> {
        let list = stored_revocations(row, &self.0.signer)?;
        if list.epoch <= self.0.revocations.borrow().revocations.epoch {
            return Ok(());
        }
        let now = self.0.clock.latest() / 1000;
        // Before it is published: what is refused by it has no certificate any more.
        let leaves = self.leaves_of(&list);
        let signed = revocations::sign(list.renewed(self.transition().1, now), &self.0.signer)?;
        {
            let mut state = self.state();
            state.revocations_at = Some(row.mod_revision);
            state.unnamed.extend(leaves);
        }
        self.publish(signed, now);
        Ok(())
    }

    async fn meet_evaluation(&self, row: KeyValue) -> Result<(), TrustError> {
        self.0.evaluations.meet(row).await
    }

    async fn follow_secrets(&self) -> Infallible {
        let mut is_said = false;
        loop {
            let error = match self.follow_secrets_until_it_fails(&mut is_said).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if !matches!(error, TrustError::Store(StoreError::Compacted { .. })) {
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(%error, "the secrets that other nodes change cannot be followed; they are read again");
                }
                sleep(AGAIN).await;
            }
        }
    }

    async fn follow_secrets_until_it_fails(&self, is_said: &mut bool) -> Result<Infallible, TrustError> {
        let after = self.0.store.range(Vault::PREFIX).await?.revision;
        let mut watch = self.0.store.watch(Vault::PREFIX, after);
        loop {
            {
                let mut vault = self.0.vault.lock().await;
                if vault.refresh().await? {
                    self.publish_grants(&vault);
                }
            }
            *is_said = false;
            watch.next().await?;
        }
    }
}
