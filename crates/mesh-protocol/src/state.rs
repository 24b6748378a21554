//! The messages of the shared state of services: rows of keys and values that only the service understands, each with the revision
//! of its last write. A member reads and writes the rows of its own service, and of no other.
//!
//! `POST /v1/state/read`, `POST /v1/state/range`, `POST /v1/state/write`, `GET /v1/state/usage`.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// The longest key, in bytes.
pub const MAX_STATE_KEY_BYTES: usize = 512;
/// The longest value, in bytes.
pub const MAX_STATE_VALUE_BYTES: usize = 64 << 10;
/// Keys of one question, and writes of one transaction: each is a comparison and an operation of the store's 128.
pub const MAX_STATE_KEYS: usize = 60;
/// Rows of one page.
pub const MAX_STATE_ROWS: usize = 64;
/// Keys and values of one message together, in bytes, but for a single row that is longer by its key.
pub const MAX_STATE_BYTES: usize = 256 << 10;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRow {
    /// Its key.
    pub key: Bytes,
    /// What it holds.
    pub value: Bytes,
    /// The revision of the last write to it.
    pub revision: u64,
}

/// `POST /v1/state/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateReadRequest {
    /// At least one, at most [`MAX_STATE_KEYS`].
    pub keys: Vec<Bytes>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReadAnswer {
    /// The rows of the first keys, in their order, none where there is no row; at least one, and as many as fit.
    pub rows: Vec<Option<StateRow>>,
}

/// `POST /v1/state/range`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRangeRequest {
    /// How the keys begin.
    pub prefix: Bytes,
    /// Only those behind this key.
    #[serde(default)]
    pub after: Bytes,
    /// At least one, at most [`MAX_STATE_ROWS`].
    pub limit: usize,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRangeAnswer {
    /// The rows in the order of their keys: at most as many as were asked for, and as many as fit.
    pub rows: Vec<StateRow>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// One write. Each says what it expects to find, so that nobody overwrites what he has not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StateWrite {
    /// A row that is not there yet.
    Create {
        /// Its key.
        key: Bytes,
        /// What it is to hold.
        value: Bytes,
    },
    /// Another value for a row whose last write has this revision.
    Replace {
        /// Its key.
        key: Bytes,
        /// What it is to hold.
        value: Bytes,
        /// The revision.
        revision: u64,
    },
    /// Removes a row whose last write has this revision.
    Delete {
        /// Its key.
        key: Bytes,
        /// The revision.
        revision: u64,
    },
}

impl StateWrite {
    /// The row that it concerns.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Create { key, .. } | Self::Replace { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What the row holds then.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Create { value, .. } | Self::Replace { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }
}

/// `POST /v1/state/write`: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateWriteRequest {
    /// At least one, at most [`MAX_STATE_KEYS`], each of another row.
    pub writes: Vec<StateWrite>,
}

/// Its answer, once it is written durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWriteAnswer {
    /// The revision of every row that it wrote.
    pub revision: u64,
}

/// What is said with 409 instead, where a row is not as one of the writes expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateConflict {
    /// `STATE_CONFLICT`.
    pub code: String,
    /// What happened this time.
    pub detail: String,
    /// Those of the rows of the writes that are there, as they were found behind the conflict.
    pub present: Vec<StatePresent>,
}

/// A row that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePresent {
    /// Its key.
    pub key: Bytes,
    /// The revision of the last write to it.
    pub revision: u64,
    /// What it holds, where there was room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
}

/// `GET /v1/state/usage`: how much the service has in its namespace, about, and how much it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateUsage {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The most rows.
    pub max_rows: u64,
    /// The most bytes.
    pub max_bytes: u64,
}
