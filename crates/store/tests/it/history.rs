//! Histories: what concurrent clients asked of a store and were told, and what a watch told beside them. [`checker`] says whether
//! there is an order in which all of it is true; [`clients`] make histories of a store, [`simulated`] makes some that are right and
//! some that are not, for the checker to tell apart.
//!
//! `STORE_HISTORIES=2000` in the environment says how many there are of each store.

mod checker;
mod clients;
mod embedded;
mod etcd;
mod simulated;

use std::collections::BTreeMap;
use std::fmt;

/// Keys of one history.
const KEYS: u8 = 3;

/// What a key holds. No two writes of a history write the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    value: u64,
    created: u64,
    modified: u64,
}

type Rows = BTreeMap<u8, Row>;

/// What is asked of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Get(u8),
    Range,
    Write(Write),
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    /// Keys with the revision that their last writes should have; none where there should be nothing.
    expected: Vec<(u8, Option<u64>)>,
    /// Keys with what they hold afterwards; none where they are deleted.
    operations: Vec<(u8, Option<u64>)>,
}

impl Write {
    /// The first key that is not as expected.
    fn unmet(&self, rows: &Rows) -> Option<u8> {
        let found = |key: &u8| rows.get(key).map(|row| row.modified);
        self.expected.iter().find(|(key, revision)| found(key) != *revision).map(|(key, _)| *key)
    }

    /// What it changes.
    fn changes(&self, rows: &Rows) -> BTreeMap<u8, Option<u64>> {
        let changes = |(key, value): &&(u8, Option<u64>)| value.is_some() || rows.contains_key(key);
        self.operations.iter().filter(changes).copied().collect()
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Row(Option<Row>),
    Rows { revision: u64, rows: Rows },
    Committed(u64),
    Conflict(u8),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// At that time, with that answer.
    Told(u64, Told),
    /// It may have been done, or be done at any time to come.
    Open,
    /// The store says that it was not done.
    NotDone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Operation {
    client: usize,
    /// When it was asked, on the clock of the history.
    from: u64,
    asked: Asked,
    ending: Ending,
}

/// What a watch told of one revision: keys with what they hold since, or none where they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: u64,
    rows: BTreeMap<u8, Option<Row>>,
}

/// A history, of keys that did not exist when it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct History {
    /// The revision of the store when it began.
    start: u64,
    operations: Vec<Operation>,
    seen: Vec<Seen>,
}

fn letter(key: u8) -> char {
    char::from(b'a' + key)
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}, {})", self.value, self.created, self.modified)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = match self {
            Self::Get(key) => return write!(formatter, "get {}", letter(*key)),
            Self::Range => return write!(formatter, "range"),
            Self::Write(write) => write,
        };
        for (key, revision) in &write.expected {
            match revision {
                Some(revision) => write!(formatter, "if {} is of {revision}, ", letter(*key))?,
                None => write!(formatter, "if {} is absent, ", letter(*key))?,
            }
        }
        for (key, value) in &write.operations {
            match value {
                Some(value) => write!(formatter, "put {}={value} ", letter(*key))?,
                None => write!(formatter, "delete {} ", letter(*key))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(Some(row)) => write!(formatter, "{row}"),
            Self::Row(None) => write!(formatter, "nothing"),
            Self::Rows { revision, rows } => {
                write!(formatter, "at {revision}:")?;
                rows.iter().try_for_each(|(key, row)| write!(formatter, " {}={row}", letter(*key)))
            }
            Self::Committed(revision) => write!(formatter, "committed at {revision}"),
            Self::Conflict(key) => write!(formatter, "conflict at {}", letter(*key)),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, from, asked, ending } = self;
        match ending {
            Ending::Told(until, told) => write!(formatter, "[{from}..{until}] {client}: {asked}: {told}"),
            Ending::Open => write!(formatter, "[{from}..] {client}: {asked}: not known"),
            Ending::NotDone => write!(formatter, "[{from}..] {client}: {asked}: not done"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.revision)?;
        self.rows.iter().try_for_each(|(key, row)| match row {
            Some(row) => write!(formatter, " {}={row}", letter(*key)),
            None => write!(formatter, " {} is gone", letter(*key)),
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "after revision {}; rows as value (created, modified)", self.start)?;
        for (number, operation) in self.operations.iter().enumerate() {
            writeln!(formatter, "#{number} {operation}")?;
        }
        self.seen.iter().try_for_each(|seen| writeln!(formatter, "watch {seen}"))
    }
}

/// How many histories to make.
fn count(otherwise: usize) -> usize {
    std::env::var("STORE_HISTORIES").map_or(otherwise, |count| count.parse().unwrap())
}
