//! What an operator may know of the secrets: everything but the values.

use std::time::Duration;

use super::{Generate, Stored, Vault};
use crate::Origin;
use crate::name::is_reserved;

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// What kind of value a generated one has; `None` where it is older than the note of it.
    pub generate: Option<Generate>,
    /// Its versions, ascending, never empty.
    pub versions: Vec<VersionInfo>,
}

/// One version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionInfo {
    /// The number, from 1.
    pub version: u64,
    /// The epoch; always 1 for a value that an operator gave.
    pub epoch: u32,
    /// When it was made, in Unix seconds; `None` where it is older than the note of it.
    pub made_at: Option<u64>,
}

/// One version of those that a replica is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The number, from 1.
    pub version: u64,
    /// The epoch; always 1 for a value that an operator gave.
    pub epoch: u32,
    /// How long its value is.
    pub bytes: usize,
}

impl Vault {
    /// What [`Self::release`] would give of a secret, ascending, without the values. None of one that is not there, nor of the
    /// mesh's own.
    pub fn given(&self, name: &str) -> Vec<Given> {
        let current = self.current(name).filter(|_| !is_reserved(name));
        let given =
            |(version, stored): (u64, &Stored)| Given { version, epoch: stored.epoch, bytes: stored.bytes };
        current.map(given).collect()
    }

    /// All secrets of services and operators, in the order of their names.
    pub fn list(&self) -> Vec<Summary> {
        let mut summaries: Vec<Summary> = Vec::new();
        for ((name, version), stored) in &self.records {
            if is_reserved(name) {
                continue;
            }
            let info = VersionInfo {
                version: *version,
                epoch: stored.epoch,
                made_at: stored.made.map(|made| made.at),
            };
            match summaries.last_mut().filter(|last| last.name == *name) {
                Some(last) => last.versions.push(info),
                None => summaries.push(Summary {
                    name: name.clone(),
                    origin: stored.origin,
                    generate: self.kind(name),
                    versions: vec![info],
                }),
            }
        }
        summaries
    }

    /// Whether the newest epoch of a generated secret is so old at `now` (Unix seconds), or of unknown age. Never of a secret
    /// that an operator gave, of the mesh's own, or of one that is not there: nothing of these is rotated.
    pub fn due(&self, name: &str, rotate_after: Duration, now: u64) -> bool {
        match self.newest(name) {
            Some((_, newest)) if newest.origin == Origin::Generated && !is_reserved(name) => {
                newest.made.is_none_or(|made| now.saturating_sub(made.at) >= rotate_after.as_secs())
            }
            _ => false,
        }
    }
}
