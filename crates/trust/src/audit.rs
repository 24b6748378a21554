//! The audit trail: what was decided, appended to one file and chained by hashes, so that nobody takes a record out, changes
//! it or puts one in unnoticed.
//!
//! A chain alone can be rewritten whole, so its head is signed, after every 64 records and whenever the owner asks. What this
//! cannot notice is that the end is missing: records after the last head, or a head with all that follows it. For that the
//! last signed head is named in what the mesh states about itself ([`AuditTrail::signed_head`]).
//!
//! It has one owner, in one process. Everything blocks for the disk; nothing is buffered.

mod disk;
mod line;
mod reading;
mod verify;

pub use line::{Entry, MAX_RECORD_BYTES, Outcome};
pub use reading::{Recorded, last_records};
pub use verify::{AuditFault, Flaw, Verified, verify};

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
use mesh_protocol::{Bytes, sha256};
use serde_json::json;
use thiserror::Error;

use self::disk::Disk;
use self::line::Chain;

/// The file in the data directory.
pub const FILE_NAME: &str = "audit.jsonl";
/// So many records are followed by a signed head at the latest.
pub const RECORDS_PER_HEAD: u64 = 64;

/// Why nothing was recorded.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The file cannot be opened or made.
    #[error(
        "the audit trail {path} cannot be opened ({reason}); see to it that this user may read and write it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        reason: io::Error,
    },
    /// What the file holds is not what was recorded.
    #[error(
        "the audit trail {path} was changed or damaged: {fault}; keep the file as it is for whoever looks into it, and put a \
         copy that verifies in its place"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        fault: AuditFault,
    },
    /// The record would have more than [`MAX_RECORD_BYTES`].
    #[error("a record of the audit trail has at most 16 KiB; put less into its data")]
    TooLarge,
    /// The record would not read back as what it is.
    #[error("a record of the audit trail must read back as it was given; leave out of its data {0}")]
    Unreadable(String),
    /// The disk took nothing. The trail is as it was before.
    #[error("the audit trail {path} cannot be written ({reason}); make room on its disk")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        reason: io::Error,
    },
    /// The disk failed in such a way that the last line may be there or not. The trail takes nothing until it is opened again.
    #[error(
        "the disk failed under the audit trail {0}, so whether its last record is there is not known; look after the disk, \
         then start serviceos again"
    )]
    Unconfirmed(PathBuf),
    /// The cryptographic library failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}

/// The last record that a head covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Its number, from 1; 0 before the first.
    pub seq: u64,
    /// Its hash; T_0 before the first.
    pub hash: [u8; 32],
}

/// The open trail.
pub struct AuditTrail {
    disk: Box<dyn Disk>,
    path: PathBuf,
    /// The length of the whole lines, in bytes.
    length: u64,
    chain: Chain,
    key: Arc<EcdsaKeyPair>,
    /// The disk did not confirm that a failed write is undone.
    unconfirmed: bool,
}

impl AuditTrail {
    /// Opens the trail, or begins one after T_0, once every line verifies. `key` is of `ECDSA_P256_SHA256_FIXED_SIGNING`.
    ///
    /// A last line that a crash or a power cut left unfinished is replaced by a record that says so, of the kind
    /// `audit-repaired` and the time `now` (Unix seconds).
    ///
    /// # Errors
    /// [`AuditError::Damaged`] where a line does not verify, and nothing is written then.
    pub fn open(
        path: &Path,
        genesis: [u8; 32],
        key: Arc<EcdsaKeyPair>,
        now: u64,
    ) -> Result<Self, AuditError> {
        let failed = |reason| AuditError::Open { path: path.to_owned(), reason };
        let spki = key.public_key().as_der().map_err(|_| AuditError::Crypto("writing the audit key"))?;
        let file = open_file(path).map_err(failed)?;
        let found = verify(BufReader::new(&file), &genesis, spki.as_ref())
            .map_err(|fault| AuditError::Damaged { path: path.to_owned(), fault })?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let mut trail = Self {
            disk: Box::new(file),
            path: path.to_owned(),
            length: found.bytes,
            chain: found.chain,
            key,
            unconfirmed: false,
        };
        if !found.torn.is_empty() {
            trail.repair(&found.torn, now)?;
        }
        Ok(trail)
    }

    /// Records what happened at `now`, in Unix seconds, and gives the record's number. It is on the disk when this returns.
    ///
    /// # Errors
    /// Nothing is recorded then; only after [`AuditError::Unconfirmed`] the next opening says whether it is.
    pub fn append(&mut self, entry: Entry, now: u64) -> Result<u64, AuditError> {
        let (lines, chain) = self.compose(entry, now)?;
        self.write(&lines)?;
        self.chain = chain;
        Ok(chain.last.seq)
    }

    /// Signs the head, if there are records that no head covers.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn sign_head(&mut self, now: u64) -> Result<(), AuditError> {
        if self.unsigned() == 0 {
            return Ok(());
        }
        let mut chain = self.chain;
        let line = chain.sign(&self.key, now)?;
        self.write(&line)?;
        self.chain = chain;
        Ok(())
    }

    /// The records that no signed head covers.
    pub fn unsigned(&self) -> u64 {
        self.chain.unsigned()
    }

    /// The last record.
    pub fn last(&self) -> AuditHead {
        self.chain.last
    }

    /// The last signed head.
    pub fn signed_head(&self) -> AuditHead {
        self.chain.signed
    }

    /// The lines of an entry, with the heads that are due before and after it, and the chain once they are written.
    fn compose(&self, entry: Entry, now: u64) -> Result<(Vec<u8>, Chain), AuditError> {
        let mut chain = self.chain;
        let mut lines = Vec::new();
        // A crash may have come between a record and its head.
        if chain.unsigned() >= RECORDS_PER_HEAD {
            lines = chain.sign(&self.key, now)?;
        }
        lines.extend(chain.add(entry, now)?);
        if chain.unsigned() >= RECORDS_PER_HEAD {
            lines.extend(chain.sign(&self.key, now)?);
        }
        Ok((lines, chain))
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        if self.unconfirmed {
            return Err(AuditError::Unconfirmed(self.path.clone()));
        }
        match self.disk.end_with(self.length, lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(reason) => Err(self.undo(reason)),
        }
    }

    fn undo(&mut self, reason: io::Error) -> AuditError {
        match self.disk.end_with(self.length, &[]) {
            Ok(()) => AuditError::Disk { path: self.path.clone(), reason },
            Err(_) => {
                self.unconfirmed = true;
                AuditError::Unconfirmed(self.path.clone())
            }
        }
    }

    /// Writes over the unfinished line what it was. Should this fail, an unfinished line is still there for the next opening:
    /// none goes unrecorded.
    fn repair(&mut self, torn: &[u8], now: u64) -> Result<(), AuditError> {
        let entry = Entry {
            kind: "audit-repaired".into(),
            actor: "authority".into(),
            subject: FILE_NAME.into(),
            outcome: Outcome::Done,
            reason: Some("the last line was unfinished, as a crash or a power cut leaves it".into()),
            data: json!({ "bytes": torn.len(), "sha256": Bytes(sha256(torn).to_vec()) }),
        };
        let (lines, chain) = self.compose(entry, now)?;
        self.disk
            .end_with(self.length, &lines)
            .map_err(|reason| AuditError::Disk { path: self.path.clone(), reason })?;
        self.length += lines.len() as u64;
        self.chain = chain;
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() == 0 {
        // Its name must survive a power cut too.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
