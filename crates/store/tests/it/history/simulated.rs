//! Histories of a store that is only simulated, right ones and such with one fault each: what the checker must take, and what it must
//! find.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::checker::check;
use super::clients::{choose, learn};
use super::{Asked, Ending, History, Operation, Rows, Seen, Told};

const HISTORIES: u64 = 400;
const CLIENTS: usize = 5;
/// Clients are moved on so many times: three times for each operation.
const STEPS: usize = 150;
/// A fault comes at the first occasion after so many of them.
const BEFORE: usize = 40;

/// What a store must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A write is acknowledged and not carried out.
    Lost,
    /// A write is acknowledged, and carried out by half.
    Half,
    /// A write is carried out once more later on.
    Twice,
    /// A write is carried out after all of which it was said that it is not.
    NotDone,
    /// What was there before an acknowledged write is read.
    Stale,
    /// One row is of another moment than the others.
    Torn,
    /// Rows are said to be of an earlier revision than they are.
    Early,
    /// A comparison that holds is said not to.
    Refused,
    /// The watch misses a change.
    Untold,
    /// The watch tells of a change twice.
    Repeated,
}

const FAULTS: [Fault; 10] = [
    Fault::Lost,
    Fault::Half,
    Fault::Twice,
    Fault::NotDone,
    Fault::Stale,
    Fault::Torn,
    Fault::Early,
    Fault::Refused,
    Fault::Untold,
    Fault::Repeated,
];

enum Client {
    Idle,
    /// It has asked for this, which was not carried out yet.
    Asked(usize),
    /// It was carried out, and is not answered yet.
    Answered(usize, Told),
}

struct Simulated {
    rng: Rng,
    clock: u64,
    revision: u64,
    rows: Rows,
    history: History,
    clients: Vec<(Client, BTreeMap<u8, u64>)>,
    /// Writes whose clients wait no more.
    floating: Vec<usize>,
    /// The rows before each change, with their revision and who made it.
    earlier: Vec<(u64, Rows, usize)>,
    /// The fault that is still to come.
    fault: Option<Fault>,
    /// The operation that it befell.
    befell: Option<usize>,
}

