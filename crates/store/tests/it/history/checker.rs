//! Says whether a history is linearizable: whether each operation can be given one moment between being asked and being answered, so
//! that every answer is true at its moment.
//!
//! The search is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of what was tried
//! (Testing for Linearizability, 2017). What the writes did, and in which order, is not left to it: the watch has told, so a write
//! that changes something has to be the watch's next change, with the revision that its client was told. An operation without an
//! answer may have its moment at any time after it was asked, or never; one that the store says it did not do has none.

use std::collections::HashSet;
use std::fmt;

use super::{Asked, Ending, History, Row, Rows, Seen, Told, Write};

/// Operations of one history at most: as many as a set of them has bits.
pub(super) const MAX_OPERATIONS: usize = 128;

/// Why a history is not linearizable.
#[derive(Debug)]
pub(super) enum Violation {
    /// The watch contradicts itself.
    Watch(String),
    /// There is no order.
    Order {
        /// Operations that have no place after those of the longest order that there is.
        left: Vec<usize>,
        /// Changes, of those that the watch told of, that happen in the longest order.
        changes: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Watch(reason) => write!(formatter, "the watch contradicts itself: {reason}"),
            Self::Order { left, changes } => {
                write!(formatter, "after {changes} of the watch's changes there is no next among {left:?}")
            }
        }
    }
}

/// Checks a history.
pub(super) fn check(history: &History) -> Result<(), Violation> {
    assert!(history.operations.len() <= MAX_OPERATIONS, "a history this long is not checked");
    let moments = moments(history).map_err(Violation::Watch)?;
    let all = told(history).map(|(index, _)| 1 << index).sum();
    let mut search = Search { history, moments, all, tried: HashSet::new(), furthest: Place::default() };
    let begin = Place { done: 0, at: 0, shown: history.start };
    if search.leads_to_the_end(begin) {
        return Ok(());
    }
    let Place { done, at, .. } = search.furthest;
    let left = (0..history.operations.len()).filter(|index| search.all & !done & (1 << index) != 0);
    Err(Violation::Order { left: left.collect(), changes: at })
}

/// The operations that were answered, with when.
fn told(history: &History) -> impl Iterator<Item = (usize, u64)> {
    history.operations.iter().enumerate().filter_map(|(index, operation)| match operation.ending {
        Ending::Told(until, _) => Some((index, until)),
        Ending::Open | Ending::NotDone => None,
    })
}

/// What the store holds from one change to the next.
struct Moment {
    revision: u64,
    rows: Rows,
}

/// What the store held, by what the watch told.
fn moments(history: &History) -> Result<Vec<Moment>, String> {
    let mut moments = vec![Moment { revision: history.start, rows: Rows::new() }];
    for seen in &history.seen {
        let before = &moments[moments.len() - 1];
        if seen.revision <= before.revision || seen.rows.is_empty() {
            return Err(format!("{seen} after revision {}", before.revision));
        }
        let mut rows = before.rows.clone();
        for (key, row) in &seen.rows {
            let was = rows.remove(key);
            let Some(row) = row else {
                was.ok_or_else(|| format!("{seen}: there was nothing"))?;
                continue;
            };
            let created = was.map_or(seen.revision, |was| was.created);
            if *row != (Row { value: row.value, created, modified: seen.revision }) {
                return Err(format!("{seen}: created at {created}"));
            }
            rows.insert(*key, *row);
        }
        moments.push(Moment { revision: seen.revision, rows });
    }
    Ok(moments)
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The operations in it, a bit each.
    done: u128,
    /// How many changes there were.
    at: usize,
    /// The highest revision that anybody was told of. It follows from the others.
    shown: u64,
}

struct Search<'a> {
    history: &'a History,
    moments: Vec<Moment>,
    /// The operations that must have a place.
    all: u128,
    tried: HashSet<(u128, usize)>,
    furthest: Place,
}

impl Search<'_> {
    fn leads_to_the_end(&mut self, place: Place) -> bool {
        if place.done & self.all == self.all && place.at + 1 == self.moments.len() {
            return true;
        }
        if !self.tried.insert((place.done, place.at)) {
            return false;
        }
        if place.done.count_ones() >= self.furthest.done.count_ones() {
            self.furthest = place;
        }
        let mut next = self.next(place);
        // What changes nothing comes first: then hardly a step has to be taken back.
        next.sort_by_key(|place| (place.at, place.shown));
        next.into_iter().any(|place| self.leads_to_the_end(place))
    }

    /// Where each operation leads that may come next: one that was asked before any other of those left was answered.
    fn next(&self, place: Place) -> Vec<Place> {
        let is_left = |index: usize| place.done & (1 << index) == 0;
        let answered = told(self.history).filter(|(index, _)| is_left(*index)).map(|(_, until)| until);
        let first_answer = answered.min().unwrap_or(u64::MAX);
        let operations = self.history.operations.iter().enumerate();
        let may_be_next = operations.filter(|(index, of)| is_left(*index) && of.from < first_answer);
        let steps = may_be_next.filter_map(|(index, operation)| {
            let told = match &operation.ending {
                Ending::Told(_, told) => Some(told),
                Ending::Open => None,
                Ending::NotDone => return None,
            };
            let (at, shown) = self.step(&operation.asked, told, place)?;
            Some(Place { done: place.done | (1 << index), at, shown })
        });
        steps.collect()
    }

    /// What an operation makes of a place, if its answer is true there.
    fn step(&self, asked: &Asked, told: Option<&Told>, place: Place) -> Option<(usize, u64)> {
        let Place { at, shown, .. } = place;
        let rows = &self.moments[at].rows;
        match (asked, told) {
            (Asked::Get(key), Some(Told::Row(row))) => (rows.get(key) == row.as_ref()).then_some((at, shown)),
            (Asked::Range, Some(Told::Rows { revision, rows: told })) => {
                (rows == told && self.is_now(*revision, place)).then_some((at, *revision))
            }
            (Asked::Write(write), Some(Told::Conflict(key))) => {
                (write.unmet(rows) == Some(*key)).then_some((at, shown))
            }
            (Asked::Write(write), Some(Told::Committed(revision))) => {
                if write.unmet(rows).is_none() && write.changes(rows).is_empty() {
                    return self.is_now(*revision, place).then_some((at, *revision));
                }
                let next = self.carried_out(write, place)?;
                (next.revision == *revision).then_some((at + 1, *revision))
            }
            (Asked::Write(write), None) => self.carried_out(write, place).map(|next| (at + 1, next.revision)),
            _ => None,
        }
    }

    /// Whether the store may have had this revision. Others write to it too, so it may be higher than that of the last change.
    fn is_now(&self, revision: u64, place: Place) -> bool {
        let next = self.moments.get(place.at + 1).map_or(u64::MAX, |next| next.revision);
        (self.moments[place.at].revision.max(place.shown)..next).contains(&revision)
    }

    /// The watch's next change, if it is that of the write and comes after all that was told.
    fn carried_out(&self, write: &Write, place: Place) -> Option<&Seen> {
        let rows = &self.moments[place.at].rows;
        let next = self.history.seen.get(place.at)?;
        let values = next.rows.iter().map(|(key, row)| (*key, row.map(|row| row.value)));
        let is_this = write.unmet(rows).is_none() && values.eq(write.changes(rows));
        (is_this && next.revision > place.shown).then_some(next)
    }
}
