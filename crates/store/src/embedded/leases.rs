//! Leases: which there are, and what is under each, in tables; until when each lives, in memory alone, so that renewing one
//! costs no write.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{ReadableTable, Table, TableDefinition};
use tokio::sync::Notify;
use tokio::time::Instant;
use types::wire::{Message, Reader};

use super::database::failed;
use crate::{LeaseId, StoreError};

/// The time to live of each lease.
pub(super) const LEASES: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("leases");
/// The keys of each lease.
pub(super) const LEASED: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("leased");

const FORMAT: u8 = 1;

/// Until when each lease lives.
#[derive(Debug, Default)]
pub(super) struct Leases {
    lives: Mutex<Lives>,
    /// There is another one, which may be the first to end.
    pub(super) begun: Notify,
}

#[derive(Debug, Default)]
struct Lives {
    of: HashMap<LeaseId, Life>,
    order: BTreeSet<(Instant, LeaseId)>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    ttl: Duration,
    until: Instant,
}

impl Leases {
    /// Each of these has its whole time.
    pub(super) fn beginning_now(found: Vec<(LeaseId, Duration)>) -> Self {
        let leases = Self::default();
        found.into_iter().for_each(|(lease, ttl)| leases.begin(lease, ttl));
        leases
    }

    pub(super) fn begin(&self, lease: LeaseId, ttl: Duration) {
        self.lives().insert(lease, ttl);
        self.begun.notify_one();
    }

    /// # Errors
    /// [`StoreError::LeaseEnded`] from the moment on at which its time is over, also while it is not removed yet.
    pub(super) fn renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut lives = self.lives();
        match lives.of.get(&lease).copied() {
            Some(life) if life.until > Instant::now() => {
                lives.order.remove(&(life.until, lease));
                lives.insert(lease, life.ttl);
                Ok(())
            }
            _ => Err(StoreError::LeaseEnded(lease)),
        }
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        let mut lives = self.lives();
        if let Some(life) = lives.of.remove(&lease) {
            lives.order.remove(&(life.until, lease));
        }
    }

    /// When the first of them ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.lives().order.first().map(|(until, _)| *until)
    }

    /// Those whose time is over.
    pub(super) fn over(&self) -> Vec<LeaseId> {
        let now = Instant::now();
        self.lives().order.iter().take_while(|(until, _)| *until <= now).map(|(_, lease)| *lease).collect()
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lives {
    fn insert(&mut self, lease: LeaseId, ttl: Duration) {
        let until = Instant::now() + ttl;
        self.of.insert(lease, Life { ttl, until });
        self.order.insert((until, lease));
    }
}

/// A number that no other lease has: of 63 random bits.
pub(super) fn new_id() -> Result<LeaseId, StoreError> {
    let mut bits = [0; 8];
    aws_lc_rs::rand::fill(&mut bits)
        .map_err(|_| StoreError::Failed("the operating system gave no randomness".to_owned()))?;
    Ok(LeaseId((i64::from_be_bytes(bits) & i64::MAX).max(1)))
}

/// All leases that there are.
pub(super) fn read(
    leases: &impl ReadableTable<i64, &'static [u8]>,
) -> Result<Vec<(LeaseId, Duration)>, StoreError> {
    let all = leases.iter().map_err(failed)?.map(|row| {
        let (lease, row) = row.map_err(failed)?;
        let lease = LeaseId(lease.value());
        decode(row.value())
            .map(|ttl| (lease, ttl))
            .ok_or_else(|| StoreError::Damaged(format!("lease {lease}")))
    });
    all.collect()
}

/// A lease: format 1, whole seconds.
pub(super) fn encode(ttl: Duration) -> Vec<u8> {
    Message::untagged(&[FORMAT]).raw(ttl.as_secs().to_be_bytes()).finish()
}

pub(super) fn decode(row: &[u8]) -> Option<Duration> {
    let mut reader = Reader::new(row);
    let ([FORMAT], seconds, true) = (reader.array()?, u64::from_be_bytes(reader.array()?), reader.is_empty())
    else {
        return None;
    };
    let ttl = Duration::from_secs(seconds);
    crate::LEASE_TTL.contains(&ttl).then_some(ttl)
}

/// The keys of a lease.
pub(super) fn keys(leased: &Table<'_, (i64, &[u8]), ()>, lease: LeaseId) -> Result<Vec<Vec<u8>>, StoreError> {
    let lease = lease.number();
    let mut keys = Vec::new();
    for row in leased.range((lease, &[][..])..).map_err(failed)? {
        let (row, _) = row.map_err(failed)?;
        let (of, key) = row.value();
        if of != lease {
            break;
        }
        keys.push(key.to_vec());
    }
    Ok(keys)
}
