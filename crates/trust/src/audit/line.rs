//! The lines of the trail, byte for byte. Each is canonical JSON (RFC 8785) and a line feed:
//!
//! ```text
//! {"hash":H,"record":{"actor","data","kind","outcome","prev","reason","seq","subject","time","v":1}}
//! {"head":{"hash":H,"seq","time"},"signature":S}
//! ```
//!
//! H = SHA-256("serviceos/audit/v1\0" ‖ lp(canonical record)), prev is the H before it or T_0, and S is ECDSA P-256 with
//! SHA-256, r ‖ s, over "serviceos/audit-head/v1\0" ‖ u64 seq ‖ H ‖ u64 time; all three in unpadded base64url.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, UnparsedPublicKey};
use mesh_protocol::{Bytes, canonical, sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::wire::Message;

use super::{AuditError, AuditHead, Flaw, RECORDS_PER_HEAD};

/// The largest record, in bytes of canonical JSON.
pub const MAX_RECORD_BYTES: usize = 16 << 10;
/// The longest line, in bytes: a record and its hash. There is room for the two heads that are written with a record, since a
/// power cut may leave zeros, and so one unfinished line, where all of them would be.
pub(super) const MAX_LINE_BYTES: usize = MAX_RECORD_BYTES + (1 << 10);
/// The largest integer of canonical JSON, 2⁵³ − 1.
const MAX_TIME: u64 = (1 << 53) - 1;

/// What happened, as the authority records it. No secret belongs in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What kind of thing happened, such as `join`.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was refused or failed.
    pub reason: Option<String>,
    /// Whatever else belongs to it.
    pub data: Value,
}

/// How a recorded thing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed.
    Refused,
    /// It was allowed, and did not work.
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    seq: u64,
    time: u64,
    kind: String,
    actor: String,
    subject: String,
    outcome: Outcome,
    reason: Option<String>,
    data: Value,
    prev: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine {
    record: Record,
    hash: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    seq: u64,
    hash: Bytes,
    time: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    head: Head,
    signature: Bytes,
}

/// How far the chain goes, and how far it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) last: AuditHead,
    pub(super) signed: AuditHead,
}

/// What a line was.
pub(super) enum Kind {
    Record,
    Head,
}

impl Chain {
    /// The chain before its first record.
    pub(super) fn begin(genesis: [u8; 32]) -> Self {
        let head = AuditHead { seq: 0, hash: genesis };
        Self { last: head, signed: head }
    }

    pub(super) fn unsigned(&self) -> u64 {
        self.last.seq - self.signed.seq
    }

    /// Adds a record and gives its line.
    pub(super) fn add(&mut self, entry: Entry, now: u64) -> Result<Vec<u8>, AuditError> {
        let seq = self.last.seq + 1;
        let record = Record {
            v: 1,
            seq,
            time: now.min(MAX_TIME),
            kind: entry.kind,
            actor: entry.actor,
            subject: entry.subject,
            outcome: entry.outcome,
            reason: entry.reason,
            data: entry.data,
            prev: Bytes(self.last.hash.to_vec()),
        };
        let text = canonical_text(&record).map_err(AuditError::Unreadable)?;
        if text.len() > MAX_RECORD_BYTES {
            return Err(AuditError::TooLarge);
        }
        let hash = record_hash(&text);
        let line = record_line(&text, &hash);
        // What would not verify at the next start is not written now.
        if parse_record(&line).is_none() {
            return Err(AuditError::Unreadable("what JSON cannot hold, such as very deep nesting".into()));
        }
        self.last = AuditHead { seq, hash };
        Ok(with_line_feed(line))
    }

    /// Signs the last record and gives the line.
    pub(super) fn sign(&mut self, key: &EcdsaKeyPair, now: u64) -> Result<Vec<u8>, AuditError> {
        let time = now.min(MAX_TIME);
        let signature = key
            .sign(&SystemRandom::new(), &head_message(&self.last, time))
            .map_err(|_| AuditError::Crypto("signing the head of the audit trail"))?;
        let head = Head { seq: self.last.seq, hash: Bytes(self.last.hash.to_vec()), time };
        let line = HeadLine { head, signature: Bytes(signature.as_ref().to_vec()) };
        let text = canonical_text(&line).map_err(AuditError::Unreadable)?;
        self.signed = self.last;
        Ok(with_line_feed(text))
    }

    /// Follows a line that was read, without its line feed.
    pub(super) fn follow(&mut self, line: &[u8], public_key: &[u8]) -> Result<Kind, Flaw> {
        if let Some((record, stated)) = parse_record(line) {
            self.follow_record(&record, &stated)?;
            return Ok(Kind::Record);
        }
        let (head, signature) = parse_head(line).ok_or(Flaw::Form)?;
        self.follow_head(&head, &signature, public_key)?;
        Ok(Kind::Head)
    }

    fn follow_record(&mut self, record: &Record, stated: &Bytes) -> Result<(), Flaw> {
        let text = canonical_text(record).map_err(|_| Flaw::Form)?;
        let hash = record_hash(&text);
        let expected = self.last.seq + 1;
        if stated.0 != hash {
            return Err(Flaw::Hash);
        }
        if record.v != 1 {
            return Err(Flaw::Version(record.v));
        }
        if record.seq != expected {
            return Err(Flaw::Sequence { expected, found: record.seq });
        }
        if record.prev.0 != self.last.hash {
            return Err(Flaw::Link);
        }
        if self.unsigned() >= RECORDS_PER_HEAD {
            return Err(Flaw::HeadMissing);
        }
        self.last = AuditHead { seq: record.seq, hash };
        Ok(())
    }

    fn follow_head(&mut self, head: &Head, signature: &Bytes, public_key: &[u8]) -> Result<(), Flaw> {
        if head.seq != self.last.seq || head.hash.0 != self.last.hash || self.unsigned() == 0 {
            return Err(Flaw::HeadMismatch);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key)
            .verify(&head_message(&self.last, head.time), &signature.0)
            .map_err(|_| Flaw::Signature)?;
        self.signed = self.last;
        Ok(())
    }
}

/// A record and the hash that stands beside it, if this is the one text of the two.
fn parse_record(line: &[u8]) -> Option<(Record, Bytes)> {
    let RecordLine { record, hash } = serde_json::from_slice(line).ok()?;
    let text = canonical_text(&record).ok()?;
    (record_line(&text, &hash.0) == line).then_some((record, hash))
}

/// The same for a head and its signature.
fn parse_head(line: &[u8]) -> Option<(Head, Bytes)> {
    let parsed: HeadLine = serde_json::from_slice(line).ok()?;
    (canonical_text(&parsed).ok()? == line).then_some((parsed.head, parsed.signature))
}

fn canonical_text(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    canonical(&value).map_err(|error| error.to_string())
}

fn record_hash(record: &[u8]) -> [u8; 32] {
    sha256(&Message::tagged(b"serviceos/audit/v1\0").lp(record).finish())
}

fn record_line(record: &[u8], hash: &[u8]) -> Vec<u8> {
    let hash = serde_json::to_vec(&Bytes(hash.to_vec())).expect("bytes can be written to memory");
    [b"{\"hash\":", hash.as_slice(), b",\"record\":", record, b"}"].concat()
}

fn head_message(head: &AuditHead, time: u64) -> Vec<u8> {
    Message::tagged(b"serviceos/audit-head/v1\0")
        .raw(head.seq.to_be_bytes())
        .raw(head.hash)
        .raw(time.to_be_bytes())
        .finish()
}

fn with_line_feed(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}
