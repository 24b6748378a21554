//! What this node says of its own replicas.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use store::{MAX_OPERATIONS, Outcome, StoreError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use types::ReplicaId;

use super::node::{Claim, Node, in_force};
use super::row::{Row, key};
use super::{AGAIN, Seal};
use crate::{Registry, Snapshot};

/// How far it has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Published {
    /// The newest snapshot of which everything is written.
    pub(super) epoch: u64,
    /// The revision from which on that is seen.
    pub(super) revision: u64,
}

#[derive(Debug, Error)]
enum Unwritten {
    #[error("another process has the node's name")]
    Fenced,
    #[error("{0}")]
    Unsigned(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes every change for ever.
pub(super) async fn publish(
    node: &Node,
    registry: &Registry,
    seal: &dyn Seal,
    published: &watch::Sender<Published>,
) {
    let mut writer = Writer { node, seal, written: BTreeMap::new(), claim: None, signed: 0 };
    let (mut snapshots, mut claims) = (registry.subscribe(), node.claims());
    let mut failing = false;
    loop {
        let claim = in_force(&mut claims).await;
        let snapshot = snapshots.borrow_and_update().clone();
        match writer.write(&snapshot, claim).await {
            Ok(revision) => {
                failing = false;
                published.send_modify(|published| {
                    published.epoch = snapshot.epoch;
                    published.revision = revision.unwrap_or(published.revision);
                });
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() {
                        return;
                    },
                    _ = claims.changed() => {}
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(node = %node.name, %error, "the facts of this node's replicas could not be written");
                }
                failing = true;
                let _again_by_then = timeout(AGAIN, claims.changed()).await.is_err();
            }
        }
    }
}

struct Writer<'a> {
    node: &'a Node,
    seal: &'a dyn Seal,
    written: BTreeMap<ReplicaId, Row>,
    /// The claim under which that was.
    claim: Option<Claim>,
    /// When the last row was signed.
    signed: u64,
}

impl Writer<'_> {
    /// Gives the revision of the last of what was written; `None` where nothing was to be.
    async fn write(&mut self, snapshot: &Snapshot, claim: Claim) -> Result<Option<u64>, Unwritten> {
        if self.claim != Some(claim) {
            // Under another lease there is nothing yet.
            self.written.clear();
            self.claim = Some(claim);
        }
        let now = Timestamp::now();
        let own = snapshot.services.iter().flat_map(|service| &service.replicas);
        let own = own.filter(|replica| replica.id.node.as_ref() == Some(&self.node.name));
        let rows: BTreeMap<_, _> =
            own.map(|replica| (replica.id.clone(), Row::of(replica, claim.token, now))).collect();
        let gone = self.written.keys().filter(|replica| !rows.contains_key(replica));
        let mut changes: Vec<(ReplicaId, Option<Row>)> =
            gone.map(|replica| (replica.clone(), None)).collect();
        let changed = rows.into_iter().filter(|(replica, row)| self.written.get(replica) != Some(row));
        changes.extend(changed.map(|(replica, row)| (replica, Some(row))));
        let mut revision = None;
        for part in changes.chunks(MAX_OPERATIONS - 1) {
            revision = Some(self.write_part(part, claim).await?);
        }
        Ok(revision)
    }

    async fn write_part(
        &mut self,
        part: &[(ReplicaId, Option<Row>)],
        claim: Claim,
    ) -> Result<u64, Unwritten> {
        self.signed = milliseconds().max(self.signed + 1);
        let mut transaction = self.node.fenced(claim);
        for (replica, row) in part {
            let key = key(replica);
            transaction = match row {
                Some(row) => {
                    let sealed = row.seal(&key, self.signed, self.seal).map_err(Unwritten::Unsigned)?;
                    transaction.put_leased(key, sealed, claim.lease)
                }
                None => transaction.delete(key),
            };
        }
        match self.node.store.commit(transaction).await? {
            Outcome::Committed { revision } => {
                for (replica, row) in part {
                    match row {
                        Some(row) => self.written.insert(replica.clone(), row.clone()),
                        None => self.written.remove(replica),
                    };
                }
                Ok(revision)
            }
            Outcome::Conflict { .. } => Err(Unwritten::Fenced),
        }
    }
}

fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
