//! What the authority says of each replica: the attestation fact, which nobody else writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use appraisal::{Appraised, Fault};
use mesh_protocol::SpiffeId;
use types::ServiceName;

/// All replicas that were ever asked about, by service and instance.
pub type Standings = BTreeMap<(ServiceName, String), Standing>;

/// What is known of one replica. Moments are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may join, and has not yet.
    Pending {
        /// Since when.
        since: u64,
    },
    /// Its appraisal holds.
    Valid(Arc<Admission>),
    /// Its identity ends, or has ended, without a new one.
    Expired(Arc<Admission>),
    /// Its evidence was refused, or it was revoked.
    Refused {
        /// Why.
        fault: Fault,
        /// Since when.
        since: u64,
    },
}

/// An identity that was issued, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Who it is.
    pub id: SpiffeId,
    /// SHA-256 of the certificate.
    pub leaf: [u8; 32],
    /// The certificate before, and until when it holds, where this is a renewal.
    pub renewed: Option<([u8; 32], u64)>,
    /// What the evidence proved.
    pub appraised: Appraised,
    /// The id of the appraisal's record.
    pub record: String,
    /// When it was appraised.
    pub appraised_at: u64,
    /// Until when it holds.
    pub not_after: u64,
    /// From when on it gets no more requests, unless it is renewed before.
    pub drains_at: u64,
}
