//! The rows: what stands at each key, and the revision of the whole store.

use std::ops::Bound;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use types::wire::{Message, Reader};

use super::database::failed;
use crate::{Compare, KeyValue, LeaseId, Range, StoreError};

pub(crate) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// A row as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) value: &'a [u8],
}

impl Row<'_> {
    pub(crate) fn of(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: key.to_vec(),
            value: self.value.to_vec(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            lease: self.lease,
        }
    }
}

/// A row: format 1, the two revisions, the value; or format 2, the two revisions, the lease, the value.
pub(crate) fn encode(row: &Row<'_>) -> Vec<u8> {
    let format = if row.lease.is_some() { 2 } else { 1 };
    let head = Message::untagged(&[format])
        .with_room(24 + row.value.len())
        .raw(row.create_revision.to_be_bytes())
        .raw(row.mod_revision.to_be_bytes());
    let head = match row.lease {
        Some(lease) => head.raw(lease.number().to_be_bytes()),
        None => head,
    };
    head.raw(row.value).finish()
}

pub(crate) fn decode<'a>(key: &[u8], row: &'a [u8]) -> Result<Row<'a>, StoreError> {
    parts(row).ok_or_else(|| StoreError::Damaged(String::from_utf8_lossy(key).into_owned()))
}

fn parts(row: &[u8]) -> Option<Row<'_>> {
    let mut reader = Reader::new(row);
    let [format] = reader.array()?;
    let create_revision = u64::from_be_bytes(reader.array()?);
    let mod_revision = u64::from_be_bytes(reader.array()?);
    let (lease, head) = match format {
        1 => (None, 17),
        2 => (Some(LeaseId(i64::from_be_bytes(reader.array()?))), 25),
        _ => return None,
    };
    let is_possible =
        (1..=mod_revision).contains(&create_revision) && lease.is_none_or(|lease| lease.number() > 0);
    is_possible.then(|| Row { create_revision, mod_revision, lease, value: &row[head..] })
}

/// The rows of some keys, all of one moment.
pub(crate) fn get_all(database: &Database, keys: &[Vec<u8>]) -> Result<Vec<Option<KeyValue>>, StoreError> {
    let rows = database.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)?;
    let found = keys.iter().map(|key| {
        let row = rows.get(key.as_slice()).map_err(failed)?;
        row.map(|row| decode(key, row.value()).map(|row| row.of(key))).transpose()
    });
    found.collect()
}

/// The first rows under a prefix that come behind `after`, at most so many, and the revision with which they were read.
pub(crate) fn page(
    database: &Database,
    prefix: &[u8],
    after: &[u8],
    most: usize,
) -> Result<Range, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let stored = read.open_table(ROWS).map_err(failed)?;
    let revision = revision(&read.open_table(META).map_err(failed)?)?;
    let begin = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let mut rows = Vec::new();
    for row in stored.range::<&[u8]>((begin, Bound::Unbounded)).map_err(failed)?.take(most) {
        let (key, row) = row.map_err(failed)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        rows.push(decode(key.value(), row.value())?.of(key.value()));
    }
    Ok(Range { revision, rows })
}

/// The revision of the whole store.
pub(crate) fn revision(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, StoreError> {
    Ok(meta.get(REVISION).map_err(failed)?.map_or(0, |row| row.value()))
}

pub(crate) fn set_revision(meta: &mut Table<'_, &str, u64>, revision: u64) -> Result<(), StoreError> {
    meta.insert(REVISION, revision).map_err(failed)?;
    Ok(())
}

/// Whether a comparison holds.
pub(crate) fn holds(rows: &Table<'_, &[u8], &[u8]>, compare: &Compare) -> Result<bool, StoreError> {
    let wanted = match compare {
        Compare::Absent(_) => None,
        Compare::ModRevision(_, revision) => Some(*revision),
    };
    let row = rows.get(compare.key()).map_err(failed)?;
    let found = row.map(|row| decode(compare.key(), row.value()).map(|row| row.mod_revision)).transpose()?;
    Ok(found == wanted)
}
