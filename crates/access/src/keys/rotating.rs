//! Another secret, or another public key, for a key that stays what it is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use store::{Outcome, StoreError, Transaction};

use super::{ApiKeys, Credential, KeyRecord, NewRotation, RECORDS, StoredKey, carried_out};
use crate::{AccessError, ApiKey, PublicKeyInfo};

/// How often it is looked at again what another node has made of the key in the meantime.
const TRIES: usize = 4;

/// A rotation that was decided and has changed nothing yet.
pub struct MadeRotation {
    id: String,
    name: String,
    credential: Credential,
    key: Option<ApiKey>,
    overlap: Duration,
    now: Timestamp,
}

impl MadeRotation {
    /// What people call the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of the new public key, where it has one.
    pub fn public_key(&self) -> Option<PublicKeyInfo> {
        match &self.credential {
            Credential::Secret(_) => None,
            Credential::Public(key) => Some(key.info()),
        }
    }

    /// For how long the old secret is good too.
    pub fn overlap(&self) -> Duration {
        self.overlap
    }
}

impl ApiKeys {
    /// Makes a secret for a key, or reads its new public key. It is good for nothing until [`Self::rotate`], so that it can be
    /// written down elsewhere before.
    pub async fn make_rotation(
        &self,
        id: &str,
        wanted: &NewRotation,
        now: Timestamp,
    ) -> Result<MadeRotation, AccessError> {
        let overlap = wanted.overlap()?;
        let known = {
            let ring = self.ring.lock().await;
            let place = ring.places.get(id).ok_or_else(|| AccessError::UnknownKey(id.to_owned()))?;
            ring.keys[*place].stored.clone()
        };
        if known.record.has_ended(now) {
            return Err(AccessError::Ended(id.to_owned()));
        }
        let (credential, key) = self.credential(wanted.public_key.as_deref())?;
        let problem = match (&known.credential, &credential) {
            (Credential::Public(_), Credential::Secret(_)) => {
                "this key has a public key and no secret; give the new public key"
            }
            (Credential::Secret(_), Credential::Public(_)) => {
                "this key has a secret and no public key; make another key for callers that sign"
            }
            (old, new) if old == new => "public key: this is the one that the key has",
            _ => {
                let (id, name) = (id.to_owned(), known.record.name);
                return Ok(MadeRotation { id, name, credential, key, overlap, now });
            }
        };
        Err(AccessError::Invalid(problem.to_owned()))
    }

    /// Gives a key its new secret. The old one is good until the overlap is over; one that was good before that is good no
    /// more, so that there are never more than two.
    ///
    /// Once begun it is carried out, as by [`Self::add`]. The id, what the key may do, its tier and what it has used of it stay.
    pub async fn rotate(
        self: &Arc<Self>,
        made: MadeRotation,
    ) -> Result<(KeyRecord, Option<ApiKey>), AccessError> {
        let keys = Arc::clone(self);
        carried_out(tokio::spawn(async move { keys.rotate_now(made).await })).await
    }

    /// Only what was read is changed, so that nothing is lost of what another node makes of the key: its revocation least of
    /// all, however late this comes.
    async fn rotate_now(&self, made: MadeRotation) -> Result<(KeyRecord, Option<ApiKey>), AccessError> {
        let MadeRotation { id, credential, key, overlap, now, .. } = made;
        let mut ring = self.ring.lock().await;
        let place = format!("{RECORDS}{id}");
        for _ in 0..TRIES {
            let row = self.store.get(place.clone()).await?.ok_or(AccessError::UnknownKey(id.clone()))?;
            let known: StoredKey =
                serde_json::from_slice(&row.value).map_err(|_| AccessError::Damaged(place.clone()))?;
            // A try whose outcome could not be told had come about.
            let is_done = known.credential == credential;
            if !is_done && known.record.has_ended(now) {
                return Err(AccessError::Ended(id));
            }
            let rotated = if is_done { known } else { known.rotated(credential.clone(), overlap, now) };
            let value = serde_json::to_vec(&rotated).expect("a key record is plain fields");
            let write = Transaction::new().put(place.clone(), value);
            let outcome = match is_done {
                true => Ok(Outcome::Committed { revision: row.mod_revision }),
                false => self.store.commit(write.if_revision(place.clone(), row.mod_revision)).await,
            };
            match outcome {
                Ok(Outcome::Committed { .. }) => {
                    let record = rotated.record.clone();
                    // Whoever follows the store may have seen it already.
                    ring.take_over(rotated);
                    self.publish(&ring);
                    return Ok((record, key));
                }
                Ok(Outcome::Conflict { .. }) | Err(StoreError::Undecided(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(AccessError::Unfinished)
    }
}
