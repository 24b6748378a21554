//! What is said of a replica beside where it listens, and how much that may be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1_000;
/// The longest name of a zone, in bytes.
pub const MAX_ZONE_BYTES: usize = 40;
/// The most texts of metadata.
pub const MAX_METADATA: usize = 16;
/// The longest name of one, in bytes.
pub const MAX_METADATA_NAME_BYTES: usize = 64;
/// The longest one, in bytes.
pub const MAX_METADATA_BYTES: usize = 256;

/// What is said of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// Where it stands, as the operator calls it.
    pub zone: Option<String>,
    /// Its part of the calls beside that of the others, 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Whatever else the operator says of it.
    pub metadata: BTreeMap<String, String>,
}

/// Why something cannot be said of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DescriptionError {
    /// A zone that is none.
    #[error("a zone is 1 to {MAX_ZONE_BYTES} visible ASCII characters such as eu-1b")]
    Zone,
    /// A weight out of its range.
    #[error("a weight is a whole number from 1 to {MAX_WEIGHT}, and not {0}")]
    Weight(u32),
    /// Too much metadata.
    #[error("metadata has at most {MAX_METADATA} entries, and not {0}")]
    Entries(usize),
    /// A name of metadata that is none.
    #[error("a name of metadata is 1 to {MAX_METADATA_NAME_BYTES} visible ASCII characters such as rack")]
    Name,
    /// A text of metadata that is too long or cannot be shown.
    #[error("the metadata {0} has at most {MAX_METADATA_BYTES} bytes, and no control characters")]
    Text(String),
}

impl Default for Description {
    /// Nothing, which counts as much as any other.
    fn default() -> Self {
        Self { zone: None, weight: 1, metadata: BTreeMap::new() }
    }
}

impl Description {
    /// Whether all of it can be said.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), DescriptionError> {
        if self.zone.as_ref().is_some_and(|zone| !is_name(zone, MAX_ZONE_BYTES)) {
            return Err(DescriptionError::Zone);
        }
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            return Err(DescriptionError::Weight(self.weight));
        }
        if self.metadata.len() > MAX_METADATA {
            return Err(DescriptionError::Entries(self.metadata.len()));
        }
        for (name, text) in &self.metadata {
            if !is_name(name, MAX_METADATA_NAME_BYTES) {
                return Err(DescriptionError::Name);
            }
            if text.len() > MAX_METADATA_BYTES || text.contains(char::is_control) {
                return Err(DescriptionError::Text(name.clone()));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, text: &str) -> Description {
        Description { metadata: [(name.to_owned(), text.to_owned())].into(), ..Description::default() }
    }

    #[test]
    fn what_is_said_of_a_replica_has_limits() {
        let zone = |zone: &str| Description { zone: Some(zone.to_owned()), ..Description::default() };
        let weight = |weight| Description { weight, ..Description::default() };
        for good in [
            Description::default(),
            zone("eu-1b"),
            zone(&"z".repeat(40)),
            weight(1_000),
            with(&"n".repeat(64), &"é".repeat(128)),
        ] {
            assert_eq!(good.check(), Ok(()), "{good:?}");
        }
        for bad in ["", "a b", "é", &"z".repeat(41)] {
            assert_eq!(zone(bad).check(), Err(DescriptionError::Zone), "{bad}");
        }
        assert_eq!(weight(0).check(), Err(DescriptionError::Weight(0)));
        assert_eq!(weight(1_001).check(), Err(DescriptionError::Weight(1_001)));
        for bad in ["", "a b", &"n".repeat(65)] {
            assert_eq!(with(bad, "").check(), Err(DescriptionError::Name), "{bad}");
        }
        for bad in ["a\nb", &"t".repeat(257)] {
            assert_eq!(with("rack", bad).check(), Err(DescriptionError::Text("rack".into())), "{bad}");
        }
        let entries = |count: usize| Description {
            metadata: (0..count).map(|number| (number.to_string(), String::new())).collect(),
            ..Description::default()
        };
        assert_eq!(entries(16).check(), Ok(()));
        assert_eq!(entries(17).check(), Err(DescriptionError::Entries(17)));
    }
}
