//! The revisions, as those see them who only read.

use std::sync::Arc;

use control::{ConfigRefused, ConfigRevision};
use store::{Store, StoreError};
use tokio::sync::watch;

use super::rows::{self, Keys, Record};
use super::{InForce, failed};

/// Clones read the same.
#[derive(Clone)]
pub(crate) struct History {
    store: Store,
    keys: Keys,
    in_force: watch::Receiver<Arc<InForce>>,
}

impl History {
    pub(super) fn new(store: Store, keys: Keys, in_force: watch::Receiver<Arc<InForce>>) -> Self {
        Self { store, keys, in_force }
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> ConfigRevision {
        let in_force = Arc::clone(&self.in_force.borrow());
        self.shown(in_force.record.clone(), Some(in_force.text.clone()))
    }

    /// Its number.
    pub(crate) fn number_in_force(&self) -> u64 {
        self.in_force.borrow().record.revision
    }

    /// Those that are kept, the newest first.
    pub(crate) async fn list(&self) -> Result<Vec<ConfigRevision>, ConfigRefused> {
        let rows = self.store.range(self.keys.records()).await.map_err(failed)?.rows;
        let records = rows.iter().rev().map(rows::decode);
        records.map(|record| Ok(self.shown(record?, None))).collect()
    }

    /// One of them, with its text.
    pub(crate) async fn revision(&self, number: u64) -> Result<ConfigRevision, ConfigRefused> {
        let unknown = || ConfigRefused::Unknown(number);
        let record = self.store.get(self.keys.record(number)).await.map_err(failed)?.ok_or_else(unknown)?;
        Ok(self.shown(rows::decode(&record)?, Some(self.text(number).await?)))
    }

    pub(crate) async fn text(&self, number: u64) -> Result<String, ConfigRefused> {
        text(&self.store, &self.keys, number).await
    }

    fn shown(&self, record: Record, text: Option<String>) -> ConfigRevision {
        ConfigRevision {
            in_force: record.revision == self.number_in_force(),
            revision: record.revision,
            author: record.author,
            origin: record.origin.as_str().to_owned(),
            time: record.time,
            digest: record.digest,
            changes: record.changes,
            changed_keys: record.changed_keys,
            text,
        }
    }
}

/// The text of a revision of a node.
pub(crate) async fn text_of(store: &Store, node: &str, number: u64) -> Result<String, ConfigRefused> {
    text(store, &Keys::of(node), number).await
}

pub(super) async fn text(store: &Store, keys: &Keys, number: u64) -> Result<String, ConfigRefused> {
    let row = store.get(keys.text(number)).await.map_err(failed)?;
    let row = row.ok_or(ConfigRefused::Unknown(number))?;
    String::from_utf8(row.value).map_err(|_| {
        ConfigRefused::Store(StoreError::Failed(format!("the text of revision {number} is damaged")))
    })
}
