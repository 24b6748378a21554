//! Evidence: what a trusted execution environment says of the code that it runs, and where it is got from.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use thiserror::Error;
use types::wire::{Message, Reader};

/// The largest evidence of a join, in bytes: quotes have 5 to 10 KB, their collateral some 20 KB.
pub const MAX_EVIDENCE_BYTES: usize = 64 << 10;

const TAG: &[u8] = b"serviceos/evidence/v1\0";

/// Which trusted execution environment evidence is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceKind {
    /// Intel SGX, a DCAP quote of version 3.
    Sgx,
    /// Intel TDX, a DCAP quote of version 4 or 5.
    Tdx,
    /// AMD SEV-SNP, an attestation report.
    SevSnp,
    /// AWS Nitro Enclaves, an attestation document.
    Nitro,
    /// A quote of SGX's form under a development root.
    Simulated,
}

impl EvidenceKind {
    const ALL: [Self; 5] = [Self::Sgx, Self::Tdx, Self::SevSnp, Self::Nitro, Self::Simulated];

    /// The word in hashed messages, in records and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::SevSnp => "sev-snp",
            Self::Nitro => "nitro",
            Self::Simulated => "simulated",
        }
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for EvidenceKind {
    type Err = MalformedEvidence;

    fn from_str(word: &str) -> Result<Self, MalformedEvidence> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(MalformedEvidence)
    }
}

/// Bytes that are no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("these bytes are no evidence")]
pub struct MalformedEvidence;

/// Evidence with what it is verified by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// From which environment it is.
    pub kind: EvidenceKind,
    /// The quote, report or document as the environment made it.
    pub quote: Vec<u8>,
    /// What the vendor says of the platform; for DCAP the JSON of its quote collateral. Empty where the quote holds it.
    pub collateral: Vec<u8>,
}

/// Who a replica says it is. The authority believes none of it: all is in what the evidence is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinClaims {
    /// The authority's nonce, as it was given.
    pub authority_nonce: [u8; 32],
    /// The replica's own nonce.
    pub replica_nonce: [u8; 32],
    /// The service.
    pub service: String,
    /// The label of its version.
    pub version: String,
    /// Which of the service's replicas it is.
    pub instance: String,
    /// The launch ticket; empty where a certificate is renewed.
    pub ticket: Vec<u8>,
    /// The workload digest W.
    pub workload: [u8; 32],
    /// SHA-256 of the canonical `config`.
    pub config_digest: [u8; 32],
    /// The key that the certificate is for, as DER SubjectPublicKeyInfo.
    pub identity_spki: Vec<u8>,
}

impl Evidence {
    /// The evidence as the authority shows it: TAG ‖ lp(kind) ‖ lp(quote) ‖ lp(collateral).
    pub fn encode(&self) -> Vec<u8> {
        self.begun().finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The bytes hold something else, or more.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedEvidence> {
        let mut reader = Reader::new(bytes);
        let evidence = Self::read(&mut reader).ok_or(MalformedEvidence)?;
        if reader.is_empty() { Ok(evidence) } else { Err(MalformedEvidence) }
    }

    /// The evidence of a join: the same, then lp of each claim in the order of [`JoinClaims`].
    pub fn encode_join(&self, claims: &JoinClaims) -> Vec<u8> {
        self.begun()
            .lp(claims.authority_nonce)
            .lp(claims.replica_nonce)
            .lp(&claims.service)
            .lp(&claims.version)
            .lp(&claims.instance)
            .lp(&claims.ticket)
            .lp(claims.workload)
            .lp(claims.config_digest)
            .lp(&claims.identity_spki)
            .finish()
    }

    /// Reads the evidence of a join back.
    ///
    /// # Errors
    /// The bytes hold something else, or more.
    pub fn decode_join(bytes: &[u8]) -> Result<(Self, JoinClaims), MalformedEvidence> {
        let mut reader = Reader::new(bytes);
        let evidence = Self::read(&mut reader).ok_or(MalformedEvidence)?;
        let claims = JoinClaims::read(&mut reader).ok_or(MalformedEvidence)?;
        if reader.is_empty() { Ok((evidence, claims)) } else { Err(MalformedEvidence) }
    }

    fn begun(&self) -> Message {
        Message::tagged(TAG).lp(self.kind.as_str()).lp(&self.quote).lp(&self.collateral)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.raw(TAG.len())? != TAG {
            return None;
        }
        let kind = text(reader)?.parse().ok()?;
        Some(Self { kind, quote: reader.lp()?.to_vec(), collateral: reader.lp()?.to_vec() })
    }
}

impl JoinClaims {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            authority_nonce: reader.lp()?.try_into().ok()?,
            replica_nonce: reader.lp()?.try_into().ok()?,
            service: text(reader)?,
            version: text(reader)?,
            instance: text(reader)?,
            ticket: reader.lp()?.to_vec(),
            workload: reader.lp()?.try_into().ok()?,
            config_digest: reader.lp()?.try_into().ok()?,
            identity_spki: reader.lp()?.to_vec(),
        })
    }
}

fn text(reader: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(reader.lp()?.to_vec()).ok()
}

/// Why there is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no evidence could be had: {0}")]
pub struct EvidenceError(pub String);

/// Where evidence is got from: the one seam that knows the machine.
pub trait EvidenceSource {
    /// Which kind it gives.
    fn kind(&self) -> EvidenceKind;

    /// Evidence of the calling process over these 64 bytes.
    ///
    /// # Errors
    /// The environment gives none, with what it said.
    fn evidence(&self, report_data: [u8; 64])
    -> impl Future<Output = Result<Evidence, EvidenceError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        Evidence { kind: EvidenceKind::Simulated, quote: vec![1; 40], collateral: vec![2; 20] }
    }

    fn claims() -> JoinClaims {
        JoinClaims {
            authority_nonce: [3; 32],
            replica_nonce: [4; 32],
            service: "vrf".into(),
            version: "1.0.0".into(),
            instance: "0".into(),
            ticket: vec![5; 40],
            workload: [6; 32],
            config_digest: [7; 32],
            identity_spki: vec![8; 91],
        }
    }

    #[test]
    fn evidence_reads_back_as_it_was_written_and_neither_form_passes_for_the_other() {
        let (plain, joined) = (evidence().encode(), evidence().encode_join(&claims()));
        assert_eq!(Evidence::decode(&plain), Ok(evidence()));
        assert_eq!(Evidence::decode_join(&joined), Ok((evidence(), claims())));
        assert_eq!(Evidence::decode(&joined), Err(MalformedEvidence));
        assert_eq!(Evidence::decode_join(&plain), Err(MalformedEvidence));
    }

    #[test]
    fn cut_or_padded_evidence_is_refused_at_every_length() {
        let bytes = evidence().encode_join(&claims());
        for length in 0..bytes.len() {
            assert!(Evidence::decode_join(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Evidence::decode_join(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}
