//! What gateways tell each other: up to where they see the replicas of all nodes. So a drain waits for every worker of every
//! gateway, and not for the clock.

use std::collections::BTreeMap;

use store::{Change, KeyValue, Outcome, StoreError, Watch, Watched};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use types::NodeName;

use super::AGAIN;
use super::node::{Node, PRESENT, in_force, seen as seen_key};
use super::publishing::Published;
use crate::Registry;

/// Says in the store up to which revision this node's workers see the replicas.
pub(super) async fn acknowledge(node: &Node, mut seen: watch::Receiver<u64>) {
    let mut claims = node.claims();
    loop {
        let claim = in_force(&mut claims).await;
        let revision = *seen.borrow_and_update();
        let row = revision.to_string();
        let transaction = node.fenced(claim).put_leased(seen_key(&node.name), row, claim.lease);
        let said =
            revision == 0 || matches!(node.store.commit(transaction).await, Ok(Outcome::Committed { .. }));
        if said {
            tokio::select! {
                changed = seen.changed() => if changed.is_err() {
                    return;
                },
                _ = claims.changed() => {}
            }
        } else {
            let _again_by_then = timeout(AGAIN, claims.changed()).await.is_err();
        }
    }
}

/// The other nodes, and up to where each of them sees.
#[derive(Default)]
struct Others(BTreeMap<NodeName, Other>);

#[derive(Default)]
struct Other {
    alive: bool,
    seen: u64,
}

/// Stands for all other gateways: says of each snapshot that they use it, once all of them see it.
pub(super) async fn wait_for_others(
    node: &Node,
    registry: &Registry,
    mut published: watch::Receiver<Published>,
) {
    let used_by_others = registry.stand_for_others();
    loop {
        let error = match node.store.range(PRESENT).await {
            Ok(range) => {
                let mut others = Others::default();
                range.rows.iter().for_each(|row| others.put(&node.name, row));
                let watch = node.store.watch(PRESENT, range.revision);
                let confirm = |epoch| {
                    used_by_others.send_replace(epoch);
                };
                follow(node, others, watch, &mut published, registry, confirm).await
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "the other gateways are not followed; they are read again");
        sleep(AGAIN).await;
    }
}

async fn follow(
    node: &Node,
    mut others: Others,
    mut watch: Watch,
    published: &mut watch::Receiver<Published>,
    registry: &Registry,
    confirm: impl Fn(u64),
) -> StoreError {
    let mut snapshots = registry.subscribe();
    loop {
        match others.least() {
            // Nobody else has to see anything.
            None => confirm(snapshots.borrow_and_update().epoch),
            Some(seen) => {
                let published = *published.borrow_and_update();
                if published.revision <= seen {
                    confirm(published.epoch);
                }
            }
        }
        tokio::select! {
            watched = watch.next() => match watched {
                Ok(Watched::Changes(changes)) => changes.changes.iter().for_each(|change| match change {
                    Change::Put(row) => others.put(&node.name, row),
                    Change::Deleted(key) => others.delete(key),
                }),
                Ok(Watched::Resumed) => {}
                Err(error) => return error,
            },
            _ = published.changed() => {}
            _ = snapshots.changed(), if others.least().is_none() => {}
        }
    }
}

impl Others {
    fn put(&mut self, own: &NodeName, row: &KeyValue) {
        let Some((name, fact)) = name_and_fact(&row.key).filter(|(name, _)| name != own) else { return };
        let other = self.0.entry(name).or_default();
        match fact {
            Fact::Alive => other.alive = true,
            Fact::Seen => {
                let seen = str::from_utf8(&row.value).ok().and_then(|seen| seen.parse().ok());
                other.seen = seen.unwrap_or_default();
            }
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let Some((name, fact)) = name_and_fact(key) else { return };
        let Some(other) = self.0.get_mut(&name) else { return };
        match fact {
            Fact::Alive => other.alive = false,
            Fact::Seen => other.seen = 0,
        }
        self.0.retain(|_, other| other.alive || other.seen > 0);
    }

    /// Up to where all that live see; `None` where nobody else lives.
    fn least(&self) -> Option<u64> {
        self.0.values().filter(|other| other.alive).map(|other| other.seen).min()
    }
}

enum Fact {
    Alive,
    Seen,
}

fn name_and_fact(key: &[u8]) -> Option<(NodeName, Fact)> {
    let (name, fact) = str::from_utf8(key).ok()?.strip_prefix(PRESENT)?.split_once('/')?;
    let fact = match fact {
        "alive" => Fact::Alive,
        "seen" => Fact::Seen,
        _ => return None,
    };
    Some((name.parse().ok()?, fact))
}
