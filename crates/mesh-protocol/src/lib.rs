//! The messages between a replica and the process that started it, and their bytes. Both ends use these types, so that
//! they cannot disagree.
//!
//! A replica is born with one descriptor, a stream socket in the place of its standard input. Over it the supervisor
//! hands over an [`Assignment`], and the replica answers with one [`Report`]. The descriptor is also the leash: when it
//! closes, the other end is gone. Nothing of an assignment is ever in argv, in the environment or on disk.

mod assignment;
mod frame;

pub use assignment::{Assignment, Secret, SecretEpoch, SecretSet};
pub use frame::{FrameError, MAX_FRAME_BYTES, read_frame, write_frame};

use serde::{Deserialize, Serialize};

/// What a replica says once: that it listens, or why it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Report {
    /// Keys are provisioned, the self-test passed, and the replica listens here.
    Listening(std::net::SocketAddr),
    /// The replica cannot start; the text says why and what to do.
    Failed(String),
}

impl Report {
    /// The report as the payload of a frame.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a report has no map with keys that JSON cannot write")
    }

    /// Reads a report back.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(payload).map_err(|_| FrameError::Malformed("report"))
    }
}
