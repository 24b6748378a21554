//! What stands in the store.

use control::ConfigRefused;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{KeyValue, StoreError};

/// The format of all rows.
pub(super) const FORMAT: u32 = 1;

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The file that `up` was started with.
    File,
    /// Somebody who asked for it.
    Cli,
}

impl Origin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Cli => "cli",
        }
    }
}

/// What is known of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) revision: u64,
    pub(crate) author: String,
    pub(crate) origin: Origin,
    pub(crate) time: String,
    pub(crate) digest: String,
    pub(crate) changes: Vec<String>,
    pub(crate) changed_keys: usize,
}

impl Record {
    /// What stands in the place of a revision where there is none yet.
    pub(super) fn before_the_first() -> Self {
        Self {
            format: FORMAT,
            revision: 0,
            author: String::new(),
            origin: Origin::File,
            time: String::new(),
            digest: String::new(),
            changes: Vec::new(),
            changed_keys: 0,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: u32,
    /// The number that the next revision gets.
    pub(super) next: u64,
    /// The newest revision.
    pub(super) in_force: u64,
    /// The revision that means what the file meant last.
    pub(super) file: u64,
}

/// The keys of one node.
#[derive(Debug, Clone)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn of(node: &str) -> Self {
        Self(format!("nodes/{node}/config/"))
    }

    pub(super) fn head(&self) -> String {
        format!("{}head", self.0)
    }

    pub(super) fn records(&self) -> String {
        format!("{}revisions/", self.0)
    }

    /// With as many digits as the largest number, so that the order of the keys is that of the numbers.
    pub(super) fn record(&self, number: u64) -> String {
        format!("{}{number:020}", self.records())
    }

    pub(super) fn text(&self, number: u64) -> String {
        format!("{}texts/{number:020}", self.0)
    }
}

pub(super) fn encode(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("the rows are plain fields")
}

pub(super) fn decode<T: DeserializeOwned>(row: &KeyValue) -> Result<T, ConfigRefused> {
    let key = String::from_utf8_lossy(&row.key);
    serde_json::from_slice(&row.value).map_err(|error| {
        ConfigRefused::Store(StoreError::Failed(format!(
            "the row {key} is damaged, or of a later version: {error}"
        )))
    })
}
