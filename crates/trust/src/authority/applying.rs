//! Another manifest while the mesh runs: the next transition, with an issuing key of its own. Replicas learn of it by the list of
//! what is revoked, and join again by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use types::ServiceName;

use super::granting::check_room;
use super::opening::new_key;
use super::transitions::{Chain, other_manifest, shared_manifest};
use super::{Authority, Before, Expected, ServicePolicy, extend};
use crate::ca::IssuingCa;
use crate::{Standing, TrustError, revocations};

impl Authority {
    /// Takes another manifest over, with what follows from it for the services. The same one changes nothing.
    ///
    /// # Errors
    /// A service would be given too much, or it could not be written down; the one before stays in force.
    pub async fn apply(
        &self,
        manifest: Value,
        services: BTreeMap<ServiceName, ServicePolicy>,
        actor: &'static str,
    ) -> Result<(), TrustError> {
        // In a task of its own: whoever asks may go, and half of it must not be done.
        let authority = self.clone();
        let applied = tokio::spawn(async move { authority.apply_whole(manifest, services, actor).await });
        applied.await.map_err(|_| TrustError::Failed)?
    }

    /// Another manifest that is taken over once another node has brought it into force; none any more without one. While two
    /// versions of a service are there, it is that of the new one alone: whoever is done first says so for all.
    pub fn expect(&self, other: Option<(Value, BTreeMap<ServiceName, ServicePolicy>)>) {
        let expected = other.map(|(manifest, services)| {
            let services = services.into_iter().map(|(name, policy)| (name, Arc::new(policy))).collect();
            Expected { manifest: Arc::new(manifest), services: Arc::new(services) }
        });
        self.state().expected = expected;
    }

    async fn apply_whole(
        &self,
        manifest: Value,
        services: BTreeMap<ServiceName, ServicePolicy>,
        actor: &str,
    ) -> Result<(), TrustError> {
        let _alone = self.0.revoking.lock().await;
        check_room(&*self.0.vault.lock().await, services.iter(), None)?;
        let (known, known_at) = Chain::known(&self.0.store, &self.0.genesis).await?;
        let own = self.transition().0;
        let services = services.into_iter().map(|(name, policy)| (name, Arc::new(policy))).collect();
        match known.with(&manifest)? {
            None if known.n == own => {
                // How many replicas there are is no part of the manifest.
                self.state().services = Arc::new(services);
                Ok(())
            }
            // Another node has brought it into force.
            None => self.take_over(known, manifest, Arc::new(services), None, actor).await,
            Some(_) if known.n != own => Err(other_manifest(&self.0.store, known.n, &manifest).await),
            Some(next) => self.take_over(next, manifest, Arc::new(services), Some(known_at), actor).await,
        }
    }

    /// Puts the last transition of a chain in force here; `before` is where the chain before stands in the store, unless this one
    /// is there already. `revoking` is held.
    pub(super) async fn take_over(
        &self,
        chain: Chain,
        manifest: Value,
        services: Arc<BTreeMap<ServiceName, Arc<ServicePolicy>>>,
        before: Option<Option<u64>>,
        actor: &str,
    ) -> Result<(), TrustError> {
        let now = self.0.clock.latest() / 1000;
        let transition = chain.transition()?;
        let (issuing, root_key) = {
            let mut vault = self.0.vault.lock().await;
            let issuing = vault.ensure_internal(&format!("mesh-issuer-{}", chain.n), new_key).await?;
            (issuing, vault.root_key()?)
        };
        let root = self.state().ca.chain.last().cloned().ok_or(TrustError::Tampered("root"))?;
        let next = (chain.n, transition);
        let ca = IssuingCa::new(root, &root_key, &self.0.domain, next, &issuing, now)?;
        let entry = chain.entry(&self.0.domain, actor)?;
        self.audit(entry.clone(), now).await?;
        if let Some(before) = before {
            let shared = shared_manifest(self.0.node.as_ref(), &manifest);
            if let Err(error) = chain.keep(&self.0.store, before, shared).await {
                self.audit_failure(entry, &error, now).await;
                return Err(error);
            }
        }
        {
            let mut state = self.state();
            let (transition, services_before) = (state.ca.transition, Arc::clone(&state.services));
            state.before = Some(Before { transition, services: services_before });
            state.ca = Arc::new(ca);
            state.in_force_since = now;
            state.manifest = Arc::new(manifest);
            state.behind = None;
            state.services = services;
        }
        self.0.in_force.send_replace(chain.n);
        self.overlap_begins((chain.n, now));
        self.publish_grants(&*self.0.vault.lock().await);
        let list = self.0.revocations.borrow().revocations.renewed(transition, now);
        let signed = revocations::sign(list, &self.0.signer)?;
        self.publish(signed, now);
        Ok(())
    }

    /// From a transition on, which came into force then, the identities of the one before end early.
    pub(super) fn overlap_begins(&self, (n, since): (u64, u64)) {
        self.0.standings.send_if_modified(|standings| {
            let mut ending = Vec::new();
            for (key, standing) in standings.iter() {
                let changed = match standing {
                    Standing::Valid(admission) => Standing::Valid(admission.in_transition(n, since)),
                    Standing::Expired(admission) => Standing::Expired(admission.in_transition(n, since)),
                    Standing::Pending { .. } | Standing::Refused { .. } => continue,
                };
                if changed != *standing {
                    ending.push((key.clone(), changed));
                }
            }
            extend(standings, ending)
        });
    }
}
