//! One write transaction of the file, in which the writer carries out transactions of the store, each with a revision of its
//! own. What a transaction is refused for is found before it changes anything, so that those beside it are not touched.

use std::time::Duration;

use redb::{ReadableTable, Table, WriteTransaction};

use super::database::failed;
use super::history::{self, Entry, HISTORY, Kept};
use super::leases::{self, LEASED, LEASES};
use super::rows::{self, META, ROWS, Row};
use crate::{LeaseId, Operation, Outcome, StoreError, Transaction};

/// All tables.
pub(super) struct Tables<'write> {
    rows: Table<'write, &'static [u8], &'static [u8]>,
    meta: Table<'write, &'static str, u64>,
    history: Table<'write, u64, &'static [u8]>,
    leases: Table<'write, i64, &'static [u8]>,
    leased: Table<'write, (i64, &'static [u8]), ()>,
    revision: u64,
    is_changed: bool,
}

/// What a write transaction leaves, once it is on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) revision: u64,
    /// Whether there is anything to bring to the disk.
    pub(super) is_changed: bool,
}

/// What stood at a key that is written: nothing, or something, which may be under a lease.
type Before = Option<(u64, Option<LeaseId>)>;

impl<'write> Tables<'write> {
    /// Opens them, and makes those that are missing.
    pub(super) fn open(write: &'write WriteTransaction) -> Result<Self, StoreError> {
        let meta = write.open_table(META).map_err(failed)?;
        Ok(Self {
            revision: rows::revision(&meta)?,
            rows: write.open_table(ROWS).map_err(failed)?,
            meta,
            history: write.open_table(HISTORY).map_err(failed)?,
            leases: write.open_table(LEASES).map_err(failed)?,
            leased: write.open_table(LEASED).map_err(failed)?,
            is_changed: false,
        })
    }

    /// What a start finds.
    pub(super) fn begin(&mut self) -> Result<(u64, Vec<(LeaseId, Duration)>), StoreError> {
        history::mend(&mut self.history, &mut self.meta)?;
        Ok((self.revision, leases::read(&self.leases)?))
    }

    /// # Errors
    /// [`StoreError::LeaseEnded`] and [`StoreError::Damaged`] concern this transaction alone; after others the whole write
    /// transaction is of no use.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        for compare in &transaction.compares {
            if !rows::holds(&self.rows, compare)? {
                return Ok(Outcome::Conflict { key: compare.key().to_vec() });
            }
        }
        let before = transaction.operations.iter().map(|operation| self.before(operation));
        let before = before.collect::<Result<Vec<_>, _>>()?;
        let changing = transaction
            .operations
            .iter()
            .zip(before)
            .filter(|(operation, before)| matches!(operation, Operation::Put(..)) || before.is_some());
        let next = self.revision + 1;
        let mut entry = Entry::new();
        for (operation, before) in changing {
            entry = self.apply(operation, before, next, entry)?;
        }
        self.changed(entry)
    }

    /// What stands at the key of an operation, whose lease, if it has one, has to be alive.
    fn before(&self, operation: &Operation) -> Result<Before, StoreError> {
        if let Operation::Put(_, _, Some(lease)) = operation
            && self.leases.get(lease.number()).map_err(failed)?.is_none()
        {
            return Err(StoreError::LeaseEnded(*lease));
        }
        self.standing(operation.key())
    }

    fn standing(&self, key: &[u8]) -> Result<Before, StoreError> {
        let row = self.rows.get(key).map_err(failed)?;
        row.map(|row| rows::decode(key, row.value()).map(|row| (row.create_revision, row.lease))).transpose()
    }

    fn apply(
        &mut self,
        operation: &Operation,
        before: Before,
        revision: u64,
        entry: Entry,
    ) -> Result<Entry, StoreError> {
        let (create_revision, lease_before) = before.unwrap_or((revision, None));
        let lease = match operation {
            Operation::Put(_, _, lease) => *lease,
            Operation::Delete(_) => None,
        };
        if lease != lease_before {
            self.move_key(operation.key(), lease_before, lease)?;
        }
        match operation {
            Operation::Put(key, value, _) => {
                let row = Row { create_revision, mod_revision: revision, lease, value };
                let row = rows::encode(&row);
                self.rows.insert(key.as_slice(), row.as_slice()).map_err(failed)?;
                Ok(entry.put(key, &row))
            }
            Operation::Delete(key) => {
                self.rows.remove(key.as_slice()).map_err(failed)?;
                Ok(entry.deleted(key))
            }
        }
    }

    fn move_key(&mut self, key: &[u8], from: Option<LeaseId>, to: Option<LeaseId>) -> Result<(), StoreError> {
        if let Some(from) = from {
            self.leased.remove((from.number(), key)).map_err(failed)?;
        }
        if let Some(to) = to {
            self.leased.insert((to.number(), key), ()).map_err(failed)?;
        }
        Ok(())
    }

    /// Begins a lease. Gives whether its number was free.
    pub(super) fn grant(&mut self, lease: LeaseId, ttl: Duration) -> Result<Outcome, StoreError> {
        if self.leases.get(lease.number()).map_err(failed)?.is_some() {
            return Err(StoreError::LeaseEnded(lease));
        }
        self.leases.insert(lease.number(), leases::encode(ttl).as_slice()).map_err(failed)?;
        self.is_changed = true;
        Ok(Outcome::Committed { revision: self.revision })
    }

    /// Ends a lease, if there is one, and removes what is under it.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(super) fn end(&mut self, lease: LeaseId) -> Result<Outcome, StoreError> {
        if self.leases.get(lease.number()).map_err(failed)?.is_none() {
            return Ok(Outcome::Committed { revision: self.revision });
        }
        let keys = leases::keys(&self.leased, lease)?;
        let standing = keys.iter().map(|key| self.standing(key)).collect::<Result<Vec<_>, _>>()?;
        self.leases.remove(lease.number()).map_err(failed)?;
        self.is_changed = true;
        let mut entry = Entry::new();
        for (key, standing) in keys.iter().zip(standing) {
            self.leased.remove((lease.number(), key.as_slice())).map_err(failed)?;
            if standing.is_some_and(|(_, of)| of == Some(lease)) {
                self.rows.remove(key.as_slice()).map_err(failed)?;
                entry = entry.deleted(key);
            }
        }
        self.changed(entry)
    }

    /// Takes the next revision for what was changed, if anything was.
    fn changed(&mut self, entry: Entry) -> Result<Outcome, StoreError> {
        if !entry.is_empty() {
            self.revision += 1;
            self.is_changed = true;
            history::add(&mut self.history, &mut self.meta, self.revision, &entry.finish())?;
        }
        Ok(Outcome::Committed { revision: self.revision })
    }

    /// Has the disk confirm something even if nothing was changed.
    pub(super) fn touch(&mut self) -> Outcome {
        self.is_changed = true;
        Outcome::Committed { revision: self.revision }
    }

    pub(super) fn finish(mut self, kept: Kept) -> Result<Left, StoreError> {
        if self.is_changed {
            rows::set_revision(&mut self.meta, self.revision)?;
            history::trim(&mut self.history, &mut self.meta, kept)?;
        }
        Ok(Left { revision: self.revision, is_changed: self.is_changed })
    }
}
