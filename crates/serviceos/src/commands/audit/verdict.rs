//! Whether an audit trail verifies, and what there is to say of it. `serviceos audit verify --json` is a stable contract.

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use mesh_protocol::to_hex;
use serde::Serialize;
use trust::audit::{Verified, verify};

use super::anchor::{Anchor, Reached};
use crate::up::counted;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// The file.
    pub(super) path: PathBuf,
    /// Whether every line verifies, and none is missing that is known of.
    pub(super) verified: bool,
    /// Whether a running serviceos said how far the trail goes; else nobody can tell that its end is missing.
    pub(super) running: bool,
    /// What is wrong, and where.
    pub(super) fault: Option<Fault>,
    /// What the whole lines hold; none where a line does not verify.
    pub(super) trail: Option<Trail>,
}

/// What does not verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// The line, from 1; none where the end is missing.
    pub(super) line: Option<u64>,
    pub(super) what: String,
}

/// What a trail holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trail {
    pub(super) records: u64,
    pub(super) heads: u64,
    /// The hash of the last record, in hex; T_0 where there is none.
    pub(super) last_hash: String,
    /// The number of the last record that a signed head covers; 0 where there is none.
    pub(super) last_signed: u64,
    /// The records at the end that no signed head covers yet.
    pub(super) unsigned: u64,
    /// The bytes of a last line that is not whole: it is being written, or was when the machine went down.
    pub(super) unfinished_bytes: usize,
}

impl Verdict {
    pub(super) fn of(path: &Path, anchor: &Anchor, trail: impl BufRead) -> Self {
        let verified = verify(trail, &anchor.genesis, &anchor.root_spki);
        let (fault, trail) = match verified {
            Ok(found) => {
                (anchor.running.and_then(|reached| missing(&found, reached)), Some(Trail::of(&found)))
            }
            Err(fault) => (Some(Fault { line: Some(fault.line), what: fault.what.to_string() }), None),
        };
        let running = anchor.running.is_some();
        Self { path: path.to_owned(), verified: fault.is_none(), running, fault, trail }
    }
}

/// What the running serviceos has recorded, and the file does not hold.
fn missing(found: &Verified, reached: Reached) -> Option<Fault> {
    let what = if found.records() < reached.last {
        format!(
            "its end is missing: it goes to record {}, and the running serviceos has made record {}",
            found.records(),
            reached.last
        )
    } else if found.last_signed() < reached.signed {
        format!("the head that the running serviceos has signed over record {} is missing", reached.signed)
    } else if found.records() == reached.last && found.last_hash() != reached.hash {
        format!("record {} is another than the one that the running serviceos has made", reached.last)
    } else {
        return None;
    };
    Some(Fault { line: None, what })
}

impl Trail {
    fn of(found: &Verified) -> Self {
        Self {
            records: found.records(),
            heads: found.heads,
            last_hash: to_hex(&found.last_hash()),
            last_signed: found.last_signed(),
            unsigned: found.unsigned(),
            unfinished_bytes: found.torn.len(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            None => write!(formatter, "{path} verifies")?,
            Some(Fault { line: Some(line), what }) => {
                write!(formatter, "{path} does not verify: line {line}: {what}")?;
            }
            Some(Fault { line: None, what }) => write!(formatter, "{path} does not verify: {what}")?,
        }
        let Some(trail) = &self.trail else { return Ok(()) };
        write!(formatter, "\nrecords      {}", trail.records)?;
        write!(formatter, "\nheads        {}", trail.heads)?;
        write!(formatter, "\nlast signed  {}", trail.last_signed)?;
        write!(
            formatter,
            "\nnot signed   {}",
            counted(usize::try_from(trail.unsigned).unwrap_or(usize::MAX), "record")
        )?;
        write!(formatter, "\nlast hash    {}", trail.last_hash)?;
        if trail.unfinished_bytes > 0 {
            write!(formatter, "\nunfinished   {} bytes of a last line", trail.unfinished_bytes)?;
        }
        if !self.running {
            write!(
                formatter,
                "\nno serviceos runs that could say how far it goes: a missing end goes unnoticed"
            )?;
        }
        Ok(())
    }
}
