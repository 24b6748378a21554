//! What is known of what a replica runs in: the fact whose one writer is the trust authority.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether the evidence of a replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attested {
    /// Its evidence was appraised, and its identity is valid.
    Valid,
    /// Nobody attests it, and the configuration says so: a written `attestation: none`.
    Exempt,
    /// It has not joined yet.
    Pending,
    /// Its identity is over, and no other was given in time.
    Expired,
    /// Its evidence was refused, or what was appraised is revoked.
    Refused,
}

impl Attested {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Valid, Self::Exempt, Self::Expired, Self::Refused];

    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Exempt => "exempt",
            Self::Pending => "pending",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }

    /// Whether this lets a replica serve.
    pub fn holds(self) -> bool {
        matches!(self, Self::Valid | Self::Exempt)
    }
}

impl fmt::Display for Attested {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The attestation of a replica. A copy shares what it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// What it comes to.
    pub value: Attested,
    /// Since when.
    pub since: Timestamp,
    /// Why it was refused.
    pub reason: Option<Arc<Refusal>>,
    /// What was appraised last; stays when it is over, for display.
    pub appraised: Option<Arc<Appraised>>,
}

/// Why a replica was refused, for people. Nobody branches on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stable code.
    pub code: String,
    /// What was expected, and what was found.
    pub detail: String,
}

/// What was appraised, and the identity that was given for it. For display: whoever connects goes by the
/// [`MeshPeer`](crate::MeshPeer).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Appraised {
    /// The kind of the evidence, such as `simulated` or `tdx`.
    pub kind: String,
    /// The label of the release that the measurement is one of.
    pub release: String,
    /// The measurement, in hex.
    pub measurement: String,
    /// The TCB status of the platform.
    pub tcb: String,
    /// The advisories that apply to it.
    pub advisories: Vec<String>,
    /// The id of the signed record of the appraisal.
    pub record: String,
    /// The SHA-256 of the certificate that was given, in hex.
    pub leaf_sha256: String,
    /// The identity in it.
    pub spiffe_id: String,
    /// When it was appraised.
    pub appraised_at: Timestamp,
    /// When the identity ends.
    pub expires: Timestamp,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.detail)
    }
}

impl Attestation {
    /// It has yet to join.
    pub fn pending(now: Timestamp) -> Self {
        Self { value: Attested::Pending, since: now, reason: None, appraised: None }
    }

    /// Nobody will attest it.
    pub fn exempt(now: Timestamp) -> Self {
        Self { value: Attested::Exempt, ..Self::pending(now) }
    }

    /// It was appraised: for the first time, or again before its identity was over.
    #[must_use]
    pub fn valid(&self, appraised: Arc<Appraised>, now: Timestamp) -> Self {
        Self { reason: None, appraised: Some(appraised), ..self.becomes(Attested::Valid, now) }
    }

    /// Its identity is over.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Self {
        Self { reason: None, ..self.becomes(Attested::Expired, now) }
    }

    /// It was refused, or what was appraised is revoked.
    #[must_use]
    pub fn refused(&self, refusal: Refusal, now: Timestamp) -> Self {
        Self { reason: Some(Arc::new(refusal)), ..self.becomes(Attested::Refused, now) }
    }

    fn becomes(&self, value: Attested, now: Timestamp) -> Self {
        let since = if self.value == value { self.since } else { now };
        Self { value, since, ..self.clone() }
    }

    /// Whether it lets the replica serve.
    pub fn holds(&self) -> bool {
        self.value.holds()
    }

    /// Why a replica that runs must not go on, in a fragment; `None` while it may, and while it has yet to join.
    pub fn ceased(&self) -> Option<String> {
        match (self.value, &self.reason) {
            (Attested::Valid | Attested::Exempt | Attested::Pending, _) => None,
            (Attested::Expired, _) => Some("its identity expired".into()),
            (Attested::Refused, Some(refusal)) => Some(format!("its attestation was refused: {refusal}")),
            (Attested::Refused, None) => Some("its attestation was refused".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appraised(record: &str) -> Arc<Appraised> {
        Arc::new(Appraised {
            kind: "simulated".into(),
            release: "1.0.0".into(),
            measurement: "09".repeat(32),
            tcb: "UpToDate".into(),
            advisories: Vec::new(),
            record: record.into(),
            leaf_sha256: "0a".repeat(32),
            spiffe_id: "spiffe://test.dev.invalid/service/vrf/0".into(),
            appraised_at: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn valid_and_exempt_are_attested_and_nothing_else_is() {
        let holding: Vec<_> = Attested::ALL.into_iter().filter(|value| value.holds()).collect();
        assert_eq!(holding, [Attested::Valid, Attested::Exempt]);
    }

    #[test]
    fn a_renewal_changes_what_was_appraised_and_not_since_when_it_holds() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let valid = Attestation::pending(at(0)).valid(appraised("first"), at(1));
        let renewed = valid.valid(appraised("second"), at(2));
        assert_eq!((renewed.since, renewed.appraised.unwrap().record.as_str()), (at(1), "second"));
        let refusal = Refusal { code: "REVOKED".into(), detail: "the measurement is revoked".into() };
        let refused = valid.refused(refusal, at(3));
        assert_eq!((refused.since, refused.holds()), (at(3), false));
        assert_eq!(refused.appraised, valid.appraised, "what it was is shown on");
        let why = "its attestation was refused: REVOKED: the measurement is revoked";
        assert_eq!(refused.ceased().as_deref(), Some(why));
        let again = refused.valid(appraised("third"), at(4));
        assert_eq!((again.since, again.reason, again.value), (at(4), None, Attested::Valid));
        assert_eq!(valid.expired(at(5)).ceased().as_deref(), Some("its identity expired"));
        assert_eq!((valid.ceased(), Attestation::pending(at(0)).ceased()), (None, None));
    }
}
