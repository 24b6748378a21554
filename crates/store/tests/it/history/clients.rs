//! Clients that ask random things of a store at the same time, with a watch beside them, and write down what they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use store::{Change, Changes, KeyValue, Outcome, Store, StoreError, Transaction, Watched};

use super::{Asked, Ending, History, KEYS, Operation, Row, Rows, Seen, Told, Write, letter};

/// The key whose change ends the watch.
const END: &str = "end";

/// What a client asks next: it writes no other value than this one, and may expect the revisions that it knows.
pub(super) fn choose(rng: &mut Rng, known: &BTreeMap<u8, u64>, value: u64) -> Asked {
    let key = rng.u8(..KEYS);
    let other = (key + 1) % KEYS;
    let (put, also) = ((key, Some(value)), (other, rng.bool().then_some(value)));
    let revision = known.get(&key).copied();
    let (expected, operations) = match rng.u8(..12) {
        0..3 => return Asked::Get(key),
        3 => return Asked::Range,
        4 | 5 => (vec![], vec![put]),
        6 => (vec![(key, None)], vec![put]),
        7 | 8 => (vec![(key, revision)], vec![put]),
        9 => (vec![], vec![(key, None)]),
        10 => (vec![], vec![put, also]),
        _ => (vec![(key, revision), (other, known.get(&other).copied())], vec![put, also]),
    };
    Asked::Write(Write { expected, operations })
}

/// Remembers the revisions that an answer tells of.
pub(super) fn learn(known: &mut BTreeMap<u8, u64>, asked: &Asked, told: &Told) {
    match (asked, told) {
        (Asked::Get(key), Told::Row(Some(row))) => drop(known.insert(*key, row.modified)),
        (Asked::Get(key), Told::Row(None)) => drop(known.remove(key)),
        (Asked::Range, Told::Rows { rows, .. }) => {
            *known = rows.iter().map(|(key, row)| (*key, row.modified)).collect();
        }
        (Asked::Write(write), Told::Committed(revision)) => {
            for (key, value) in &write.operations {
                match value {
                    Some(_) => known.insert(*key, *revision),
                    None => known.remove(key),
                };
            }
        }
        _ => {}
    }
}

/// A history that is being made, of keys that begin with a prefix.
pub(super) struct Log {
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clock: u64,
    history: History,
}

