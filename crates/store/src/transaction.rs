//! What is read and written.

use std::collections::HashSet;

use crate::{LeaseId, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, StoreError};

/// A key with its value and revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision of the last write to it.
    pub mod_revision: u64,
    /// The lease with which it goes.
    pub lease: Option<LeaseId>,
}

/// The keys under a prefix, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The revision of the whole store at that moment: a watch after it misses nothing.
    pub revision: u64,
    /// The keys, in order.
    pub rows: Vec<KeyValue>,
}

impl IntoIterator for Range {
    type Item = KeyValue;
    type IntoIter = std::vec::IntoIter<KeyValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

/// What must hold for a transaction to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(Vec<u8>),
    /// The key exists and its last write has this revision.
    ModRevision(Vec<u8>, u64),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a value, which goes with the lease, if there is one.
    Put(Vec<u8>, Vec<u8>, Option<LeaseId>),
    /// Removes a key; nothing happens where there is none.
    Delete(Vec<u8>),
}

/// All of its operations, or none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) compares: Vec<Compare>,
    pub(crate) operations: Vec<Operation>,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is written, durably.
    Committed {
        /// The revision of every key that it wrote; the store's own where it changed nothing.
        revision: u64,
    },
    /// A comparison did not hold; nothing is written.
    Conflict {
        /// The key of the first comparison that did not hold.
        key: Vec<u8>,
    },
}

impl Compare {
    pub(crate) fn key(&self) -> &[u8] {
        let (Self::Absent(key) | Self::ModRevision(key, _)) = self;
        key
    }
}

impl Operation {
    pub(crate) fn key(&self) -> &[u8] {
        let (Self::Put(key, ..) | Self::Delete(key)) = self;
        key
    }

    /// Its key and its value together.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value, _) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

impl Transaction {
    /// Carries nothing out yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the key does not exist.
    #[must_use]
    pub fn if_absent(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// Only if the last write of the key has this revision.
    #[must_use]
    pub fn if_revision(mut self, key: impl Into<Vec<u8>>, revision: u64) -> Self {
        self.compares.push(Compare::ModRevision(key.into(), revision));
        self
    }

    /// Writes a value.
    #[must_use]
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.operations.push(Operation::Put(key.into(), value.into(), None));
        self
    }

    /// Writes a value that goes with a lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        self.operations.push(Operation::Put(key.into(), value.into(), Some(lease)));
        self
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.operations.push(Operation::Delete(key.into()));
        self
    }
}

/// Refuses what one of the two stores could not do.
pub(crate) fn within_limits(transaction: &Transaction) -> Result<(), StoreError> {
    if transaction.operations.len() + transaction.compares.len() > MAX_OPERATIONS {
        return Err(StoreError::TooLarge("128 operations and comparisons"));
    }
    let mut written = HashSet::new();
    let mut bytes = 0;
    for operation in &transaction.operations {
        let (key, value) = match operation {
            Operation::Put(key, value, _) => (key, value.len()),
            Operation::Delete(key) => (key, 0),
        };
        if key.len() > MAX_KEY_BYTES || key.is_empty() {
            return Err(StoreError::TooLarge("keys of 1 to 1,024 bytes"));
        }
        if value > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge("values of 1 MiB"));
        }
        bytes += key.len() + value;
        if !written.insert(key) {
            return Err(StoreError::WrittenTwice(String::from_utf8_lossy(key).into_owned()));
        }
    }
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(StoreError::TooLarge("1.25 MiB of keys and values"));
    }
    Ok(())
}
