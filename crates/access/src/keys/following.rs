//! Keys that other nodes make and revoke, where several share the store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use store::{Change, KeyValue, StoreError, Watched};

use super::{ApiKeys, HeldKey, RECORDS, Ring, StoredKey};
use crate::AccessError;

/// How soon it is tried again to follow.
const AGAIN: Duration = Duration::from_secs(1);

impl ApiKeys {
    /// Follows them until it is told to end: a key that another node has made counts here, and one that it has revoked does not.
    pub async fn follow(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let following = async {
            let mut is_said = false;
            loop {
                let Err(error) = self.follow_until_it_fails(&mut is_said).await;
                if !matches!(error, StoreError::Compacted { .. }) {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(%error, "the API keys that other nodes change cannot be followed; they are read again");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown => {}
        }
    }

    /// That it fails is said once, until all is read.
    async fn follow_until_it_fails(
        &self,
        is_said: &mut bool,
    ) -> Result<std::convert::Infallible, StoreError> {
        let range = self.store.range(RECORDS).await?;
        let mut watch = self.store.watch(RECORDS, range.revision);
        self.take_over(&range.rows).await;
        *is_said = false;
        loop {
            let Watched::Changes(changes) = watch.next().await? else { continue };
            let rows = changes.changes.into_iter().filter_map(|change| match change {
                Change::Put(row) => Some(row),
                Change::Deleted(_) => None,
            });
            self.take_over(&rows.collect::<Vec<_>>()).await;
        }
    }

    /// One that cannot be read, as of a later version, is left out, and keeps no other from counting.
    async fn take_over(&self, rows: &[KeyValue]) {
        let mut ring = self.ring.lock().await;
        let mut changed = false;
        for row in rows {
            match serde_json::from_slice::<StoredKey>(&row.value) {
                Ok(stored) => changed |= ring.take_over(stored),
                Err(_) => {
                    let error = AccessError::Damaged(String::from_utf8_lossy(&row.key).into_owned());
                    tracing::error!(%error, "an API key that another node has changed does not count here");
                }
            }
        }
        if changed {
            self.publish(&ring);
        }
    }
}

impl Ring {
    /// Says whether it was news.
    pub(super) fn take_over(&mut self, stored: StoredKey) -> bool {
        let place = *self.places.entry(stored.record.id.clone()).or_insert(self.keys.len());
        let Some(known) = self.keys.get_mut(place).map(|known| &mut known.stored) else {
            let held = HeldKey::new(stored, &self.tiers);
            self.keys.push(held);
            return true;
        };
        let is_revoked = known.record.revoked_at.is_none() && stored.record.revoked_at.is_some();
        if is_revoked {
            known.record.revoked_at = stored.record.revoked_at;
        }
        // What was seen already may come once more, and behind what came after it.
        let is_rotated = stored.rotations > known.rotations;
        if is_rotated {
            let revoked_at = known.record.revoked_at;
            *known = stored;
            known.record.revoked_at = revoked_at;
        }
        is_revoked || is_rotated
    }
}
