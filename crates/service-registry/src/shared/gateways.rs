//! What gateways tell each other: up to where they see the replicas of all nodes. So a drain waits for every worker of every
//! gateway, and not for the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use store::{Change, KeyValue, Outcome, StoreError, Watch, Watched};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use types::NodeName;

use super::AGAIN;
use super::node::{Node, NodeFacts, PRESENT, in_force, since};
use super::publishing::Published;
use crate::Registry;

/// Says a number of this node's in the store, as it changes: up to which revision its workers see the replicas, or by which
/// manifest it lives. There is none yet while it is 0.
pub(super) async fn say(node: &Node, key: String, mut number: watch::Receiver<u64>) {
    let mut claims = node.claims();
    loop {
        let claim = in_force(&mut claims).await;
        let now = *number.borrow_and_update();
        let transaction = node.fenced(claim).put_leased(key.as_str(), now.to_string(), claim.lease);
        let said = now == 0 || matches!(node.store.commit(transaction).await, Ok(Outcome::Committed { .. }));
        if said {
            tokio::select! {
                changed = number.changed() => if changed.is_err() {
                    return;
                },
                _ = claims.changed() => {}
            }
        } else {
            let _again_by_then = timeout(AGAIN, claims.changed()).await.is_err();
        }
    }
}

/// All nodes, and up to where each of them sees.
struct Nodes<'a> {
    own: &'a NodeName,
    known: BTreeMap<NodeName, Known>,
}

#[derive(Default)]
struct Known {
    alive: bool,
    since: Option<Timestamp>,
    manifest: Option<u64>,
    seen: u64,
}

/// Stands for all other gateways: says of each snapshot that they use it, once all of them see it. Tells the registry which nodes
/// there are.
pub(super) async fn wait_for_others(
    node: &Node,
    registry: &Registry,
    mut published: watch::Receiver<Published>,
) {
    let used_by_others = registry.stand_for_others();
    loop {
        let error = match node.store.range(PRESENT).await {
            Ok(range) => {
                let mut nodes = Nodes { own: &node.name, known: BTreeMap::new() };
                range.rows.iter().for_each(|row| nodes.put(row));
                let watch = node.store.watch(PRESENT, range.revision);
                let confirm = |epoch| {
                    used_by_others.send_replace(epoch);
                };
                follow(nodes, watch, &mut published, registry, confirm).await
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "the other gateways are not followed; they are read again");
        sleep(AGAIN).await;
    }
}

async fn follow(
    mut nodes: Nodes<'_>,
    mut watch: Watch,
    published: &mut watch::Receiver<Published>,
    registry: &Registry,
    confirm: impl Fn(u64),
) -> StoreError {
    let mut snapshots = registry.subscribe();
    loop {
        registry.tell_of_nodes(nodes.facts());
        match nodes.least() {
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
                    Change::Put(row) => nodes.put(row),
                    Change::Deleted(key) => nodes.delete(key),
                }),
                Ok(Watched::Resumed) => {}
                Err(error) => return error,
            },
            _ = published.changed() => {}
            _ = snapshots.changed(), if nodes.least().is_none() => {}
        }
    }
}

impl Nodes<'_> {
    fn put(&mut self, row: &KeyValue) {
        let Some((name, fact)) = name_and_fact(&row.key) else { return };
        let known = self.known.entry(name).or_default();
        let number = || str::from_utf8(&row.value).ok().and_then(|number| number.parse().ok());
        match fact {
            Fact::Alive => (known.alive, known.since) = (true, since(&row.value)),
            Fact::Manifest => known.manifest = number(),
            Fact::Seen => known.seen = number().unwrap_or_default(),
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let Some((name, fact)) = name_and_fact(key) else { return };
        let Some(known) = self.known.get_mut(&name) else { return };
        match fact {
            Fact::Alive => known.alive = false,
            Fact::Manifest => known.manifest = None,
            Fact::Seen => known.seen = 0,
        }
        self.known.retain(|_, known| known.alive || known.manifest.is_some() || known.seen > 0);
    }

    /// Up to where all others that live see; `None` where nobody else lives.
    fn least(&self) -> Option<u64> {
        let others = self.known.iter().filter(|(name, known)| *name != self.own && known.alive);
        others.map(|(_, known)| known.seen).min()
    }

    fn facts(&self) -> Vec<NodeFacts> {
        let alive = self.known.iter().filter(|(_, known)| known.alive);
        alive
            .map(|(name, known)| NodeFacts {
                name: name.clone(),
                since: known.since,
                manifest: known.manifest,
            })
            .collect()
    }
}

enum Fact {
    Alive,
    Manifest,
    Seen,
}

fn name_and_fact(key: &[u8]) -> Option<(NodeName, Fact)> {
    let (name, fact) = str::from_utf8(key).ok()?.strip_prefix(PRESENT)?.split_once('/')?;
    let fact = match fact {
        "alive" => Fact::Alive,
        "manifest" => Fact::Manifest,
        "seen" => Fact::Seen,
        _ => return None,
    };
    Some((name.parse().ok()?, fact))
}
