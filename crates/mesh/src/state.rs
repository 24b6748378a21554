//! The shared state of services: each has a namespace of the store, `state/{service}/`, and reaches no other key of it.
//!
//! It takes no lock around a transaction: those of many members run at the same time, and whether each of them holds is decided
//! by the store.

mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_protocol::{
    Bytes, MAX_STATE_BYTES, MAX_STATE_KEY_BYTES, MAX_STATE_KEYS, MAX_STATE_ROWS, MAX_STATE_VALUE_BYTES,
    StatePresent, StateRangeAnswer, StateRangeRequest, StateRow, StateUsage, StateWrite,
};
use store::{KeyValue, Outcome, Store, StoreError, Transaction};
use thiserror::Error;
use tokio::sync::Semaphore;
use types::ServiceName;

use self::usage::{Limits, Size, Usages};

/// What every key of this begins with.
const ROOT: &str = "state/";
/// Requests of one service that are answered at the same time; the others wait, each on a connection of its member.
const MAX_IN_FLIGHT: usize = 64;
/// Rows that are read of the store at once: no more of large ones than a few answers hold.
const KEYS_AT_ONCE: usize = 16;
/// Values that a conflict is answered with, in bytes; the others are asked for.
const MAX_CONFLICT_BYTES: usize = MAX_STATE_BYTES;
/// How much a service may have: what a service keeps for long is the operator's disk.
const LIMITS: Limits = Limits { rows: 8_000_000, bytes: 4 << 30 };

