//! What is done with the secrets, by an operator or when it is time. A value comes sealed and is never shown again; every change is in the audit trail
//! before it is made.

use std::sync::Arc;

use mesh_protocol::Evidence;
use secrets::{SecretsError, Summary, Vault};
use serde_json::{Value, json};
use types::ServiceName;

use super::granting::Becomes;
use super::{Authority, ServicePolicy};
use crate::TrustError;
use crate::audit::{Entry, Outcome};
use crate::seal_key::{SealKey, SealedValue};

/// One secret, and who is given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedSecret {
    /// What there is to know of it.
    pub summary: Summary,
    /// The services that are given it, in the order of their names.
    pub services: Vec<ServiceName>,
}

impl Authority {
    /// The key that values are sealed to, and the authority's evidence that it holds it, over a nonce of whoever asks.
    ///
    /// # Errors
    /// The authority has no evidence now.
    pub async fn seal_key(&self, nonce: &[u8; 32]) -> Result<(SealKey, Evidence), TrustError> {
        let key = self.0.opening_key.public.clone();
        let evidence = (self.0.own.evidence)(key.report_data(nonce)).await?;
        Ok((key, evidence))
    }

    /// All secrets of services and operators, in the order of their names.
    pub async fn secrets(&self) -> Vec<GrantedSecret> {
        let listed = self.0.vault.lock().await.list();
        let granted = |summary: Summary| GrantedSecret { services: self.granted(&summary.name), summary };
        listed.into_iter().map(granted).collect()
    }

    /// Takes a sealed value as a new version of a secret, and gives its number. Replicas that are given it learn of it at once,
    /// and have it by a new join.
    ///
    /// # Errors
    /// It was not sealed to the key of this start for this name, what the vault says, or [`TrustError::TooMuchGranted`].
    pub async fn set_secret(&self, name: &str, sealed: &SealedValue, actor: &str) -> Result<u64, TrustError> {
        let value = self.0.opening_key.open(name, sealed)?;
        let mut vault = self.0.vault.lock().await;
        let change = Change { authority: self, kind: "secret-set", name, actor };
        let version = vault.check_set(name, value.len()).map_err(TrustError::from);
        let room = || self.check_room_for(&vault, name, Becomes::Set(value.len()));
        let version = change.permitted(version.and_then(|version| room().map(|()| version))).await?;
        change.begins(json!({"version": version})).await?;
        let set = vault.set(name, &value, change.now()).await;
        self.publish_grants(&vault);
        change.ended(set).await
    }

    /// Makes a new epoch of a generated secret, and gives its number. Replicas that are given it learn of it at once, and have it
    /// by a new join.
    ///
    /// # Errors
    /// What the vault says, or [`TrustError::TooMuchGranted`].
    pub async fn rotate_secret(&self, name: &str, actor: &str) -> Result<u32, TrustError> {
        let mut vault = self.0.vault.lock().await;
        let change = Change { authority: self, kind: "secret-rotate", name, actor };
        change.permitted(self.check_rotate(&vault, name)).await?;
        self.rotate_in(&mut vault, name, actor).await
    }

    /// Whether a new epoch can be made, and which.
    pub(super) fn check_rotate(&self, vault: &Vault, name: &str) -> Result<u32, TrustError> {
        let epoch = vault.check_rotate(name)?;
        self.check_room_for(vault, name, Becomes::Rotated)?;
        Ok(epoch)
    }

    /// Makes the epoch that was found possible.
    pub(super) async fn rotate_in(
        &self,
        vault: &mut Vault,
        name: &str,
        actor: &str,
    ) -> Result<u32, TrustError> {
        let change = Change { authority: self, kind: "secret-rotate", name, actor };
        let epoch = vault.check_rotate(name)?;
        change.begins(json!({"epoch": epoch})).await?;
        let rotated = vault.rotate(name, change.now()).await;
        self.publish_grants(vault);
        change.ended(rotated).await
    }

    /// Removes a secret that no service is given.
    ///
    /// # Errors
    /// [`TrustError::SecretInUse`], or what the vault says.
    pub async fn remove_secret(&self, name: &str, actor: &str) -> Result<(), TrustError> {
        let mut vault = self.0.vault.lock().await;
        let change = Change { authority: self, kind: "secret-remove", name, actor };
        let is_free = match &self.granted(name)[..] {
            [] => Ok(()),
            services => Err(TrustError::SecretInUse { name: name.to_owned(), services: services.to_vec() }),
        };
        change.permitted(vault.check_remove(name).map_err(TrustError::from).and(is_free)).await?;
        change.begins(json!({})).await?;
        change.ended(vault.remove(name).await).await
    }

    /// The services of the manifest in force that are given a secret.
    fn granted(&self, record: &str) -> Vec<ServiceName> {
        let services = Arc::clone(&self.state().services);
        let is_given = |policy: &ServicePolicy| policy.secrets.iter().any(|grant| grant.record == record);
        services.iter().filter(|(_, policy)| is_given(policy)).map(|(name, _)| name.clone()).collect()
    }
}

/// What is done, to which secret, and by whom.
struct Change<'a> {
    authority: &'a Authority,
    kind: &'static str,
    name: &'a str,
    actor: &'a str,
}

impl Change<'_> {
    /// A refusal is recorded, unless what was given as a name may be anything, such as a value in the wrong place.
    async fn permitted<T>(&self, checked: Result<T, TrustError>) -> Result<T, TrustError> {
        let error = match checked {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let names_no_secret = matches!(
            &error,
            TrustError::Secrets(
                SecretsError::InvalidName | SecretsError::Unknown(_) | SecretsError::Reserved(_)
            )
        );
        if !names_no_secret {
            self.record(Outcome::Refused, Some(error.to_string()), Value::Null).await?;
        }
        Err(error)
    }

    async fn begins(&self, data: Value) -> Result<(), TrustError> {
        self.record(Outcome::Done, None, data).await
    }

    /// What was recorded as done and was not is said to have failed.
    async fn ended<T>(&self, ended: Result<T, SecretsError>) -> Result<T, TrustError> {
        if let Err(error) = &ended {
            self.record(Outcome::Failed, Some(error.to_string()), Value::Null).await?;
        }
        Ok(ended?)
    }

    async fn record(&self, outcome: Outcome, reason: Option<String>, data: Value) -> Result<(), TrustError> {
        let entry = Entry {
            kind: self.kind.into(),
            actor: self.actor.into(),
            subject: self.name.into(),
            outcome,
            reason,
            data,
        };
        self.authority.audit(entry, self.now()).await
    }

    /// Unix seconds.
    fn now(&self) -> u64 {
        self.authority.0.clock.latest() / 1000
    }
}

#[cfg(test)]
mod tests;
