//! The transitions of the manifest: a chain that only grows, one for the whole mesh.

use mesh_protocol::{Bytes, sha256, to_hex, transition};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{MAX_VALUE_BYTES, Outcome as Committed, Store, Transaction};
use types::NodeName;

use crate::TrustError;
use crate::audit::{Entry, Outcome};
use crate::difference::differences;
use crate::records::canonical_json;

pub(super) const TRANSITION: &str = "trust/transition";
/// The manifest of the last transition, where several nodes must agree on it.
const MANIFEST: &str = "trust/manifest";
/// Under which each node that lives has its name, and nothing else is.
const PRESENT: &str = "present/";

/// The chain of transitions, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chain {
    pub(super) n: u64,
    t_n: Bytes,
    history: Vec<Link>,
}

/// One transition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    n: u64,
    op: String,
    manifest_hash: Bytes,
}

impl Chain {
    /// What is stored of it, or its beginning; with the revision of its row.
    pub(super) async fn known(store: &Store, genesis: &[u8; 32]) -> Result<(Self, Option<u64>), TrustError> {
        let row = store.get(TRANSITION).await?;
        let known = match &row {
            Some(row) => {
                serde_json::from_slice(&row.value).map_err(|_| TrustError::Tampered("transitions"))?
            }
            None => Self { n: 0, t_n: Bytes(genesis.to_vec()), history: Vec::new() },
        };
        verify(&known, genesis)?;
        Ok((known, row.map(|row| row.mod_revision)))
    }

    /// With one transition more; `None` where the manifest is that of the last one.
    pub(super) fn with(&self, manifest: &Value) -> Result<Option<Self>, TrustError> {
        let hash = sha256(&canonical_json(manifest)?);
        if self.history.last().is_some_and(|last| last.manifest_hash.0 == hash) {
            return Ok(None);
        }
        let mut with = self.clone();
        with.n += 1;
        with.t_n = Bytes(transition(with.n, &hash, &self.transition()?).to_vec());
        let link = Link { n: with.n, op: "update".into(), manifest_hash: Bytes(hash.to_vec()) };
        with.history.push(link);
        Ok(Some(with))
    }

    /// Writes it down, with the manifest where other nodes must agree on it.
    ///
    /// # Errors
    /// [`TrustError::Overtaken`] when the row is not that of the revision `before` any more, and those of the store.
    pub(super) async fn keep(
        &self,
        store: &Store,
        before: Option<u64>,
        manifest: Option<&Value>,
    ) -> Result<(), TrustError> {
        let failed = |error: serde_json::Error| TrustError::Record(error.to_string());
        let json = serde_json::to_vec(self).map_err(failed)?;
        let transaction = match before {
            Some(revision) => Transaction::new().if_revision(TRANSITION, revision),
            None => Transaction::new().if_absent(TRANSITION),
        };
        let mut transaction = transaction.put(TRANSITION, json);
        if let Some(manifest) = manifest {
            let shown = serde_json::to_vec(manifest).map_err(failed)?;
            // It is there to show where two differ, and one that is too large for that is not.
            transaction = match shown.len() <= MAX_VALUE_BYTES / 2 {
                true => transaction.put(MANIFEST, shown),
                false => transaction.delete(MANIFEST),
            };
        }
        match store.commit(transaction).await? {
            Committed::Committed { .. } => Ok(()),
            Committed::Conflict { .. } => Err(TrustError::Overtaken),
        }
    }

    /// T_n.
    pub(super) fn transition(&self) -> Result<[u8; 32], TrustError> {
        self.t_n.0.as_slice().try_into().map_err(|_| TrustError::Tampered("transitions"))
    }

    /// The line of the audit trail for its last transition.
    pub(super) fn entry(&self, domain: &secrets::Domain, actor: &str) -> Result<Entry, TrustError> {
        Ok(Entry {
            kind: "transition".into(),
            actor: actor.into(),
            subject: domain.trust_domain.clone(),
            outcome: Outcome::Done,
            reason: None,
            data: json!({"n": self.n, "tN": to_hex(&self.transition()?)}),
        })
    }
}

/// Every link follows from the one before.
fn verify(chain: &Chain, genesis: &[u8; 32]) -> Result<(), TrustError> {
    let tampered = || TrustError::Tampered("transitions");
    let mut last = *genesis;
    for (link, n) in chain.history.iter().zip(1..) {
        let hash = link.manifest_hash.0.as_slice().try_into().map_err(|_| tampered())?;
        last = transition(n, hash, &last);
        if link.n != n {
            return Err(tampered());
        }
    }
    let length = u64::try_from(chain.history.len()).map_err(|_| tampered())?;
    if chain.n == length && chain.t_n.0 == last { Ok(()) } else { Err(tampered()) }
}

/// The manifest as it is written down for other nodes, where there may be some.
pub(super) fn shared_manifest<'a>(node: Option<&NodeName>, manifest: &'a Value) -> Option<&'a Value> {
    node.map(|_| manifest)
}

/// Whether this node alone decides what the manifest is.
///
/// # Errors
/// [`TrustError::OtherManifest`] when others live by another one, and those of the store.
pub(super) async fn no_other_node_lives(
    store: &Store,
    own: &NodeName,
    n: u64,
    manifest: &Value,
) -> Result<(), TrustError> {
    let rows = store.range(PRESENT).await?;
    let is_other = |key: &[u8]| {
        let name = str::from_utf8(key).ok().and_then(|key| key.strip_prefix(PRESENT)?.strip_suffix("/alive"));
        name.is_some_and(|name| name != own.as_str())
    };
    if rows.rows.iter().any(|row| is_other(&row.key)) {
        return Err(other_manifest(store, n, manifest).await);
    }
    Ok(())
}

/// In what a manifest differs from that of the mesh.
pub(super) async fn other_manifest(store: &Store, n: u64, manifest: &Value) -> TrustError {
    let known = store.get(MANIFEST).await.ok().flatten();
    let known: Option<Value> = known.and_then(|row| serde_json::from_slice(&row.value).ok());
    let differences = match known {
        Some(known) => differences(&known, manifest),
        None => "(the manifest of the mesh is too large to be shown)".to_owned(),
    };
    TrustError::OtherManifest { n, differences }
}