/// Why a service was not given what it asked for.
#[derive(Debug, Error)]
pub(crate) enum StateFault {
    /// It is no request.
    #[error("{0}")]
    Malformed(String),
    /// It is over a limit of one request.
    #[error("{0}")]
    TooLarge(String),
    /// The namespace is.
    #[error("the service {0} has as many rows or bytes as one service may have ({1} rows, {2} bytes)")]
    Full(ServiceName, u64, u64),
    /// A row is not as a write expects. Nothing was written.
    #[error("a row is not as the write expects")]
    Conflict(Vec<StatePresent>),
    /// The store cannot say, or did not say whether it wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The namespaces of all services in a store.
pub(crate) struct Namespaces {
    store: Store,
    usages: Mutex<Usages>,
    in_flight: Mutex<BTreeMap<ServiceName, Arc<Semaphore>>>,
}

impl Namespaces {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, usages: Mutex::new(Usages::new(LIMITS)), in_flight: Mutex::default() }
    }

    /// That of a service.
    pub(crate) fn of(self: &Arc<Self>, service: ServiceName) -> Namespace {
        Namespace { prefix: format!("{ROOT}{service}/").into_bytes(), service, all: Arc::clone(self) }
    }

    /// How many requests of a service more may be answered now.
    pub(crate) fn room(&self, service: &ServiceName) -> Arc<Semaphore> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let room =
            in_flight.entry(service.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_IN_FLIGHT)));
        Arc::clone(room)
    }

    /// Counts what is there, now and from time to time. It may be dropped at any time.
    pub(crate) async fn keep_count(&self) -> Infallible {
        usage::keep_count(&self.store, &self.usages).await
    }

    fn usages<T>(&self, look: impl FnOnce(&mut Usages) -> T) -> T {
        look(&mut self.usages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one service may reach.
#[derive(Clone)]
pub(crate) struct Namespace {
    service: ServiceName,
    prefix: Vec<u8>,
    all: Arc<Namespaces>,
}

impl Namespace {
    /// The rows of the first keys, as many as fit into an answer, at least one.
    pub(crate) async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<StateRow>>, StateFault> {
        within(keys.len(), "keys")?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for some in keys.chunks(KEYS_AT_ONCE) {
            for row in self.found(some).await? {
                let row = row.map(|row| self.row(row));
                bytes += row.as_ref().map_or(0, |row| row.key.0.len() + row.value.0.len());
                if bytes > MAX_STATE_BYTES && !rows.is_empty() {
                    return Ok(rows);
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }

    async fn found<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<Vec<Option<KeyValue>>, StateFault> {
        let keys = keys.into_iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
        Ok(self.all.store.get_all(keys).await?)
    }

    /// A page of rows, as many as fit into an answer, at least one where there is one.
    pub(crate) async fn range(&self, asked: &StateRangeRequest) -> Result<StateRangeAnswer, StateFault> {
        if asked.limit == 0 || asked.limit > MAX_STATE_ROWS {
            return Err(StateFault::Malformed(format!("a page has 1 to {MAX_STATE_ROWS} rows")));
        }
        let (prefix, after) = (self.part(&asked.prefix)?, self.part(&asked.after)?);
        // One more says whether there are more.
        let mut found = self.all.store.page(prefix, after, asked.limit + 1).await?.rows;
        let (mut bytes, mut fit) = (0, 0);
        for row in found.iter().take(asked.limit) {
            bytes += row.key.len() + row.value.len();
            if bytes > MAX_STATE_BYTES && fit > 0 {
                break;
            }
            fit += 1;
        }
        let more = found.len() > fit;
        found.truncate(fit);
        Ok(StateRangeAnswer { rows: found.into_iter().map(|row| self.row(row)).collect(), more })
    }

    /// Carries all of the writes out, or none.
    pub(crate) async fn write(&self, writes: &[StateWrite]) -> Result<u64, StateFault> {
        self.check(writes)?;
        let Some(grows) = self.grows(writes).await? else { return Err(self.conflict(writes).await) };
        if !self.all.usages(|usages| usages.have_room(&self.service, grows)) {
            self.all.usages(|usages| usages.say_full(&self.service));
            return Err(StateFault::Full(self.service.clone(), LIMITS.rows, LIMITS.bytes));
        }
        let mut transaction = Transaction::new();
        for write in writes {
            let key = self.key(write.key())?;
            transaction = match write {
                StateWrite::Create { value, .. } => {
                    transaction.if_absent(key.clone()).put(key, value.0.clone())
                }
                StateWrite::Replace { value, revision, .. } => {
                    transaction.if_revision(key.clone(), *revision).put(key, value.0.clone())
                }
                StateWrite::Delete { revision, .. } => {
                    transaction.if_revision(key.clone(), *revision).delete(key)
                }
            };
        }
        match self.all.store.commit(transaction).await? {
            Outcome::Committed { revision } => {
                self.all.usages(|usages| usages.grow(&self.service, grows));
                Ok(revision)
            }
            Outcome::Conflict { .. } => Err(self.conflict(writes).await),
        }
    }

    /// How much is there, about.
    pub(crate) fn usage(&self) -> StateUsage {
        self.all.usages(|usages| usages.of(&self.service))
    }

    /// Where a key of the service is in the store.
    fn key(&self, key: &Bytes) -> Result<Vec<u8>, StateFault> {
        if key.0.is_empty() {
            return Err(StateFault::Malformed("a key has at least one byte".into()));
        }
        self.part(key)
    }

    fn part(&self, key: &Bytes) -> Result<Vec<u8>, StateFault> {
        if key.0.len() > MAX_STATE_KEY_BYTES {
            return Err(StateFault::TooLarge(format!("a key has at most {MAX_STATE_KEY_BYTES} bytes")));
        }
        Ok([self.prefix.as_slice(), &key.0].concat())
    }

    /// A row as its service knows it.
    fn row(&self, row: KeyValue) -> StateRow {
        let key = row.key.strip_prefix(self.prefix.as_slice()).unwrap_or_default().to_vec();
        StateRow { key: Bytes(key), value: Bytes(row.value), revision: row.mod_revision }
    }

    fn check(&self, writes: &[StateWrite]) -> Result<(), StateFault> {
        within(writes.len(), "writes")?;
        let (mut keys, mut bytes) = (BTreeSet::new(), 0);
        for write in writes {
            let value = write.value().map_or(0, |value| value.0.len());
            if value > MAX_STATE_VALUE_BYTES {
                return Err(StateFault::TooLarge(format!(
                    "a value has at most {MAX_STATE_VALUE_BYTES} bytes"
                )));
            }
            bytes += self.key(write.key())?.len() - self.prefix.len() + value;
            if !keys.insert(&write.key().0) {
                return Err(StateFault::Malformed("two writes of one row".into()));
            }
        }
        if bytes > MAX_STATE_BYTES {
            let detail = format!("keys and values of one transaction have at most {MAX_STATE_BYTES} bytes");
            return Err(StateFault::TooLarge(detail));
        }
        Ok(())
    }

    /// What the namespace will have more, or less; `None` where a row is not as a write expects already.
    async fn grows(&self, writes: &[StateWrite]) -> Result<Option<Size>, StateFault> {
        let size = |write: &StateWrite, value: usize| Size::of_row(write.key().0.len(), value);
        let mut grows = Size::default();
        let mut read = Vec::new();
        for write in writes {
            grows += write.value().map_or_else(Size::default, |value| size(write, value.0.len()));
            if let StateWrite::Replace { revision, .. } | StateWrite::Delete { revision, .. } = write {
                read.push((write, *revision));
            }
        }
        for some in read.chunks(KEYS_AT_ONCE) {
            let found = self.found(some.iter().map(|(write, _)| write.key())).await?;
            for ((write, revision), row) in some.iter().zip(found) {
                match row {
                    Some(row) if row.mod_revision == *revision => grows -= size(write, row.value.len()),
                    _ => return Ok(None),
                }
            }
        }
        Ok(Some(grows))
    }

    /// What whoever wrote is told of the rows that are there.
    async fn conflict(&self, writes: &[StateWrite]) -> StateFault {
        match self.present(writes).await {
            Ok(present) => StateFault::Conflict(present),
            Err(fault) => fault,
        }
    }

    async fn present(&self, writes: &[StateWrite]) -> Result<Vec<StatePresent>, StateFault> {
        let (mut present, mut bytes) = (Vec::new(), 0);
        for some in writes.chunks(KEYS_AT_ONCE) {
            for row in self.found(some.iter().map(StateWrite::key)).await?.into_iter().flatten() {
                let StateRow { key, value, revision } = self.row(row);
                bytes += value.0.len();
                let value = (bytes <= MAX_CONFLICT_BYTES).then_some(value);
                present.push(StatePresent { key, revision, value });
            }
        }
        Ok(present)
    }
}

fn within(count: usize, what: &str) -> Result<(), StateFault> {
    match count {
        0 => Err(StateFault::Malformed(format!("a request has at least one of its {what}"))),
        1..=MAX_STATE_KEYS => Ok(()),
        _ => Err(StateFault::TooLarge(format!("a request has at most {MAX_STATE_KEYS} {what}"))),
    }
}

#[cfg(test)]
mod tests;
