//! Priority levels: level 0 gets all traffic while enough of it is healthy, and the rest spills over to the next.
//!
//! The arithmetic is Envoy's (its documentation, "Priority levels"): the health of a level is its healthy part times 1.4, at
//! most 1; each level takes as much as its health of what those before it leave, and when all of them together cannot take
//! everything, each takes its part of what they can. Not rounded to whole percents, as Envoy does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::level::Level;
use super::maglev::Tables;
use super::{Loads, Pick, Policy, Target, mix};

/// The salt of the draw.
const SALT: u64 = 6;
/// A level is made for this much more than its traffic, in tenths.
const OVERPROVISIONING_TENTHS: usize = 14;

/// The targets of one version, by level.
pub(super) struct Pool {
    /// Those with a target that counts as healthy, the first in order first.
    levels: Vec<Share>,
}

struct Share {
    /// The part of the traffic that this level and those before it get together.
    upto: f64,
    level: Level,
}

impl Pool {
    pub(super) fn new(
        targets: &[Target],
        indices: &[usize],
        counts: impl Fn(usize) -> bool,
        slow_start: Duration,
        tables: &mut Tables<'_>,
    ) -> Self {
        let mut by_priority: BTreeMap<u32, (Vec<usize>, usize)> = BTreeMap::new();
        for index in indices {
            let (healthy, all) = by_priority.entry(targets[*index].priority).or_default();
            *all += 1;
            if counts(*index) {
                healthy.push(*index);
            }
        }
        let health: Vec<(usize, usize)> =
            by_priority.values().map(|(healthy, all)| (healthy.len(), *all)).collect();
        let mut upto = 0.0;
        let levels = by_priority.into_values().zip(shares(&health)).filter_map(|((healthy, _), share)| {
            upto += share;
            let level = || Level::new(targets, &healthy, slow_start, tables);
            (!healthy.is_empty()).then(level).map(|level| Share { upto, level })
        });
        Self { levels: levels.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// A target of the level that the draw says, or of the first other one that has an eligible target.
    #[inline]
    pub(super) fn pick<L: Loads>(&self, pick: &Pick<'_, L>, random: &mut fastrand::Rng) -> Option<usize> {
        if let [only] = self.levels.as_slice() {
            return only.level.pick(pick, random);
        }
        let chosen = self.choose(pick, random);
        let others = self.levels.iter().enumerate().filter(|(index, _)| *index != chosen);
        let first = self.levels.get(chosen)?.level.pick(pick, random);
        first.or_else(|| others.map(|(_, share)| share).find_map(|share| share.level.pick(pick, random)))
    }

    pub(super) fn reaches(&self, loads: &impl Loads) -> bool {
        self.levels.iter().any(|share| share.level.reaches(loads))
    }

    fn choose<L>(&self, pick: &Pick<'_, L>, random: &mut fastrand::Rng) -> usize {
        // With Maglev the same hash must get the same level.
        let hash = pick.hash.filter(|_| pick.policy == Policy::Maglev);
        let point = (mix(hash.unwrap_or_else(|| random.u64(..)), SALT) >> 11) as f64 / (1_u64 << 53) as f64;
        self.levels.iter().position(|share| point < share.upto).unwrap_or(0)
    }
}

/// The parts of the traffic that levels get of which so many targets of so many are healthy. They add up to 1, or to 0 when
/// none is healthy.
pub(super) fn shares(levels: &[(usize, usize)]) -> Vec<f64> {
    let health = |(healthy, all): &(usize, usize)| {
        let tenths = healthy * OVERPROVISIONING_TENTHS;
        // In whole numbers until here, so that 5 of 7 are exactly enough.
        if tenths >= all * 10 { 1.0 } else { tenths as f64 / (all * 10) as f64 }
    };
    let total: f64 = levels.iter().map(health).sum::<f64>().min(1.0);
    if total == 0.0 {
        return vec![0.0; levels.len()];
    }
    let mut left = 1.0;
    let share = |level: &(usize, usize)| {
        let share = (health(level) / total).min(left);
        left -= share;
        share
    };
    levels.iter().map(share).collect()
}
