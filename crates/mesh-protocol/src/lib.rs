//! The messages between a replica, the process that started it, the quoter and the authority, and their bytes. Both ends use these types, so that
//! they cannot disagree.
//!
//! A replica is born with one descriptor, a stream socket in the place of its standard input, in which its launcher has left
//! a [`Handover`]. Over the socket in there the supervisor gives it an [`Assignment`], and the replica answers with one
//! [`Report`]. That socket is also the leash: when it closes, the other end is gone. With its assignment the replica joins the
//! mesh over TLS, by the messages of [`ChallengeRequest`] and [`JoinRequest`].

mod assignment;
mod authority_workload;
mod binding;
mod caller;
mod canonical;
mod config;
mod dcap;
mod descriptors;
mod evidence;
mod frame;
mod handover;
mod handshakes;
mod identity;
mod launch_ticket;
mod messages;
mod protocol;
mod quoter;
mod release;
mod revocations;
mod signature;
mod silence;
mod state;
pub mod tls;
mod workload;

pub use assignment::{
    Assignment, ConfigReload, MeshCoordinates, OwnWords, RegisteredBy, Secret, SecretEpoch, SecretSet,
};
pub use authority_workload::AuthorityWorkload;
pub use binding::{AuthorityBinding, JoinBinding, sha256, transition};
pub use caller::{CALLER_TOKEN_SECONDS, CallerClaims, caller_token};
pub use canonical::{NotCanonical, canonical};
pub use config::{
    ConfigAnswer, ConfigOutcome, ConfigReport, MAX_CONFIG_BYTES, MAX_REASON_BYTES, WantedConfig, told_reason,
};
pub use dcap::{DcapCollateral, Hex, from_hex, to_hex};
pub use descriptors::{MAX_DESCRIPTORS, receive_with_descriptors, send_with_descriptors};
pub use evidence::{
    Evidence, EvidenceError, EvidenceKind, EvidenceSource, JoinClaims, MAX_EVIDENCE_BYTES, MalformedEvidence,
};
pub use frame::{FrameError, MAX_FRAME_BYTES, read_frame, write_frame};
pub use handover::Handover;
pub use handshakes::Handshakes;
pub use identity::{NotAnIdentity, SpiffeId, Subject};
pub use launch_ticket::LaunchTicket;
pub use messages::{
    Bytes, ChallengeAnswer, ChallengeRequest, EndOrder, InstancesAnswer, JoinAnswer, JoinRequest, LEASE_TTL,
    LeaseRequest, MAX_MESSAGE_BYTES, MeshInstance, MeshPart, MeshSide, RENEWAL, RUN_BYTES, Refusal,
    RegisterAnswer, RegisterRequest, RenewAnswer, SealedSecret,
};
pub use protocol::Protocol;
pub use quoter::{
    CONTROL_KEY_BYTES, MAX_QUOTER_REQUEST_BYTES, QuoterAnswer, QuoterControl, QuoterError, QuoterRefusal,
    QuoterRequest, QuoterSource, decode_control_key, decode_registration, receive_request, register,
    socket_path,
};
pub use release::{Release, granted_digest, hpke_info};
pub use revocations::{Revocations, Revoked, RevokedType, SignedRevocations, WatchAnswer};
pub use signature::is_signed_by;
pub use silence::notice_silence;
pub use state::{
    MAX_STATE_BYTES, MAX_STATE_KEY_BYTES, MAX_STATE_KEYS, MAX_STATE_ROWS, MAX_STATE_VALUE_BYTES,
    StateConflict, StatePresent, StateRangeAnswer, StateRangeRequest, StateReadAnswer, StateReadRequest,
    StateRow, StateUsage, StateWrite, StateWriteAnswer, StateWriteRequest,
};
pub use workload::Workload;

use serde::{Deserialize, Serialize};

/// What a replica says once: that it listens, or why it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Report {
    /// It has joined, the self-test passed, and it listens here.
    Listening {
        /// Where.
        address: std::net::SocketAddr,
        /// SHA-256 of the certificate that it shows.
        leaf: Bytes,
    },
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
