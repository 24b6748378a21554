//! What is read and written.

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
    /// Writes a value.
    Put(Vec<u8>, Vec<u8>),
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
    /// Everything is written, durably, at this revision.
    Committed {
        /// The revision of every key that it wrote.
        revision: u64,
    },
    /// A comparison did not hold; nothing is written.
    Conflict {
        /// The key of the first comparison that did not hold.
        key: Vec<u8>,
    },
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
        self.operations.push(Operation::Put(key.into(), value.into()));
        self
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.operations.push(Operation::Delete(key.into()));
        self
    }
}
