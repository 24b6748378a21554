//! Secrets get a new epoch once the newest one is as old as the operator lets it become, just as if it was asked for.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use ::secrets::SecretsError;

use super::Authority;
use crate::TrustError;

/// Who rotates, in the audit trail.
const ACTOR: &str = "schedule";
/// How often it is said that a secret cannot be rotated, while it lasts for the same reason.
const SAID_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// When which secrets are rotated.
#[derive(Default)]
pub(super) struct Schedule {
    /// How old the newest epoch becomes, by the name of the secret.
    rotations: BTreeMap<String, Duration>,
    /// What could not be rotated in the last round, by the name of the secret.
    failures: BTreeMap<String, Failure>,
}

/// Why a secret could not be rotated.
struct Failure {
    reason: String,
    /// When that was said last, in Unix seconds.
    said: u64,
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
                Err(error) => self.failed(&name, &error),
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

    fn failed(&self, name: &str, error: &TrustError) {
        let (reason, now) = (error.to_string(), self.0.clock.latest() / 1000);
        if self.schedule().is_to_be_said(name, &reason, now) {
            let help = help(error);
            tracing::warn!(name, reason, help, "a secret is due for a new epoch and cannot be rotated");
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.0.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    /// Whether a failure is another one than in the last round, or was not said for long.
    fn is_to_be_said(&mut self, name: &str, reason: &str, now: u64) -> bool {
        let known = self.failures.get(name).filter(|failure| failure.reason == reason);
        if known.is_some_and(|failure| now.saturating_sub(failure.said) < SAID_AGAIN.as_secs()) {
            return false;
        }
        self.failures.insert(name.to_owned(), Failure { reason: reason.to_owned(), said: now });
        true
    }
}

/// What is to be done about a failure.
fn help(error: &TrustError) -> &'static str {
    match error {
        TrustError::Secrets(SecretsError::TooManyEpochs(_)) => {
            "its newest epoch stays in use, and nothing makes another one, `serviceos secrets rotate` neither; give the service a \
             new secret where its configuration can name one, and take `rotate` out of this one's entry"
        }
        _ => {
            "once what is in the way is gone, it is rotated by itself, or by hand with `serviceos secrets rotate`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = SAID_AGAIN.as_secs();

    #[test]
    fn a_failure_is_said_once_a_day_while_it_lasts_and_at_once_when_it_is_another() {
        let mut schedule = Schedule::default();
        let mut said = |name, reason, now| schedule.is_to_be_said(name, reason, now);
        assert!(said("a", "full", 100));
        assert!(!said("a", "full", 110) && !said("a", "full", 99 + DAY));
        assert!(said("b", "full", 110), "another secret");
        assert!(said("a", "full", 100 + DAY));
        assert!(!said("a", "full", 110 + DAY));
        assert!(said("a", "no disk", 120 + DAY) && !said("a", "no disk", 130 + DAY));
        assert!(!said("a", "no disk", 0), "the clock may step back");
    }

    #[test]
    fn nobody_is_told_to_rotate_by_hand_what_has_all_its_epochs() {
        let full = help(&TrustError::Secrets(SecretsError::TooManyEpochs("key".into())));
        assert!(full.contains("new secret"), "{full}");
        let other = help(&TrustError::Failed);
        assert!(other.contains("by hand") && !full.contains("by hand"), "{other}");
    }
}
