//! Verifies a trail from its first line to its last, whoever holds the file: the authority at its start, or anybody with T_0
//! and the public key.

use std::io::{self, BufRead, Read};

use thiserror::Error;

use super::line::{Chain, Kind, MAX_LINE_BYTES};

/// The first line that does not verify.
#[derive(Debug, Error)]
#[error("line {line}: {what}")]
pub struct AuditFault {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: Flaw,
}

/// What is wrong with a line.
#[derive(Debug, Error)]
pub enum Flaw {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It is longer than any line of a trail.
    #[error("it is longer than a record can be")]
    TooLong,
    /// It is neither a record nor a head, or not written as the authority writes them.
    #[error("it is neither a record nor a signed head as the authority writes them")]
    Form,
    /// Its record is of another version.
    #[error("its record has version {0}, and this program knows version 1")]
    Version(u8),
    /// The hash is not the record's.
    #[error("its hash is not the hash of its record")]
    Hash,
    /// Records are missing, or stand twice or in another order.
    #[error("it is record {found} where record {expected} belongs")]
    Sequence {
        /// The number that belongs there.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
    /// It follows another record than the one before it.
    #[error("it does not follow from the record before it")]
    Link,
    /// The records before it have no head.
    #[error("64 records stand before it without a signed head")]
    HeadMissing,
    /// The head is not one of the record before it, or that one is signed already.
    #[error("it signs another record than the one before it, or one that is signed already")]
    HeadMismatch,
    /// The head was not signed with this key.
    #[error("its signature was not made with the authority's key")]
    Signature,
}

/// What verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The heads.
    pub heads: u64,
    /// The length of the whole lines, in bytes.
    pub bytes: u64,
    /// What stands after the last line feed: a line that its writer had not finished, or is writing just now.
    pub torn: Vec<u8>,
    pub(super) chain: Chain,
}

impl Verified {
    /// The records.
    pub fn records(&self) -> u64 {
        self.chain.last.seq
    }

    /// The hash of the last record; T_0 where there is none.
    pub fn last_hash(&self) -> [u8; 32] {
        self.chain.last.hash
    }

    /// The number of the last record that a head covers; 0 where there is no head.
    pub fn last_signed(&self) -> u64 {
        self.chain.signed.seq
    }

    /// The records at the end that no head covers.
    pub fn unsigned(&self) -> u64 {
        self.chain.unsigned()
    }
}

/// Verifies a trail that begins after T_0 and was signed with this key, a DER SubjectPublicKeyInfo. It holds one line at a
/// time, of 16 KiB and a little at most.
///
/// # Errors
/// The first line that does not verify. An unfinished last line is no error: it is in [`Verified::torn`].
pub fn verify(
    mut reader: impl BufRead,
    genesis: &[u8; 32],
    public_key_spki: &[u8],
) -> Result<Verified, AuditFault> {
    let mut found = Verified { heads: 0, bytes: 0, torn: Vec::new(), chain: Chain::begin(*genesis) };
    let mut line = Vec::new();
    for number in 1.. {
        let fault = |what| AuditFault { line: number, what };
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|error| fault(Flaw::Read(error)))?;
        let Some(whole) = line.strip_suffix(b"\n") else {
            if line.len() > MAX_LINE_BYTES {
                return Err(fault(Flaw::TooLong));
            }
            break;
        };
        match found.chain.follow(whole, public_key_spki).map_err(fault)? {
            Kind::Record => {}
            Kind::Head => found.heads += 1,
        }
        found.bytes += line.len() as u64;
    }
    found.torn = line;
    Ok(found)
}
