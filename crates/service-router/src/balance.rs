//! Load balancing: which of a service's targets gets a request.
//!
//! A request first gets a version (`version.rs`), then a priority level of it (`priority.rs`), then a target of that level
//! (`level.rs`) by the service's policy. Everything that needs a look at all targets is done when a [`Balancer`] is made,
//! with each snapshot; a pick looks at a few.
//!
//! Pure: no clock, no IO, and randomness is handed in. It belongs to one worker. Of the four facts that make a replica
//! selectable it may overrule health alone (the panic threshold), so a replica for which another one is false, or whose
//! process is known to be dead, must not be among the targets.

mod level;
mod maglev;
mod priority;
mod round_robin;
mod slow_start;
mod two_choices;
mod version;
mod weighted;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::maglev::{Table, Tables};
use crate::balance::version::Versions;

/// How a target is chosen among those of one priority level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The cheaper of two, by the peak-EWMA estimate of latency and the requests in flight.
    PeakEwma,
    /// In turn, the turns of heavier targets spread evenly over the round.
    RoundRobin,
    /// The one of two with fewer requests in flight.
    LeastRequest,
    /// By the request's hash: the same target for the same hash, unless it has too much to do.
    Maglev,
    /// Any.
    Random,
}

/// One endpoint as the balancer sees it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Who it is, the same in every snapshot and for every worker.
    pub(crate) key: u64,
    /// Its part of the traffic, relative to the others; with 0 it gets none and counts for nothing.
    pub(crate) weight: u32,
    /// Its level: 0 is used first.
    pub(crate) priority: u32,
    /// The index of the label of its version.
    pub(crate) version: u32,
    /// The index of what its version is known by: another one for each thing that the label may stand for.
    pub(crate) id: u32,
    /// Whether its version is the one that has [`Settings::apart`].
    pub(crate) apart: bool,
    /// What the health owner says.
    pub(crate) healthy: bool,
    /// When it began to serve.
    pub(crate) since: Instant,
}

/// How a service is balanced.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How a target is chosen.
    pub(crate) policy: Policy,
    /// How long a new target takes to get to its full weight; zero: at once. Maglev knows no slow start, since it would
    /// move hashes twice.
    pub(crate) slow_start: Duration,
    /// When less than this percentage of the targets is healthy, health is ignored; 0: never.
    pub(crate) panic_threshold_percent: u8,
    /// The part of each version, by its index; empty: versions do not matter. A version that it leaves out has none, and is
    /// there for those that ask.
    pub(crate) version_weights: Vec<u32>,
    /// The part of the calls that the version has which takes the place of the others, in percent; then nothing goes by weights.
    pub(crate) apart: Option<u8>,
}

/// What the worker knows of the targets at the moment of a pick.
pub(crate) trait Loads {
    /// Whether the target may be picked for this call: not tried before, not suspected, its circuit not full.
    fn eligible(&self, index: usize) -> bool;

    /// The cost of one more request: the latency estimate times one more than [`Self::pending`].
    fn load(&self, index: usize) -> f64;

    /// Requests in flight.
    fn pending(&self, index: usize) -> u32;
}

/// What a request says about where it wants to go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Request {
    /// What Maglev goes by; random without.
    pub(crate) hash: Option<u64>,
    /// The version that it is for.
    pub(crate) version: Wanted,
    /// What the version stays the same for; random without.
    pub(crate) sticky_hash: Option<u64>,
}

/// Which version a call is for, by the number of a label or of what a version is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Whichever has a part of the calls.
    #[default]
    Any,
    /// This one while it can be selected, else any.
    Rather(u32),
    /// This one and no other.
    Only(u32),
}

/// Picks targets of one service for one worker. Made anew with each snapshot.
pub(crate) struct Balancer {
    policy: Policy,
    versions: Versions,
    /// How far each target is from its next turn, by index.
    turns: Vec<Cell<f64>>,
    keys: Vec<u64>,
    tables: Vec<Rc<Table>>,
}

/// One pick: what all its steps look at.
struct Pick<'a, L> {
    policy: Policy,
    loads: &'a L,
    hash: Option<u64>,
    now: Instant,
    turns: &'a [Cell<f64>],
}

impl Balancer {
    /// A balancer of these targets. `previous` is the one that it takes over from: turns go on where they were, and what is
    /// dear to build is kept for sets of targets that stay.
    pub(crate) fn new(settings: &Settings, targets: &[Target], previous: Option<&Self>) -> Self {
        let kept = previous.map_or(&[][..], |balancer| &balancer.tables);
        let mut tables = Tables::new(settings.policy, kept);
        let versions = Versions::new(settings, targets, &mut tables);
        let known: HashMap<u64, f64> = previous.into_iter().flat_map(Self::turns_by_key).collect();
        let turn = |target: &Target| Cell::new(known.get(&target.key).copied().unwrap_or(0.0));
        Self {
            policy: settings.policy,
            versions,
            turns: targets.iter().map(turn).collect(),
            keys: targets.iter().map(|target| target.key).collect(),
            tables: tables.into_made(),
        }
    }

    /// The index of the target for a request: always an eligible one, and there is one whenever one of those in reach is
    /// eligible. In reach are all that count as healthy, of a version that the traffic is split over; for a request that
    /// asks for a version, those of that version alone, since another one's answer is not what was asked for.
    pub(crate) fn pick(
        &self,
        loads: &impl Loads,
        request: &Request,
        random: &mut fastrand::Rng,
        now: Instant,
    ) -> Option<usize> {
        let pick = Pick { policy: self.policy, loads, hash: request.hash, now, turns: &self.turns };
        match request.version {
            Wanted::Any => self.versions.pick_any(&pick, request.sticky_hash, random),
            Wanted::Only(version) => self.versions.pick_asked(version, &pick, random),
            Wanted::Rather(version) => {
                let asked = self.versions.pick_asked(version, &pick, random);
                asked.or_else(|| self.versions.pick_any(&pick, request.sticky_hash, random))
            }
        }
    }

    /// Whether [`Self::pick`] would find one. Nothing is drawn, and nobody's turn goes by.
    pub(crate) fn reaches(&self, loads: &impl Loads, request: &Request) -> bool {
        match request.version {
            Wanted::Any => self.versions.reaches_any(loads),
            Wanted::Only(version) => self.versions.reaches_asked(version, loads),
            Wanted::Rather(version) => {
                self.versions.reaches_asked(version, loads) || self.versions.reaches_any(loads)
            }
        }
    }

    fn turns_by_key(&self) -> impl Iterator<Item = (u64, f64)> {
        self.keys.iter().copied().zip(self.turns.iter().map(Cell::get))
    }
}

/// Spreads the bits of a key or a hash, so that what is drawn from it for one purpose says nothing about another with a
/// different salt. The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(value: u64, salt: u64) -> u64 {
    let mut mixed = value.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
