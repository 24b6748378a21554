//! What has changed, in the order in which it did.

use crate::backend::Watching;
use crate::{KeyValue, StoreError};

/// The changes under a prefix from a revision on, each once and in order.
pub struct Watch(Box<dyn Watching>);

/// What a watch gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// What one transaction changed.
    Changes(Changes),
    /// The store was away, and is there again. Nothing was missed, but what was said in between may come at once: leases that
    /// could not be renewed in that time end together, and those who held them may be well.
    Resumed,
}

/// What one transaction, or the end of one lease, changed under the prefix. Never empty, never a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The revision of all of them.
    pub revision: u64,
    /// The changes, each of another key.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value now.
    Put(KeyValue),
    /// The key is gone.
    Deleted(Vec<u8>),
}

impl Watch {
    pub(crate) fn new(watching: Box<dyn Watching>) -> Self {
        Self(watching)
    }

    /// Waits for the next change. May be dropped and asked again: nothing is lost.
    ///
    /// While the store is away it waits, and goes on where it was.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when what comes next is not kept any more; everything has to be read again then. Others say that
    /// the store will not come back by itself.
    pub async fn next(&mut self) -> Result<Watched, StoreError> {
        self.0.next().await
    }
}

impl Change {
    /// The key that it concerns.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(row) => &row.key,
            Self::Deleted(key) => key,
        }
    }
}
