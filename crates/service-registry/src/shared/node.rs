//! A node's name: one process has it, for as long as it renews its lease.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{LeaseId, Outcome, Store, StoreError, Transaction};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use types::NodeName;

use super::AGAIN;

/// How long a node that says nothing is taken for alive.
const TTL: Duration = Duration::from_secs(10);
/// How often it says something.
const RENEWAL: Duration = Duration::from_millis(3_300);
/// How long it may take to give the name back; without that it goes with the lease.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// Why a node cannot have its name.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Somebody else has it.
    #[error(
        "another serviceos runs as the node {name} since {since}: give this one another name with `node`, or, if that one is \
         gone, wait 10 s for its lease to end"
    )]
    Taken {
        /// The name.
        name: NodeName,
        /// Since when.
        since: Timestamp,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// From whom a name may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// From who had it as the same owner: this machine before a crash.
    Former,
    /// From nobody.
    Nobody,
}

/// A node of the mesh: this process under a name that no other has.
pub struct Node {
    pub(super) store: Store,
    pub(super) name: NodeName,
    owner: String,
    claim: watch::Sender<Option<Claim>>,
}

/// What makes what this process writes its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) lease: LeaseId,
    /// The revision in which the name was taken: whoever takes it later has a higher one.
    pub(super) token: u64,
}

/// The row of a name that is taken.
#[derive(Serialize, Deserialize)]
struct Alive {
    v: u32,
    owner: String,
    since: Timestamp,
}

impl Node {
    /// Takes the name in the store, with a lease that [`Self::run`] renews. `owner` is what makes this node known to itself after a
    /// crash: whoever had the name as the same owner is gone. While the store is away the name waits: [`Self::run`] takes it then.
    ///
    /// # Errors
    /// Another owner has the name and is alive, or the store refuses.
    pub async fn claim(store: Store, name: NodeName, owner: String) -> Result<Self, ClaimError> {
        let node = Self { store, name, owner, claim: watch::Sender::new(None) };
        match node.take(Holder::Former).await {
            Ok(claim) => {
                node.claim.send_replace(Some(claim));
            }
            Err(ClaimError::Store(error @ StoreError::Unreachable(_))) => {
                tracing::warn!(node = %node.name, %error, "the node takes its name once the store answers");
            }
            Err(other) => return Err(other),
        }
        Ok(node)
    }

    /// The claim in force, and every later one; `None` while there is none.
    pub(super) fn claims(&self) -> watch::Receiver<Option<Claim>> {
        self.claim.subscribe()
    }

    /// A transaction that is carried out only while the claim is in force.
    pub(super) fn fenced(&self, claim: Claim) -> Transaction {
        Transaction::new().if_revision(alive(&self.name), claim.token)
    }

