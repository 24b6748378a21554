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
            loop {
                let Err(error) = self.follow_until_it_fails().await;
                if !matches!(error, AccessError::Store(StoreError::Compacted { .. })) {
                    tracing::warn!(%error, "the API keys that other nodes change cannot be followed; they are read again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown => {}
        }
    }

    async fn follow_until_it_fails(&self) -> Result<std::convert::Infallible, AccessError> {
        let range = self.store.range(RECORDS).await?;
        let mut watch = self.store.watch(RECORDS, range.revision);
        self.take_over(&range.rows).await?;
        loop {
            let Watched::Changes(changes) = watch.next().await? else { continue };
            let rows = changes.changes.into_iter().filter_map(|change| match change {
                Change::Put(row) => Some(row),
                Change::Deleted(_) => None,
            });
            self.take_over(&rows.collect::<Vec<_>>()).await?;
        }
    }

    async fn take_over(&self, rows: &[KeyValue]) -> Result<(), AccessError> {
        let mut ring = self.ring.lock().await;
        let mut changed = false;
        for row in rows {
            let stored: StoredKey = serde_json::from_slice(&row.value)
                .map_err(|_| AccessError::Damaged(String::from_utf8_lossy(&row.key).into_owned()))?;
            changed |= ring.take_over(stored);
        }
        if changed {
            self.publish(&ring);
        }
        Ok(())
    }
}

impl Ring {
    /// Says whether it was news.
    pub(super) fn take_over(&mut self, stored: StoredKey) -> bool {
        let known = self.keys.iter_mut().find(|key| key.stored.record.id == stored.record.id);
        let Some(known) = known.map(|known| &mut known.stored.record) else {
            let held = HeldKey::new(stored, &self.tiers);
            self.keys.push(held);
            return true;
        };
        let is_news = known.revoked_at.is_none() && stored.record.revoked_at.is_some();
        if is_news {
            known.revoked_at = stored.record.revoked_at;
        }
        is_news
    }
}
