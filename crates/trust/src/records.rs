//! The signed record that every appraisal leaves.

use appraisal::{Check, Checks, Policy};
use mesh_protocol::{Bytes, Evidence, canonical, sha256};
use serde::Serialize;
use types::wire::Message;

use crate::{Signer, TrustError};

/// What was looked at, and how each step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppraisalRecord {
    v: u8,
    /// Its own id.
    pub id: String,
    /// The kind of evidence.
    pub kind: String,
    evidence_sha256: Bytes,
    collateral_sha256: Bytes,
    policy_sha256: Bytes,
    rd: Bytes,
    /// The steps.
    pub checks: Vec<Check>,
    /// Unix seconds.
    pub appraised_at: u64,
    /// Until when an identity that rests on it holds, Unix seconds; when it was made, where it was refused.
    pub expires_at: u64,
}

/// A record with the signature of the mesh's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedRecord {
    /// The record.
    pub record: AppraisalRecord,
    /// Over "serviceos/appraisal/v1\0" ‖ lp(canonical JSON).
    pub signature: Bytes,
    /// SHA-256 of the canonical JSON, by which a certificate names it.
    #[serde(skip)]
    pub digest: [u8; 32],
}

/// What a record is made of.
pub(crate) struct Recorded<'a> {
    pub(crate) id: String,
    pub(crate) evidence: &'a Evidence,
    pub(crate) policy: &'a Policy,
    pub(crate) report_data: &'a [u8; 64],
    pub(crate) checks: &'a Checks,
    pub(crate) appraised_at: u64,
    pub(crate) expires_at: u64,
}

impl Recorded<'_> {
    pub(crate) fn sign(self, signer: &Signer) -> Result<SignedRecord, TrustError> {
        let hashed = |bytes: &[u8]| Bytes(sha256(bytes).to_vec());
        let record = AppraisalRecord {
            v: 1,
            id: self.id,
            kind: self.evidence.kind.to_string(),
            evidence_sha256: hashed(&self.evidence.quote),
            collateral_sha256: hashed(&self.evidence.collateral),
            policy_sha256: hashed(&canonical_json(self.policy)?),
            rd: Bytes(self.report_data.to_vec()),
            checks: self.checks.steps().to_vec(),
            appraised_at: self.appraised_at,
            expires_at: self.expires_at,
        };
        let json = canonical_json(&record)?;
        let digest = sha256(&json);
        let message = Message::tagged(b"serviceos/appraisal/v1\0").lp(json).finish();
        Ok(SignedRecord { record, signature: Bytes(signer.sign(&message)?), digest })
    }
}

/// The canonical JSON of a value (RFC 8785).
pub(crate) fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, TrustError> {
    let failed = |error: String| TrustError::Record(error);
    let json = serde_json::to_value(value).map_err(|error| failed(error.to_string()))?;
    canonical(&json).map_err(|error| failed(error.to_string()))
}
