//! What an operator does with the secrets. A value comes sealed and is never shown again; every change is in the audit trail
//! before it is made.

use std::sync::Arc;

use mesh_protocol::Evidence;
use secrets::{SecretsError, Summary};
use serde_json::{Value, json};
use types::ServiceName;

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
        let evidence = (self.0.own)(key.report_data(nonce)).await?;
        Ok((key, evidence))
    }

    /// All secrets of services and operators, in the order of their names.
    pub async fn secrets(&self) -> Vec<GrantedSecret> {
        let listed = self.0.vault.lock().await.list();
        let granted = |summary: Summary| GrantedSecret { services: self.granted(&summary.name), summary };
        listed.into_iter().map(granted).collect()
    }

    /// Takes a sealed value as a new version of a secret, and gives its number.
    ///
    /// # Errors
    /// It was not sealed to the key of this start for this name, or what the vault says.
    pub async fn set_secret(&self, name: &str, sealed: &SealedValue, actor: &str) -> Result<u64, TrustError> {
        let value = self.0.opening_key.open(name, sealed)?;
        let mut vault = self.0.vault.lock().await;
        let change = Change { authority: self, kind: "secret-set", name, actor };
        let version = change.permitted(vault.check_set(name, value.len()).map_err(TrustError::from)).await?;
        change.begins(json!({"version": version})).await?;
        change.ended(vault.set(name, &value, change.now()).await).await
    }

    /// Makes a new epoch of a generated secret, and gives its number. It is released with each
    /// join; a replica that runs goes on with what it was started with.
    ///
    /// # Errors
    /// What the vault says.
    pub async fn rotate_secret(&self, name: &str, actor: &str) -> Result<u32, TrustError> {
        let mut vault = self.0.vault.lock().await;
        let change = Change { authority: self, kind: "secret-rotate", name, actor };
        let epoch = change.permitted(vault.check_rotate(name).map_err(TrustError::from)).await?;
        change.begins(json!({"epoch": epoch})).await?;
        change.ended(vault.rotate(name, change.now()).await).await
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