impl Simulated {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let clients = (0..CLIENTS).map(|_| (Client::Idle, BTreeMap::new())).collect();
        let history = History { start: 10, ..History::default() };
        let (rng, rows) = (Rng::with_seed(seed), Rows::new());
        let (floating, earlier) = (Vec::new(), Vec::new());
        Self { rng, clock: 0, revision: 10, rows, history, clients, floating, earlier, fault, befell: None }
    }

    /// A history, if it had an occasion for the fault.
    fn history(mut self) -> Option<History> {
        let fault = self.fault.take();
        for step in 0..STEPS {
            if step == BEFORE {
                self.fault = fault;
            }
            let client = self.rng.usize(..CLIENTS);
            self.step(client);
            if self.rng.u8(..6) == 0 && !self.floating.is_empty() {
                let late = self.floating.swap_remove(self.rng.usize(..self.floating.len()));
                let fault = self.fault.take();
                self.carry_out(late);
                self.fault = fault;
            }
        }
        (self.fault.is_none() && (fault.is_none() || self.befell.is_some())).then_some(self.history)
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn step(&mut self, client: usize) {
        let (before, known) = std::mem::replace(&mut self.clients[client], (Client::Idle, BTreeMap::new()));
        let gives_up = self.rng.u8(..10) == 0;
        let (after, known) = match before {
            Client::Idle => (Client::Asked(self.ask(client, &known)), known),
            Client::Asked(index) if gives_up && self.is_write(index) => {
                self.floating.push(index);
                (Client::Idle, known)
            }
            Client::Asked(index) => {
                let told = self.carry_out(index);
                (Client::Answered(index, told), known)
            }
            Client::Answered(index, _) if gives_up && self.befell != Some(index) => (Client::Idle, known),
            Client::Answered(index, told) => (Client::Idle, self.answer(index, told, known)),
        };
        self.clients[client] = (after, known);
        if self.befell.is_some_and(|index| self.history.operations[index].ending == Ending::Open) {
            // Nobody finds a fault that nobody is told of.
            if let (Client::Answered(index, told), known) = &self.clients[client] {
                let (index, told, known) = (*index, told.clone(), known.clone());
                self.clients[client] = (Client::Idle, self.answer(index, told, known));
            }
        }
    }

    fn ask(&mut self, client: usize, known: &BTreeMap<u8, u64>) -> usize {
        let (from, index) = (self.now(), self.history.operations.len());
        let asked = choose(&mut self.rng, known, u64::try_from(index).unwrap());
        self.history.operations.push(Operation { client, from, asked, ending: Ending::Open });
        index
    }

    fn answer(&mut self, index: usize, told: Told, mut known: BTreeMap<u8, u64>) -> BTreeMap<u8, u64> {
        let until = self.now();
        let operation = &mut self.history.operations[index];
        learn(&mut known, &operation.asked, &told);
        if operation.ending == Ending::Open {
            operation.ending = Ending::Told(until, told);
        }
        known
    }

    fn is_write(&self, index: usize) -> bool {
        matches!(self.history.operations[index].asked, Asked::Write(_))
    }

    /// Whether this fault is to befall this operation now.
    fn befalls(&mut self, fault: Fault, index: usize) -> bool {
        let befalls = self.fault == Some(fault);
        if befalls {
            self.fault = None;
            self.befell = Some(index);
        }
        befalls
    }

    fn carry_out(&mut self, index: usize) -> Told {
        let write = match self.history.operations[index].asked.clone() {
            Asked::Get(_) | Asked::Range => return self.read(index),
            Asked::Write(write) => write,
        };
        if let Some(key) = write.unmet(&self.rows) {
            return Told::Conflict(key);
        }
        // Nothing happens beside it that could make this true.
        if let [(key, _), ..] = write.expected[..]
            && self.is_alone(index)
            && self.befalls(Fault::Refused, index)
        {
            return Told::Conflict(key);
        }
        let mut changes = write.changes(&self.rows);
        // Of two who delete a key, either may be the one who did.
        let puts = changes.values().any(Option::is_some);
        if changes.is_empty() {
            return Told::Committed(self.revision);
        }
        // Others write elsewhere in the store.
        let revision = self.revision + 1 + self.rng.u64(..2);
        self.revision = revision;
        if puts && self.befalls(Fault::Lost, index) {
            return Told::Committed(revision);
        }
        if changes.len() > 1 && self.befalls(Fault::Half, index) {
            changes.pop_last();
        }
        self.change(index, revision, &changes);
        if puts && self.befalls(Fault::Twice, index) {
            self.revision += 1;
            self.change(index, self.revision, &changes);
        }
        if puts && self.befalls(Fault::NotDone, index) {
            self.history.operations[index].ending = Ending::NotDone;
        }
        Told::Committed(revision)
    }

    /// Whether no other write is on its way, and whoever made the last change was told of it before this one was asked.
    fn is_alone(&self, index: usize) -> bool {
        let others = |(client, _): &(Client, _)| matches!(client, Client::Asked(other) if *other != index);
        let last = self.earlier.last();
        let is_quiet = last.is_none_or(|(_, _, by)| self.was_told(*by, self.history.operations[index].from));
        is_quiet && self.floating.is_empty() && !self.clients.iter().any(others)
    }

    fn was_told(&self, index: usize, by: u64) -> bool {
        matches!(self.history.operations[index].ending, Ending::Told(until, _) if until < by)
    }

    fn change(&mut self, index: usize, revision: u64, changes: &BTreeMap<u8, Option<u64>>) {
        self.earlier.push((
            self.history.seen.last().map_or(10, |seen| seen.revision),
            self.rows.clone(),
            index,
        ));
        let mut seen = Seen { revision, rows: BTreeMap::new() };
        for (key, value) in changes {
            let was = self.rows.remove(key);
            let created = was.map_or(revision, |was| was.created);
            let row = value.map(|value| super::Row { value, created, modified: revision });
            self.rows.extend(row.map(|row| (*key, row)));
            seen.rows.insert(*key, row);
        }
        if seen.rows.values().any(Option::is_some) && self.befalls(Fault::Untold, index) {
            return;
        }
        self.history.seen.push(seen.clone());
        if self.befalls(Fault::Repeated, index) {
            self.history.seen.push(seen);
        }
    }

    fn read(&mut self, index: usize) -> Told {
        let (mut revision, mut rows) = (self.revision, self.rows.clone());
        let asked = self.history.operations[index].asked.clone();
        if let Some((before, earlier, by)) = self.earlier.last().cloned() {
            let from = self.history.operations[index].from;
            let was_told = self.was_told(by, from);
            let differs = match &asked {
                Asked::Get(key) => earlier.contains_key(key) && earlier.get(key) != rows.get(key),
                _ => true,
            };
            let changed = (0..super::KEYS).filter(|key| earlier.get(key) != rows.get(key)).count();
            if was_told && differs && self.befalls(Fault::Stale, index) {
                (revision, rows) = (before, earlier);
            } else if asked == Asked::Range && changed > 1 && self.befalls(Fault::Torn, index) {
                let key = (0..super::KEYS).find(|key| earlier.get(key) != rows.get(key)).unwrap();
                rows.remove(&key);
                rows.extend(earlier.get(&key).map(|row| (key, *row)));
            } else if asked == Asked::Range && self.befalls(Fault::Early, index) {
                revision = before;
            }
        }
        match asked {
            Asked::Get(key) => Told::Row(rows.get(&key).copied()),
            _ => Told::Rows { revision, rows },
        }
    }
}

#[test]
fn histories_of_a_right_store_are_taken() {
    let (mut open, mut conflicts) = (0, 0);
    for seed in 0..HISTORIES {
        let history = Simulated::new(seed, None).history().unwrap();
        check(&history).unwrap_or_else(|violation| panic!("{seed}: {violation}\n{history}"));
        let ends =
            |fits: fn(&Ending) -> bool| history.operations.iter().filter(|of| fits(&of.ending)).count();
        open += ends(|ending| *ending == Ending::Open);
        conflicts += ends(|ending| matches!(ending, Ending::Told(_, Told::Conflict(_))));
    }
    assert!(open > 1000 && conflicts > 1000, "{open} {conflicts}");
}

#[test]
fn every_fault_of_a_store_is_found() {
    for fault in FAULTS {
        let histories = (0..HISTORIES).filter_map(|seed| Simulated::new(seed, Some(fault)).history());
        let found =
            histories.map(|history| assert!(check(&history).is_err(), "{fault:?} is not found\n{history}"));
        let count = found.count();
        assert!(count > 25, "{fault:?} came {count} times only");
    }
}
