//! Several nodes with one store are one registry: each writes the facts of its own replicas there, and reads those of the others.
//!
//! ```text
//! present/NODE/alive            who has the name; its revision is the fencing token of everything that this node writes
//! present/NODE/manifest         the number of the transition by which it lives, once it runs
//! present/NODE/seen             the revision of the replicas up to which its gateway's workers see them
//! instances/SERVICE/NODE.N      the facts of a replica, signed
//! ```
//!
//! All of them go with the node's lease, and what a node is to do stands elsewhere, so that all nodes can be looked through in no
//! time. Health is not written: each gateway checks the replicas of the others itself, so that
//! it finds out what it cannot reach. What is read is believed only with the mesh's signature: the store is trusted to be there,
//! and for nothing else.

mod following;
mod gateways;
mod node;
mod publishing;
mod row;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::Registry;
use following::Follower;
use publishing::Published;

pub use node::{ClaimError, Node, NodeFacts, PRESENT};

/// How soon something is tried again that the store has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Signs what this node says of its replicas, and judges what others say of theirs.
pub trait Seal: Send + Sync {
    /// The signature of the mesh over a message, or why there is none.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;

    /// Whether a signature is the mesh's.
    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool;

    /// Whether an identity, or a certificate of which this is the SHA-256, is revoked.
    fn is_revoked(&self, spiffe_id: &str, leaf: &[u8; 32]) -> bool;

    /// The number of the transition of the manifest by which this node lives, as it changes.
    fn manifests(&self) -> watch::Receiver<u64>;
}

impl Node {
    /// Keeps the name, writes what the registry says of this node's replicas, and puts those of the others into it, until it is
    /// told to end; then the name is given back, and what was written goes with it.
    pub async fn run(self, registry: Registry, seal: Arc<dyn Seal>, shutdown: impl Future<Output = ()>) {
        let published = watch::Sender::new(Published::default());
        let seen = watch::Sender::new(0);
        let follower = Follower::new(&self, registry.clone(), Arc::clone(&seal));
        tokio::select! {
            () = self.keep() => {}
            () = publishing::publish(&self, &registry, &*seal, &published) => {}
            () = follower.follow(&seen) => {}
            () = gateways::say(&self, node::manifest(&self.name), seal.manifests()) => {}
            () = gateways::say(&self, node::seen(&self.name), seen.subscribe()) => {}
            () = gateways::wait_for_others(&self, &registry, published.subscribe()) => {}
            () = shutdown => {}
        }
        self.give_back().await;
    }
}

#[cfg(test)]
mod tests;
