//! State that no mesh API keeps, for tests of services.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::{
    Bytes, MAX_STATE_KEY_BYTES, MAX_STATE_KEYS, MAX_STATE_ROWS, MAX_STATE_VALUE_BYTES, StatePresent,
    StateRangeAnswer, StateRangeRequest, StateReadAnswer, StateReadRequest, StateRow, StateUsage, StateWrite,
    StateWriteRequest,
};

use super::{Answered, Asked, Fault, Keeper, State, StateError};

/// The rows of one service in memory. Clones are the same; it outlives the replicas of a test.
#[derive(Clone, Default)]
pub struct FakeState(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    rows: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    revision: u64,
    is_away: bool,
    answers_to_lose: usize,
    max_bytes: Option<u64>,
    transactions: usize,
    questions: usize,
}

impl FakeState {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a replica is given of it.
    pub fn state(&self) -> State {
        State::of(self.clone())
    }

    /// From now on it cannot be reached, or can again.
    pub fn is_away(&self, away: bool) {
        self.held().is_away = away;
    }

    /// The next answers are lost; what was asked is done all the same.
    pub fn lose_answers(&self, count: usize) {
        self.held().answers_to_lose = count;
    }

    /// From now on there is room for so many bytes.
    pub fn has_room_for(&self, bytes: u64) {
        self.held().max_bytes = Some(bytes);
    }

    /// The transactions that were carried out.
    pub fn transactions(&self) -> usize {
        self.held().transactions
    }

    /// How often something was asked, answered or not.
    pub fn questions(&self) -> usize {
        self.held().questions
    }

    /// Everything that is there, keys and values, in the order of the keys.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let held = self.held();
        held.rows.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut Held) -> Result<T, StateError>,
    ) -> Asked<'_, T> {
        let mut held = self.held();
        held.questions += 1;
        let answered = if held.is_away {
            Err(Fault::Error(StateError::Unavailable("it is away".into())))
        } else {
            let answered = answer(&mut held).map_err(Fault::Error);
            let is_lost = held.answers_to_lose > 0;
            held.answers_to_lose -= usize::from(is_lost);
            if is_lost { Err(Fault::Lost("the connection ended".into())) } else { answered }
        };
        Box::pin(std::future::ready(answered))
    }
}

impl Held {
    fn row(&self, key: &Bytes) -> Option<StateRow> {
        let (value, revision) = self.rows.get(&key.0)?;
        Some(StateRow { key: key.clone(), value: Bytes(value.clone()), revision: *revision })
    }

    fn size(&self) -> u64 {
        self.rows.iter().map(|(key, (value, _))| (key.len() + value.len()) as u64).sum()
    }

    fn is_as_expected(&self, write: &StateWrite) -> bool {
        let found = self.rows.get(&write.key().0).map(|(_, revision)| *revision);
        match write {
            StateWrite::Create { .. } => found.is_none(),
            StateWrite::Replace { revision, .. } | StateWrite::Delete { revision, .. } => {
                found == Some(*revision)
            }
        }
    }

    fn write(&mut self, writes: Vec<StateWrite>) -> Result<Answered, StateError> {
        within(writes.len())?;
        let mut created = 0;
        for write in &writes {
            let value = write.value().map_or(0, |value| value.0.len());
            if value > MAX_STATE_VALUE_BYTES || write.key().0.len() > MAX_STATE_KEY_BYTES {
                return Err(StateError::TooLarge("a key or value is too long".into()));
            }
            let is_new = matches!(write, StateWrite::Create { .. });
            created += if is_new { (write.key().0.len() + value) as u64 } else { 0 };
        }
        if !writes.iter().all(|write| self.is_as_expected(write)) {
            let rows = writes.iter().filter_map(|write| self.row(write.key()));
            let present =
                rows.map(|row| StatePresent { key: row.key, revision: row.revision, value: Some(row.value) });
            return Ok(Answered::Conflict(present.collect()));
        }
        if created > 0 && self.max_bytes.is_some_and(|max| self.size() + created > max) {
            return Err(StateError::Full("there is no room".into()));
        }
        self.revision += 1;
        self.transactions += 1;
        for write in writes {
            match write {
                StateWrite::Create { key, value } | StateWrite::Replace { key, value, .. } => {
                    self.rows.insert(key.0, (value.0, self.revision));
                }
                StateWrite::Delete { key, .. } => drop(self.rows.remove(&key.0)),
            }
        }
        Ok(Answered::Done(self.revision))
    }
}

impl Keeper for FakeState {
    fn read(&self, request: StateReadRequest) -> Asked<'_, StateReadAnswer> {
        self.answer(|held| {
            within(request.keys.len())?;
            Ok(StateReadAnswer { rows: request.keys.iter().map(|key| held.row(key)).collect() })
        })
    }

    fn range(&self, request: StateRangeRequest) -> Asked<'_, StateRangeAnswer> {
        self.answer(|held| {
            if request.limit == 0 || request.limit > MAX_STATE_ROWS {
                return Err(StateError::Refused("a page has 1 to 64 rows".into()));
            }
            let begin = if request.after.0 < request.prefix.0 {
                Bound::Included(&request.prefix.0)
            } else {
                Bound::Excluded(&request.after.0)
            };
            let behind = held.rows.range::<Vec<u8>, _>((begin, Bound::Unbounded)).map(|(key, _)| key);
            let found = behind.take_while(|key| key.starts_with(&request.prefix.0)).take(request.limit + 1);
            let mut rows: Vec<_> = found.filter_map(|key| held.row(&Bytes(key.clone()))).collect();
            let more = rows.len() > request.limit;
            rows.truncate(request.limit);
            Ok(StateRangeAnswer { rows, more })
        })
    }

    fn write(&self, request: StateWriteRequest) -> Asked<'_, Answered> {
        self.answer(|held| held.write(request.writes))
    }

    fn usage(&self) -> Asked<'_, StateUsage> {
        self.answer(|held| {
            Ok(StateUsage {
                rows: held.rows.len() as u64,
                bytes: held.size(),
                max_rows: u64::MAX,
                max_bytes: held.max_bytes.unwrap_or(u64::MAX),
            })
        })
    }
}

fn within(count: usize) -> Result<(), StateError> {
    match count {
        0 => Err(StateError::Refused("nothing is asked".into())),
        1..=MAX_STATE_KEYS => Ok(()),
        _ => Err(StateError::TooLarge("too much is asked at once".into())),
    }
}