    /// Renews the lease for ever, and takes the name when it was lost, or was not to be had.
    pub(super) async fn keep(&self) {
        // Once it had the name, whoever has it is another process, though it calls itself the same owner.
        let mut over = if self.claim.borrow().is_none() { Holder::Former } else { Holder::Nobody };
        self.renew().await;
        let mut failing = self.claim.borrow().is_none();
        loop {
            sleep(if failing { AGAIN } else { RENEWAL }).await;
            let claim = *self.claim.borrow();
            let kept = match claim {
                Some(claim) => self.store.keep_alive(claim.lease).await.map_err(ClaimError::from),
                None => self.take(over).await.map(|claim| {
                    tracing::info!(node = %self.name, "the node has its name");
                    self.claim.send_replace(Some(claim));
                    over = Holder::Nobody;
                }),
            };
            match kept {
                Ok(()) => {
                    if failing && claim.is_some() {
                        tracing::info!(node = %self.name, "the node says again that it is alive");
                    }
                    failing = false;
                }
                Err(ClaimError::Store(StoreError::LeaseEnded(_))) => {
                    tracing::warn!(node = %self.name, "the node's lease has ended; its name is taken again");
                    self.claim.send_replace(None);
                    failing = true;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(node = %self.name, %error, "the node cannot say that it is alive");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Others learn at once that it is gone.
    pub(super) async fn give_back(&self) {
        let claim = self.claim.send_replace(None);
        if let Some(claim) = claim {
            let _goes_with_its_lease = timeout(GIVING_BACK, self.store.revoke(claim.lease)).await.is_err();
        }
    }

    /// Renews the lease now, or takes the name again: since it was taken, all that a start does has happened.
    pub(super) async fn renew(&self) {
        let Some(claim) = *self.claim.borrow() else { return };
        if let Err(StoreError::LeaseEnded(_)) = self.store.keep_alive(claim.lease).await {
            self.claim.send_replace(None);
            if let Ok(claim) = self.take(Holder::Nobody).await {
                self.claim.send_replace(Some(claim));
            }
        }
    }

    async fn take(&self, over: Holder) -> Result<Claim, ClaimError> {
        let lease = self.store.grant(TTL).await?;
        let taken = self.take_with(lease, over).await;
        if taken.is_err() {
            let _goes_by_itself = self.store.revoke(lease).await.is_err();
        }
        taken
    }

    async fn take_with(&self, lease: LeaseId, over: Holder) -> Result<Claim, ClaimError> {
        let key = alive(&self.name);
        let known = self.store.get(key.as_str()).await?;
        let row: Option<Alive> = known.as_ref().and_then(|known| serde_json::from_slice(&known.value).ok());
        if let Some(row) = row.filter(|row| over == Holder::Nobody || row.owner != self.owner) {
            return Err(ClaimError::Taken { name: self.name.clone(), since: row.since });
        }
        let transaction = match &known {
            Some(known) => Transaction::new().if_revision(key.as_str(), known.mod_revision),
            None => Transaction::new().if_absent(key.as_str()),
        };
        let row = Alive { v: 1, owner: self.owner.clone(), since: Timestamp::now() };
        let row = serde_json::to_vec(&row).expect("plain fields");
        let token = match self.store.commit(transaction.put_leased(key, row, lease)).await? {
            Outcome::Committed { revision } => revision,
            Outcome::Conflict { .. } => {
                return Err(ClaimError::Taken { name: self.name.clone(), since: Timestamp::now() });
            }
        };
        // What an earlier life of this node has left is nobody's any more.
        if let Some(former) = known.and_then(|known| known.lease) {
            self.store.revoke(former).await?;
        }
        Ok(Claim { lease, token })
    }
}

/// Waits until there is a claim, and gives it.
pub(super) async fn in_force(claims: &mut watch::Receiver<Option<Claim>>) -> Claim {
    let claim = claims.wait_for(Option::is_some).await.ok().and_then(|claim| *claim);
    match claim {
        Some(claim) => claim,
        // The node is gone, and with it whoever waits here.
        None => std::future::pending().await,
    }
}

/// Where all nodes that live are, and nothing else is: it is read whole and watched by every node, so what a node keeps for itself,
/// such as its configurations, stands elsewhere.
pub const PRESENT: &str = "present/";

pub(super) fn alive(name: &NodeName) -> String {
    format!("{PRESENT}{name}/alive")
}

pub(super) fn manifest(name: &NodeName) -> String {
    format!("{PRESENT}{name}/manifest")
}

pub(super) fn seen(name: &NodeName) -> String {
    format!("{PRESENT}{name}/seen")
}

/// A node that lives, as this one knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Since when it has the name; nothing where what it says of that cannot be read.
    pub since: Option<Timestamp>,
    /// The number of the transition of the manifest by which it lives; nothing while it begins.
    pub manifest: Option<u64>,
}

/// Since when a node has its name, out of the row that says so.
pub(super) fn since(alive: &[u8]) -> Option<Timestamp> {
    serde_json::from_slice::<Alive>(alive).ok().map(|row| row.since)
}
