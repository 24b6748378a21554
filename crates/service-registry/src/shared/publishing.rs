//! What this node says of its own replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
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
use crate::{Registry, Replica, Snapshot};

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
    #[error("this process does not have the node's name any more")]
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
    let mut writer = Writer { node, seal, written: BTreeMap::new(), before: None, claim: None, signed: 0 };
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
    /// The newest snapshot of which everything is written.
    before: Option<Arc<Snapshot>>,
    /// The claim under which that was.
    claim: Option<Claim>,
    /// When the last row was signed.
    signed: u64,
}

impl Writer<'_> {
    /// Gives the revision of the last of what was written; `None` where nothing was to be.
    async fn write(&mut self, snapshot: &Arc<Snapshot>, claim: Claim) -> Result<Option<u64>, Unwritten> {
        if self.claim != Some(claim) {
            // Under another lease there is nothing yet.
            self.written.clear();
            self.before = None;
            self.claim = Some(claim);
        }
        let changes = self.changes(snapshot, claim);
        let mut revision = None;
        for part in changes.chunks(MAX_OPERATIONS - 1) {
            revision = Some(self.write_part(part, claim).await?);
        }
        self.before = Some(Arc::clone(snapshot));
        Ok(revision)
    }

    /// What is to be written of a snapshot. Of what has not changed since the one before nothing is looked at: most changes are
    /// of what others do, and of healths.
    fn changes(&self, snapshot: &Snapshot, claim: Claim) -> Vec<(ReplicaId, Option<Row>)> {
        let now = Timestamp::now();
        let before = self.before.as_deref();
        let since = before.and_then(|before| snapshot.changes_since(before.epoch, Some(before), None));
        let (changed, gone): (Vec<&Replica>, Vec<ReplicaId>) = match since {
            Some(since) => (since.changed, since.removed.into_iter().collect()),
            None => {
                let all = snapshot.services.iter().flat_map(|service| &service.replicas);
                let gone = self.written.keys().filter(|replica| snapshot.replica(replica).is_none());
                (all.collect(), gone.cloned().collect())
            }
        };
        let gone = gone.into_iter().filter(|replica| self.written.contains_key(replica));
        let own = changed.into_iter().filter(|replica| replica.id.node.as_ref() == Some(&self.node.name));
        let rows = own.map(|replica| (&replica.id, Row::of(replica, claim.token, now)));
        let rows = rows.filter(|(replica, row)| self.written.get(replica) != Some(row));
        gone.map(|replica| (replica, None))
            .chain(rows.map(|(replica, row)| (replica.clone(), Some(row))))
            .collect()
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