impl Log {
    /// Of keys that are not there yet.
    pub(super) async fn begin(prefix: String, store: &Store) -> Arc<Self> {
        let start = loop {
            match store.range(prefix.clone()).await {
                Ok(range) => break range.revision,
                Err(error) => assert!(is_away(&error), "{error}"),
            }
        };
        let history = History { start, ..History::default() };
        Arc::new(Self { prefix, state: Mutex::new(State { clock: 0, history }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The history so far.
    pub(super) fn history(&self) -> History {
        self.state().history.clone()
    }

    /// How much was asked.
    pub(super) fn asked(&self) -> usize {
        self.state().history.operations.len()
    }

    /// Notes that something is asked. Until more is known it is open.
    fn ask(&self, client: usize, choose: impl FnOnce(u64) -> Asked) -> (usize, Asked) {
        let mut state = self.state();
        state.clock += 1;
        let (from, number) = (state.clock, state.history.operations.len());
        let asked = choose(u64::try_from(number).unwrap());
        let operation = Operation { client, from, asked: asked.clone(), ending: Ending::Open };
        state.history.operations.push(operation);
        (number, asked)
    }

    fn answer(&self, number: usize, answer: Result<Told, StoreError>) {
        let mut state = self.state();
        state.clock += 1;
        let until = state.clock;
        let operation = &mut state.history.operations[number];
        operation.ending = match answer {
            Ok(told) => Ending::Told(until, told),
            Err(StoreError::Undecided(_)) if matches!(operation.asked, Asked::Write(_)) => Ending::Open,
            Err(StoreError::Unreachable(_)) => Ending::NotDone,
            Err(other) => panic!("{operation}: {other}"),
        };
    }

    fn key(&self, key: u8) -> String {
        format!("{}{}", self.prefix, letter(key))
    }

    fn key_of(&self, key: &[u8]) -> u8 {
        let letter = key.strip_prefix(self.prefix.as_bytes()).expect("only keys of the prefix");
        let [letter] = letter else { panic!("{letter:?}") };
        letter - b'a'
    }

    fn row(row: &KeyValue) -> Row {
        assert_eq!(row.lease, None);
        let value = std::str::from_utf8(&row.value).unwrap().parse().unwrap();
        Row { value, created: row.create_revision, modified: row.mod_revision }
    }

    fn transaction(&self, write: &Write) -> Transaction {
        let mut transaction = Transaction::new();
        for (key, revision) in &write.expected {
            transaction = match revision {
                None => transaction.if_absent(self.key(*key)),
                Some(revision) => transaction.if_revision(self.key(*key), *revision),
            };
        }
        for (key, value) in &write.operations {
            transaction = match value {
                None => transaction.delete(self.key(*key)),
                Some(value) => transaction.put(self.key(*key), value.to_string()),
            };
        }
        transaction
    }

    async fn carry_out(&self, store: &Store, asked: &Asked) -> Result<Told, StoreError> {
        Ok(match asked {
            Asked::Get(key) => {
                let row = store.get(self.key(*key)).await?;
                assert!(row.as_ref().is_none_or(|row| self.key_of(&row.key) == *key));
                Told::Row(row.as_ref().map(Self::row))
            }
            Asked::Range => {
                let range = store.range(self.prefix.clone()).await?;
                let rows: Rows =
                    range.rows.iter().map(|row| (self.key_of(&row.key), Self::row(row))).collect();
                assert_eq!(rows.len(), range.rows.len(), "each key once");
                Told::Rows { revision: range.revision, rows }
            }
            Asked::Write(write) => match store.commit(self.transaction(write)).await? {
                Outcome::Committed { revision } => Told::Committed(revision),
                Outcome::Conflict { key } => Told::Conflict(self.key_of(&key)),
            },
        })
    }
}

/// Whether another moment may be better.
fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable(_) | StoreError::Undecided(_))
}

/// A client: it asks so many things, and thinks before each.
pub(super) async fn client<F: Future<Output = ()>>(
    log: Arc<Log>,
    number: usize,
    store: Store,
    mut rng: Rng,
    steps: usize,
    think: impl Fn(u32) -> F,
) {
    let mut known = BTreeMap::new();
    for _ in 0..steps {
        think(rng.u32(..)).await;
        let (index, asked) = log.ask(number, |value| choose(&mut rng, &known, value));
        let answer = log.carry_out(&store, &asked).await;
        if let Ok(told) = &answer {
            learn(&mut known, &asked, told);
        }
        log.answer(index, answer);
    }
}

/// The watch: it goes on after the last change that was noted, up to the end. Dropped at any point, it loses nothing.
pub(super) async fn follow(log: Arc<Log>, store: Store) {
    let after = {
        let state = log.state();
        state.history.seen.last().map_or(state.history.start, |seen| seen.revision)
    };
    let mut watch = store.watch(log.prefix.clone(), after);
    let end = format!("{}{END}", log.prefix);
    loop {
        let Changes { revision, changes } = match watch.next().await.unwrap() {
            Watched::Resumed => continue,
            Watched::Changes(changes) => changes,
        };
        if changes.iter().any(|change| change.key() == end.as_bytes()) {
            return;
        }
        let row = |change: &Change| match change {
            Change::Put(row) => (log.key_of(&row.key), Some(Log::row(row))),
            Change::Deleted(key) => (log.key_of(key), None),
        };
        let rows: BTreeMap<_, _> = changes.iter().map(row).collect();
        assert_eq!(rows.len(), changes.len(), "each key once");
        log.state().history.seen.push(Seen { revision, rows });
    }
}

/// Makes the change that ends the watch, after everybody was answered.
pub(super) async fn end(log: &Log, store: &Store) {
    let transaction = || Transaction::new().put(format!("{}{END}", log.prefix), "");
    while let Err(error) = store.commit(transaction()).await {
        assert!(is_away(&error), "{error}");
    }
}

/// What histories were like, to be said and to be held against what they should be like.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) histories: usize,
    pub(super) told: usize,
    pub(super) conflicts: usize,
    pub(super) open: usize,
    /// Writes that nobody was told of, and that happened.
    pub(super) open_and_done: usize,
    pub(super) not_done: usize,
    pub(super) changes: usize,
}

impl Tally {
    pub(super) fn add(&mut self, history: &History) {
        let of = |fits: fn(&Ending) -> bool| {
            history.operations.iter().filter(|operation| fits(&operation.ending)).count()
        };
        self.histories += 1;
        self.told += of(|ending| matches!(ending, Ending::Told(..)));
        self.conflicts += of(|ending| matches!(ending, Ending::Told(_, Told::Conflict(_))));
        self.open += of(|ending| *ending == Ending::Open);
        self.not_done += of(|ending| *ending == Ending::NotDone);
        self.changes += history.seen.len();
        self.open_and_done += history.seen.iter().filter(|seen| is_open(history, seen)).count();
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        let Self { histories, told, conflicts, open, open_and_done, not_done, changes } = other;
        self.histories += histories;
        self.told += told;
        self.conflicts += conflicts;
        self.open += open;
        self.open_and_done += open_and_done;
        self.not_done += not_done;
        self.changes += changes;
    }
}

/// Whether nobody was told of the change's revision.
fn is_open(history: &History, seen: &Seen) -> bool {
    let told = |operation: &Operation| matches!(&operation.ending, Ending::Told(_, Told::Committed(revision)) if *revision == seen.revision);
    !history.operations.iter().any(told)
}

/// Waits as long as it takes to let so many others go first.
pub(super) async fn give_way(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// The limit of one history.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Panics with all of a history that is not linearizable.
pub(super) fn must_be_linearizable(history: &History) {
    if let Err(violation) = super::checker::check(history) {
        panic!("{violation}\n{history}");
    }
}
