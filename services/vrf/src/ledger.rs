//! Answers are given only once they are kept, and whoever asks the same again is given the same: by the id, by the seed, and by
//! the `Idempotency-Key`. What is kept is shared by all replicas, so that none of them can draw again.
//!
//! Nothing is read before it is written: what is new takes one transaction, and what is not is found by its conflict. Only where a
//! request takes several it is looked first whether it will be refused.

use sdk::{MAX_STATE_KEYS, Row, State, StateError, Written};
use thiserror::Error;
use ulid::Ulid;

use crate::records::{Hash, Owner, Record, Seeded, Use, key_key, seed_key, use_key};
use crate::sweep::delete;

/// Rows of answers in one transaction; two are left for those of an `Idempotency-Key`.
const MAX_ROWS: usize = MAX_STATE_KEYS - 2;
/// Transactions of one request: a batch takes up to four, and as many again where seeds are known.
const MAX_ROUNDS: usize = 32;

/// What all replicas have answered.
pub(crate) struct Ledger(State);

/// An `Idempotency-Key` that came with a request.
pub(crate) struct Keyed {
    /// The key, hashed with its tenant.
    pub(crate) key: Hash,
    /// What is asked for.
    pub(crate) request: Hash,
    /// When.
    pub(crate) moment: Ulid,
}

/// An answer that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) record: Record,
    /// Whether it was there before.
    pub(crate) replayed: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum NotGiven {
    /// The seed of the draw of this place was used for another draw.
    #[error("the seed was used with another range or count")]
    SeedReused(usize),
    /// The `Idempotency-Key` was used for another request.
    #[error("the Idempotency-Key was used for another request")]
    Mismatch,
    /// What is kept cannot be reached.
    #[error(transparent)]
    State(#[from] StateError),
}

/// An answer on its way to be kept.
struct Item {
    record: Record,
    standing: Standing,
}

enum Standing {
    New,
    Kept,
    /// Its seed has this answer.
    Known(Box<Record>),
    /// Its seed is that of an earlier draw of the same request.
    Same(usize),
}

impl Ledger {
    pub(crate) fn new(state: State) -> Self {
        Self(state)
    }

    /// The answer of an id.
    pub(crate) async fn find(&self, owner: &Owner, id: Ulid) -> Result<Option<Record>, StateError> {
        let row = self.0.get(owner.record_key(id).as_bytes()).await?;
        row.map(|row| decoded(&row, Record::decode)).transpose()
    }

    /// Keeps what was drawn, and gives it, or what is kept for its seeds or for the key already.
    pub(crate) async fn settle(
        &self,
        owner: &Owner,
        drawn: Vec<Record>,
        keyed: Option<&Keyed>,
    ) -> Result<Vec<Given>, NotGiven> {
        let mut items = items(drawn)?;
        // Where it is one transaction, that itself says what is known.
        if items.iter().map(|item| item.record.rows()).sum::<usize>() > MAX_ROWS {
            if let Some(keyed) = keyed
                && let Some(row) = self.0.get(key_key(&keyed.key).as_bytes()).await?
                && let Some(given) = self.replay(owner, keyed, &row).await?
            {
                return Ok(given);
            }
            self.look_for_seeds(owner, &mut items).await?;
        }
        for _ in 0..MAX_ROUNDS {
            let (chunk, is_last) = chunk(&items);
            let mut writes: Vec<_> =
                chunk.iter().flat_map(|place| items[*place].record.writes(owner)).collect();
            let keyed = keyed.filter(|_| is_last);
            writes.extend(keyed.into_iter().flat_map(|keyed| keyed.used_for(&items).writes(&keyed.key)));
            if writes.is_empty() {
                return Ok(given(items));
            }
            match self.0.write(writes).await? {
                Written::Done(_) => {
                    chunk.into_iter().for_each(|place| items[place].standing = Standing::Kept);
                    if is_last {
                        return Ok(given(items));
                    }
                }
                Written::Conflict(present) => {
                    let used = keyed.and_then(|keyed| Some((keyed, keyed.row_among(&present)?)));
                    if let Some((keyed, row)) = used {
                        if let Some(given) = self.replay(owner, keyed, row).await? {
                            return Ok(given);
                        }
                    } else {
                        self.take_known(owner, &mut items, &chunk, &present).await?;
                    }
                }
            }
        }
        Err(StateError::Unavailable("what is kept changes while it is asked for".into()).into())
    }

    /// The answers of a key that was used, by its row. Where one of them is kept no longer, neither is the use.
    async fn replay(&self, owner: &Owner, keyed: &Keyed, row: &Row) -> Result<Option<Vec<Given>>, NotGiven> {
        let used = decoded(row, Use::decode)?;
        if used.request != keyed.request {
            return Err(NotGiven::Mismatch);
        }
        let records = self.records(owner, &used.ids).await?;
        let given = records.into_iter().map(|record| Some(Given { record: record?, replayed: true }));
        if let Some(given) = given.collect() {
            return Ok(Some(given));
        }
        let moment = use_key(used.moment, &keyed.key);
        let forgotten = [row.key.as_slice(), moment.as_bytes()].map(|key| delete(key, row.revision));
        let _somebody_else_did = self.0.write(forgotten.into()).await?;
        Ok(None)
    }

    /// Finds out by the seeds of a request of several transactions whether it is refused, before any of it is kept.
    async fn look_for_seeds(&self, owner: &Owner, items: &mut [Item]) -> Result<(), NotGiven> {
        let keys: Vec<_> = items.iter().filter_map(|item| item.record.seed.as_ref().map(seed_key)).collect();
        let present: Vec<_> = self.0.get_all(&keys).await?.into_iter().flatten().collect();
        let is_new = |place: &usize| matches!(items[*place].standing, Standing::New);
        let new: Vec<_> = (0..items.len()).filter(is_new).collect();
        self.take_known(owner, items, &new, &present).await
    }

    /// Finds out which of the draws have an answer by their seeds.
    async fn take_known(
        &self,
        owner: &Owner,
        items: &mut [Item],
        chunk: &[usize],
        present: &[Row],
    ) -> Result<(), NotGiven> {
        let mut known = Vec::new();
        for &place in chunk {
            let Some(key) = items[place].record.seed.as_ref().map(seed_key) else { continue };
            let Some(row) = present.iter().find(|row| row.key == key.as_bytes()) else { continue };
            let seeded = decoded(row, Seeded::decode)?;
            if seeded.draw != items[place].record.draw {
                return Err(NotGiven::SeedReused(place));
            }
            known.push((place, seeded.id));
        }
        let ids: Vec<_> = known.iter().map(|(_, id)| *id).collect();
        for ((place, _), record) in known.into_iter().zip(self.records(owner, &ids).await?) {
            // Where it is gone by now, so is the row of the seed.
            if let Some(record) = record {
                items[place].standing = Standing::Known(Box::new(record));
            }
        }
        Ok(())
    }

    async fn records(&self, owner: &Owner, ids: &[Ulid]) -> Result<Vec<Option<Record>>, StateError> {
        let keys: Vec<_> = ids.iter().map(|id| owner.record_key(*id)).collect();
        let rows = self.0.get_all(&keys).await?;
        rows.into_iter().map(|row| row.map(|row| decoded(&row, Record::decode)).transpose()).collect()
    }
}

impl Keyed {
    fn row_among<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        let key = key_key(&self.key);
        rows.iter().find(|row| row.key == key.as_bytes())
    }

    fn used_for(&self, items: &[Item]) -> Use {
        let ids = (0..items.len()).map(|place| standing_record(items, place).id).collect();
        Use { request: self.request, moment: self.moment, ids }
    }
}

