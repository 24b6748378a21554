//! What whoever starts a replica by hand is given: the ticket, and all that belongs to it.

use serde::{Deserialize, Serialize};

use crate::{Assignment, FrameError, Protocol};

/// A launch ticket for one replica, for 120 seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchTicket {
    /// What the replica is told; the ticket itself is in it.
    pub assignment: Assignment,
    /// What it speaks.
    pub protocol: Protocol,
}

impl LaunchTicket {
    /// Reads one out of its file.
    ///
    /// # Errors
    /// The file holds something else.
    pub fn decode(json: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(json).map_err(|_| FrameError::Malformed("launch ticket"))
    }
}
