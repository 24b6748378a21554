//! Secrets get a new epoch once the newest one is as old as the operator lets it become, just as if it was asked for.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Authority;
use crate::TrustError;

/// Who rotates, in the audit trail.
const ACTOR: &str = "schedule";

/// When which secrets are rotated.
#[derive(Default)]
pub(super) struct Schedule {
    /// How old the newest epoch becomes, by the name of the secret.
    rotations: BTreeMap<String, Duration>,
    /// Why a secret could not be rotated in the last round, so that it is said once.
    failures: BTreeMap<String, String>,
}

impl Authority {
    /// Has these secrets rotated once their newest epochs are so old, from the next round on, and no others.
    pub fn schedule_rotations(&self, rotations: BTreeMap<String, Duration>) {
        self.schedule().rotations = rotations;
    }

    /// Rotates what is due. What fails is tried again in the next round.
    pub(super) async fn rotate_due(&self) {
        let rotations = self.schedule().rotations.clone();
        for (name, after) in rotations {
            match self.rotate_if_due(&name, after).await {
                Ok(rotated) => {
                    self.schedule().failures.remove(&name);
                    if let Some(epoch) = rotated {
                        tracing::info!(
                            name,
                            epoch,
                            "a secret was rotated, since its newest epoch was old enough"
                        );
                    }
                }
                Err(error) => self.failed(name, &error),
            }
        }
        // Whoever changed something and was not heard to its end has said nothing.
        self.publish_grants(&*self.0.vault.lock().await);
    }

    async fn rotate_if_due(&self, name: &str, after: Duration) -> Result<Option<u32>, TrustError> {
        let now = self.0.clock.checked().map_err(|fault| TrustError::Record(fault.to_string()))?;
        let mut vault = self.0.vault.lock().await;
        if !vault.due(name, after, now / 1000) {
            return Ok(None);
        }
        // Nobody has asked for it, so a refusal is no line of the audit trail: it would be one of each round.
        self.check_rotate(&vault, name)?;
        self.rotate_in(&mut vault, name, ACTOR).await.map(Some)
    }

    fn failed(&self, name: String, error: &TrustError) {
        let reason = error.to_string();
        let mut schedule = self.schedule();
        if schedule.failures.get(&name) != Some(&reason) {
            tracing::warn!(
                name,
                reason,
                "a secret is due for a new epoch and cannot be rotated; once what is in the way is gone, it is, or by hand with \
                 `serviceos secrets rotate`"
            );
            schedule.failures.insert(name, reason);
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.0.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