/// Those that were drawn, none of them kept yet.
fn items(drawn: Vec<Record>) -> Result<Vec<Item>, NotGiven> {
    let mut items: Vec<Item> = Vec::with_capacity(drawn.len());
    for (place, record) in drawn.into_iter().enumerate() {
        let first = record.seed.and_then(|seed| items.iter().position(|item| item.record.seed == Some(seed)));
        if first.is_some_and(|first| items[first].record.draw != record.draw) {
            return Err(NotGiven::SeedReused(place));
        }
        items.push(Item { record, standing: first.map_or(Standing::New, Standing::Same) });
    }
    Ok(items)
}

/// The places of those that the next transaction keeps, and whether it is the last one.
fn chunk(items: &[Item]) -> (Vec<usize>, bool) {
    let (mut places, mut rows) = (Vec::new(), 0);
    for (place, item) in items.iter().enumerate() {
        if matches!(item.standing, Standing::New) {
            rows += item.record.rows();
            if rows > MAX_ROWS {
                return (places, false);
            }
            places.push(place);
        }
    }
    (places, true)
}

fn standing_record(items: &[Item], place: usize) -> &Record {
    match &items[place].standing {
        Standing::New | Standing::Kept => &items[place].record,
        Standing::Known(record) => record,
        Standing::Same(first) => standing_record(items, *first),
    }
}

fn given(items: Vec<Item>) -> Vec<Given> {
    let of = |place: usize| Given {
        record: standing_record(&items, place).clone(),
        replayed: matches!(items[place].standing, Standing::Known(_) | Standing::Same(_)),
    };
    (0..items.len()).map(of).collect()
}

fn decoded<T>(row: &Row, decode: impl Fn(&[u8]) -> Option<T>) -> Result<T, StateError> {
    let damaged = || format!("the row {} is damaged", String::from_utf8_lossy(&row.key));
    decode(&row.value).ok_or_else(|| StateError::Refused(damaged()))
}
