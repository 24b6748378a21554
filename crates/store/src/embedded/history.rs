//! What each revision changed, for as long as it is kept. It is written and trimmed in the transactions that it tells of, so
//! there is one entry for every revision from the oldest kept to that of the store.

use std::collections::VecDeque;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition};
use types::wire::{Message, Reader};

use super::database::failed;
use super::rows::{self, META};
use crate::{Change, Changes, KEPT_REVISIONS, StoreError};

pub(super) const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
const HISTORY_BYTES: &str = "history-bytes";

/// What the history may hold, in bytes: of large values fewer than [`KEPT_REVISIONS`] are kept.
const KEPT_BYTES: u64 = 128 << 20;
/// What a watch reads at once: revisions looked at, and bytes of those that concern it; one of them whatever its size.
const PULLED_REVISIONS: u64 = 1_000;
const PULLED_BYTES: usize = 1 << 20;

const FORMAT: u8 = 1;
const DELETED: u8 = 0;
const PUT: u8 = 1;

/// How much of the past is kept; the last revision whatever its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) revisions: u64,
    pub(super) bytes: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { revisions: KEPT_REVISIONS, bytes: KEPT_BYTES }
    }
}

/// The entry of one revision while it is made.
pub(super) struct Entry {
    changes: u32,
    message: Message,
}

impl Entry {
    pub(super) fn new() -> Self {
        Self { changes: 0, message: Message::untagged(&[FORMAT]) }
    }

    /// `row` as it is stored.
    pub(super) fn put(self, key: &[u8], row: &[u8]) -> Self {
        Self { changes: self.changes + 1, message: self.message.raw([PUT]).lp(key).lp(row) }
    }

    pub(super) fn deleted(self, key: &[u8]) -> Self {
        Self { changes: self.changes + 1, message: self.message.raw([DELETED]).lp(key) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.message.finish()
    }
}

/// Adds the entry of a revision.
pub(super) fn add(
    history: &mut Table<'_, u64, &[u8]>,
    meta: &mut Table<'_, &str, u64>,
    revision: u64,
    entry: &[u8],
) -> Result<(), StoreError> {
    history.insert(revision, entry).map_err(failed)?;
    let bytes = bytes(meta)? + entry.len() as u64;
    meta.insert(HISTORY_BYTES, bytes).map_err(failed)?;
    Ok(())
}

pub(super) fn bytes(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, StoreError> {
    Ok(meta.get(HISTORY_BYTES).map_err(failed)?.map_or(0, |row| row.value()))
}

/// Removes what is beyond the limits.
pub(super) fn trim(
    history: &mut Table<'_, u64, &[u8]>,
    meta: &mut Table<'_, &str, u64>,
    kept: Kept,
) -> Result<(), StoreError> {
    let (mut bytes, mut length) = (bytes(meta)?, history.len().map_err(failed)?);
    let before = length;
    while length > kept.revisions || (bytes > kept.bytes && length > 1) {
        let Some((_, entry)) = history.pop_first().map_err(failed)? else { break };
        bytes = bytes.saturating_sub(entry.value().len() as u64);
        length -= 1;
    }
    if length < before {
        meta.insert(HISTORY_BYTES, bytes).map_err(failed)?;
    }
    Ok(())
}

/// Forgets a history that does not lead to the revision of the store without a gap: a program that keeps none has written since.
pub(super) fn mend(
    history: &mut Table<'_, u64, &[u8]>,
    meta: &mut Table<'_, &str, u64>,
) -> Result<(), StoreError> {
    let first = history.first().map_err(failed)?.map(|(revision, _)| revision.value());
    let last = history.last().map_err(failed)?.map(|(revision, _)| revision.value());
    let (revision, length) = (rows::revision(meta)?, history.len().map_err(failed)?);
    let is_whole = match (first, last) {
        (Some(first), Some(last)) => last == revision && last - first + 1 == length,
        _ => true,
    };
    if !is_whole {
        history.retain(|_, _| false).map_err(failed)?;
        meta.insert(HISTORY_BYTES, 0).map_err(failed)?;
    }
    Ok(())
}

/// What a watch has read.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) changes: VecDeque<Changes>,
    /// The first revision that it has not read.
    pub(super) next: u64,
}

/// Reads what happened under a prefix from a revision on, as much as is read at once.
///
/// # Errors
/// [`StoreError::Compacted`] when `next` is not kept any more.
pub(super) fn pull(database: &Database, prefix: &[u8], next: u64) -> Result<Pulled, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let history = read.open_table(HISTORY).map_err(failed)?;
    let revision = rows::revision(&read.open_table(META).map_err(failed)?)?;
    let oldest = history.first().map_err(failed)?.map_or(revision + 1, |(oldest, _)| oldest.value());
    if next < oldest {
        return Err(StoreError::Compacted { oldest });
    }
    let mut pulled = Pulled { changes: VecDeque::new(), next };
    let mut bytes = 0;
    for entry in history.range(next..next.saturating_add(PULLED_REVISIONS)).map_err(failed)? {
        let (revision, entry) = entry.map_err(failed)?;
        if bytes > PULLED_BYTES {
            break;
        }
        if let Some(changes) = under(prefix, revision.value(), entry.value())? {
            bytes += entry.value().len();
            pulled.changes.push_back(changes);
        }
        pulled.next = revision.value() + 1;
    }
    Ok(pulled)
}

/// What an entry says of a prefix.
pub(super) fn under(prefix: &[u8], revision: u64, entry: &[u8]) -> Result<Option<Changes>, StoreError> {
    let damaged = || StoreError::Damaged(format!("revision {revision} of the history"));
    let mut reader = Reader::new(entry);
    if reader.array() != Some([FORMAT]) {
        return Err(damaged());
    }
    let mut changes = Vec::new();
    while !reader.is_empty() {
        let [kind] = reader.array().ok_or_else(damaged)?;
        let key = reader.lp().ok_or_else(damaged)?;
        let row = match kind {
            PUT => Some(reader.lp().ok_or_else(damaged)?),
            DELETED => None,
            _ => return Err(damaged()),
        };
        if key.starts_with(prefix) {
            changes.push(match row {
                Some(row) => Change::Put(rows::decode(key, row)?.of(key)),
                None => Change::Deleted(key.to_vec()),
            });
        }
    }
    Ok((!changes.is_empty()).then_some(Changes { revision, changes }))
}
