//! What was kept for long enough goes, in the order of time. Every replica sweeps; where two do so at once, one of them leaves it
//! to the other.
//!
//! Where the namespace of the service is nearly full, answers go earlier, the oldest first, so that a flood of draws does not
//! keep others from drawing. An answer that a seed or an `Idempotency-Key` leads to stays for a day all the same: else whoever
//! floods could have another one drawn in its place.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use sdk::{Bytes, MAX_STATE_KEYS, Page, Row, State, StateError, StateWrite, Written};
use tokio::time::sleep;
use ulid::Ulid;

use crate::records::{RECORDS, Record, Seeded, USES, Use, in_time, seed_key};

/// How long answers are kept.
pub(crate) const RECORDS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it is known what an `Idempotency-Key` was used for.
pub(crate) const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long answers are kept at least that a seed or a key leads to.
const PINNED: Duration = Duration::from_secs(25 * 3600);
/// About how long it waits between two sweeps: 0.5 to 1.5 times as long.
const EVERY: Duration = Duration::from_secs(60);
/// The same after a sweep that was not done, so that no more is drawn than is removed.
const SOON: Duration = Duration::from_secs(1);
/// Rows that are looked at at once; each may take another one with it.
const PAGE: usize = MAX_STATE_KEYS / 2;
/// Pages of one sweep.
const MAX_PAGES: usize = 500;

/// Removes what has been kept for long enough.
pub(crate) struct Sweep {
    state: State,
    /// How far it has come among those that may go for want of room.
    looked_at: Vec<u8>,
}

/// Whether there may be more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Goes,
    Done,
}

impl Sweep {
    pub(crate) fn new(state: State) -> Self {
        Self { state, looked_at: Vec::new() }
    }

    /// Sweeps from time to time; `jitter` gives numbers from 0 to 1.
    pub(crate) async fn keep(mut self, now: impl Fn() -> Timestamp, jitter: impl Fn() -> f64) -> Infallible {
        let mut wait = EVERY;
        loop {
            sleep(wait.mul_f64(0.5 + jitter())).await;
            let swept = self.sweep(now()).await;
            wait = if matches!(swept, Ok(Step::Goes)) { SOON } else { EVERY };
            if let Err(error) = swept {
                tracing::debug!(%error, "what was kept for long enough cannot be removed now");
            }
        }
    }

    /// Sweeps once.
    pub(crate) async fn sweep(&mut self, now: Timestamp) -> Result<Step, StateError> {
        let steps = [self.forget_uses(now).await?, self.remove_due(now).await?, self.make_room(now).await?];
        Ok(if steps.contains(&Step::Goes) { Step::Goes } else { Step::Done })
    }

    async fn forget_uses(&self, now: Timestamp) -> Result<Step, StateError> {
        for _ in 0..MAX_PAGES {
            if self.forget_page(now).await? == Step::Done {
                return Ok(Step::Done);
            }
        }
        Ok(Step::Goes)
    }

    /// Removes answers that were kept for long enough.
    async fn remove_due(&self, now: Timestamp) -> Result<Step, StateError> {
        for _ in 0..MAX_PAGES {
            let page = self.state.range(RECORDS.as_bytes(), b"", PAGE).await?;
            let is_due = |row: &&Row| age(row, RECORDS, now).is_some_and(|age| age > RECORDS_KEPT);
            let due: Vec<_> = page.rows.iter().take_while(is_due).collect();
            if self.remove(&due).await? == Step::Done || due.len() < page.rows.len() || !page.more {
                return Ok(Step::Done);
            }
        }
        Ok(Step::Goes)
    }

