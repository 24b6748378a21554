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
    /// SHA-256 of the canonical `config` that it has shown that it works with.
    pub config: [u8; 32],
    /// The number of the transition that it was issued in.
    pub n: u64,
    /// Until when it holds: as its certificate says, or earlier where another transition is in force since.
    pub not_after: u64,
    /// From when on it gets no more requests, unless it is renewed before.
    pub drains_at: u64,
}

/// How long an identity of the transition before holds once another one is in force, in seconds.
pub(crate) const OVERLAP: u64 = 300;
/// How long before its end an identity that was not renewed takes no more requests, in seconds, if it lives long enough.
pub(crate) const LONGEST_DRAIN: u64 = 10;

impl Admission {
    /// The same in a transition with this number, which is in force since then: one that was issued before ends with the overlap.
    #[must_use]
    pub(crate) fn in_transition(self: &Arc<Self>, n: u64, since: u64) -> Arc<Self> {
        let ends = since + OVERLAP;
        if self.n >= n || self.not_after <= ends {
            return Arc::clone(self);
        }
        let drains_at = self.drains_at.min(ends - LONGEST_DRAIN);
        let renewed = self.renewed.map(|(leaf, until)| (leaf, until.min(ends)));
        Arc::new(Self { not_after: ends, drains_at, renewed, ..Self::clone(self) })
    }

    /// Until when a certificate of its replica holds; `None` for one that is neither the last nor the one before.
    pub(crate) fn holds_until(&self, leaf: &[u8; 32]) -> Option<u64> {
        let former = self.renewed.filter(|(former, _)| former == leaf).map(|(_, until)| until);
        if self.leaf == *leaf { Some(self.not_after) } else { former }
    }
}
