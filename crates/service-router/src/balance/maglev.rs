//! Maglev hashing (Eisenbud et al.: Maglev: A Fast and Reliable Software Network Load Balancer, 2016, section 3.4): a table
//! of slots that is filled by the members in turn, each taking the next free slot of a permutation of its own. A member
//! that leaves gives its slots to all others, and few others move.
//!
//! A member that has too much to do is passed over for the next slot (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing
//! with Bounded Loads, 2016).

use std::rc::Rc;

use super::{Policy, mix};

/// A prime, so that every step visits all slots; Envoy's and the paper's.
const SLOTS: usize = 65_537;
/// A slot that nobody has yet.
const FREE: u32 = u32::MAX;
/// The salts of a member's first slot, of its step, and of a request's slot.
const SALTS: [u64; 3] = [1, 2, 3];
/// How much more than its part of all requests in flight a member may have, besides one.
const BOUND: f64 = 1.25;

/// Who has which slot, for one set of members. 256 KiB.
pub(super) struct Table {
    /// Keys and weights, by key: the table does not depend on the order in which the members are listed.
    set: Vec<(u64, u32)>,
    /// Indices of the set.
    slots: Box<[u32]>,
}

/// The tables of one balancer while it is made.
pub(super) struct Tables<'a> {
    policy: Policy,
    kept: &'a [Rc<Table>],
    made: Vec<Rc<Table>>,
}

/// A table, and where its members are in their level.
pub(super) struct Assigned {
    table: Rc<Table>,
    /// By index of the table's set.
    positions: Vec<u32>,
}

impl<'a> Tables<'a> {
    /// `kept` are the tables of the balancer before.
    pub(super) fn new(policy: Policy, kept: &'a [Rc<Table>]) -> Self {
        Self { policy, kept, made: Vec::new() }
    }

    /// The table for members with these keys and weights, the one that there is already when there is one; `None` when the
    /// policy needs none.
    pub(super) fn assign(&mut self, members: &[(u64, u32)]) -> Option<Assigned> {
        if self.policy != Policy::Maglev {
            return None;
        }
        let mut positions: Vec<u32> =
            (0..members.len()).filter_map(|index| u32::try_from(index).ok()).collect();
        positions.sort_by_key(|position| members[*position as usize]);
        let set: Vec<_> = positions.iter().map(|position| members[*position as usize]).collect();
        let known = self.made.iter().chain(self.kept).find(|table| table.set == set);
        let table = known.map_or_else(|| Rc::new(Table::new(set)), Rc::clone);
        self.made.push(Rc::clone(&table));
        Some(Assigned { table, positions })
    }

    pub(super) fn into_made(self) -> Vec<Rc<Table>> {
        self.made
    }
}

impl Table {
    fn new(set: Vec<(u64, u32)>) -> Self {
        let slots = fill(&set);
        Self { set, slots }
    }
}

/// One member while slots are given away.
struct Taker {
    slot: usize,
    step: usize,
    weight: u64,
    /// How much it must have waited for its next slot.
    due: u64,
}

impl Taker {
    fn new((key, weight): (u64, u32)) -> Self {
        let slot = (mix(key, SALTS[0]) % SLOTS as u64) as usize;
        let step = (mix(key, SALTS[1]) % (SLOTS as u64 - 1)) as usize + 1;
        Self { slot, step, weight: u64::from(weight), due: 0 }
    }

    fn advance(&mut self) {
        self.slot += self.step;
        if self.slot >= SLOTS {
            self.slot -= SLOTS;
        }
    }
}

/// Everyone gets a slot in the first round; from then on the heaviest in each round, the lighter ones less often.
fn fill(set: &[(u64, u32)]) -> Box<[u32]> {
    let mut slots = vec![FREE; SLOTS].into_boxed_slice();
    let mut takers: Vec<Taker> = set.iter().copied().map(Taker::new).collect();
    let heaviest = set.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0);
    let mut left = SLOTS;
    for round in 1_u64.. {
        for (taker, index) in takers.iter_mut().zip(0..) {
            if round * taker.weight < taker.due {
                continue;
            }
            taker.due += heaviest;
            while slots[taker.slot] != FREE {
                taker.advance();
            }
            slots[taker.slot] = index;
            left -= 1;
            if left == 0 {
                return slots;
            }
        }
    }
    slots
}

impl Assigned {
    /// The position for a hash: of the members that fit, the first one from the hash's slot on that has not too much to do.
    /// `None` when no member that fits has a slot.
    pub(super) fn pick(
        &self,
        hash: u64,
        fits: impl Fn(usize) -> bool,
        pending: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let start = (mix(hash, SALTS[2]) % SLOTS as u64) as usize;
        let mut part = None;
        (start..SLOTS).chain(0..start).find_map(|slot| {
            let index = self.table.slots[slot] as usize;
            let position = self.positions[index] as usize;
            if !fits(position) {
                return None;
            }
            let has = pending(position);
            // All requests in flight are counted only when there is doubt; one is always within the bound.
            let within = has <= 1 || {
                let part = *part.get_or_insert_with(|| self.pending_by_weight(&fits, &pending));
                f64::from(has) <= BOUND * part * f64::from(self.table.set[index].1) + 1.0
            };
            within.then_some(position)
        })
    }

    /// Requests in flight for each unit of weight, over the members that fit: one of them always has no more than that.
    fn pending_by_weight(&self, fits: impl Fn(usize) -> bool, pending: impl Fn(usize) -> u32) -> f64 {
        let (mut total, mut weight) = (0.0, 0.0);
        for (position, member) in self.positions.iter().zip(&self.table.set) {
            if fits(*position as usize) {
                total += f64::from(pending(*position as usize));
                weight += f64::from(member.1);
            }
        }
        total / weight
    }
}