    /// Forgets a page of keys that were used long ago.
    async fn forget_page(&self, now: Timestamp) -> Result<Step, StateError> {
        let Page { rows, more } = self.state.range(USES.as_bytes(), b"", PAGE).await?;
        let is_due = |row: &&Row| age(row, USES, now).is_some_and(|age| age > KEYS_KEPT);
        let due: Vec<_> = rows.iter().take_while(is_due).collect();
        let uses: Vec<_> = due.iter().filter_map(|row| in_time(&row.key, USES)).collect();
        let keys: Vec<_> = uses.iter().map(|(_, key)| format!("key/{key}")).collect();
        let mut writes: Vec<_> = due.iter().map(|row| delete(&row.key, row.revision)).collect();
        for ((moment, _), row) in uses.iter().zip(self.state.get_all(&keys).await?) {
            // One that was used again since then has another row that says when.
            let row = row.filter(|row| Use::decode(&row.value).is_none_or(|used| used.moment == *moment));
            writes.extend(row.map(|row| delete(&row.key, row.revision)));
        }
        let step = self.write(writes).await?;
        Ok(if due.len() < rows.len() || !more { Step::Done } else { step })
    }

    /// Removes answers before their time while there is little room.
    async fn make_room(&mut self, now: Timestamp) -> Result<Step, StateError> {
        let (mut removed, mut pages) = (0, 0);
        while pages < MAX_PAGES {
            let usage = self.state.usage().await?;
            let is_nearly_full = usage.rows > usage.max_rows / 4 * 3 || usage.bytes > usage.max_bytes / 4 * 3;
            if !is_nearly_full {
                break;
            }
            let page = self.state.range(RECORDS.as_bytes(), &self.looked_at, PAGE).await?;
            let may_go: Vec<_> = page.rows.iter().filter(|row| !is_pinned(row, now)).collect();
            removed += may_go.len();
            let step = self.remove(&may_go).await?;
            self.looked_at = match page.rows.last() {
                Some(last) if page.more => last.key.clone(),
                _ => Vec::new(),
            };
            if self.looked_at.is_empty() || (step == Step::Done && !may_go.is_empty()) {
                break;
            }
            pages += 1;
        }
        if removed > 0 {
            tracing::warn!(removed, "answers were removed before their time: there is little room for more");
        }
        // Where nothing may go, there is nothing to look for until something may.
        Ok(if pages == MAX_PAGES && removed > 0 { Step::Goes } else { Step::Done })
    }

    /// Removes answers, each with the row of its seed.
    async fn remove(&self, rows: &[&Row]) -> Result<Step, StateError> {
        let records: Vec<_> = rows.iter().filter_map(|row| Record::decode(&row.value)).collect();
        let seeded: Vec<_> = records.iter().filter_map(|record| Some((record.id, record.seed?))).collect();
        let keys: Vec<_> = seeded.iter().map(|(_, seed)| seed_key(seed)).collect();
        let mut writes: Vec<_> = rows.iter().map(|row| delete(&row.key, row.revision)).collect();
        for ((id, _), row) in seeded.iter().zip(self.state.get_all(&keys).await?) {
            let row = row.filter(|row| Seeded::decode(&row.value).is_none_or(|seeded| seeded.id == *id));
            writes.extend(row.map(|row| delete(&row.key, row.revision)));
        }
        self.write(writes).await
    }

    async fn write(&self, writes: Vec<StateWrite>) -> Result<Step, StateError> {
        if writes.is_empty() {
            return Ok(Step::Done);
        }
        Ok(match self.state.write(writes).await? {
            Written::Done(_) => Step::Goes,
            // Another replica is at it.
            Written::Conflict(_) => Step::Done,
        })
    }
}

/// Removes a row whose last write has this revision.
pub(crate) fn delete(key: &[u8], revision: u64) -> StateWrite {
    StateWrite::Delete { key: Bytes(key.to_vec()), revision }
}

/// How old a row is that is kept in the order of time.
fn age(row: &Row, prefix: &str, now: Timestamp) -> Option<Duration> {
    in_time(&row.key, prefix).map(|(moment, _)| since(moment, now))
}

fn since(moment: Ulid, now: Timestamp) -> Duration {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    Duration::from_millis(now.saturating_sub(moment.timestamp_ms()))
}

fn is_pinned(row: &Row, now: Timestamp) -> bool {
    let record = Record::decode(&row.value);
    record.is_some_and(|record| (record.seed.is_some() || record.has_key) && since(record.id, now) < PINNED)
}

#[cfg(test)]
mod tests;
