//! The targets of one priority level of one version, and the choice among them.

use std::time::Duration;

use tokio::time::Instant;

use super::maglev::{Assigned, Tables};
use super::slow_start::{Ramp, SlowStart};
use super::two_choices::{Candidate, crowding, weigh};
use super::weighted::Alias;
use super::{Loads, Pick, Policy, Target, round_robin};

/// Draws before every member is looked at: enough while few are out.
const DRAWS: usize = 8;

/// Targets that count as healthy, at least one.
pub(super) struct Level {
    members: Vec<Member>,
    mean_weight: f64,
    /// `None` while all weights are equal.
    alias: Option<Alias>,
    slow_start: Option<SlowStart>,
    assigned: Option<Assigned>,
}

struct Member {
    /// Its index among the targets of the service. Those among the members are called positions.
    index: usize,
    weight: u32,
    since: Instant,
}

impl Level {
    pub(super) fn new(
        targets: &[Target],
        indices: &[usize],
        slow_start: Duration,
        tables: &mut Tables<'_>,
    ) -> Self {
        let here = indices.iter().map(|index| &targets[*index]);
        let weights: Vec<u32> = here.clone().map(|target| target.weight).collect();
        let keyed: Vec<_> = here.clone().map(|target| (target.key, target.weight)).collect();
        let members = indices.iter().zip(here.clone()).map(|(index, target)| Member {
            index: *index,
            weight: target.weight,
            since: target.since,
        });
        Self {
            members: members.collect(),
            mean_weight: weights.iter().copied().map(f64::from).sum::<f64>() / weights.len() as f64,
            alias: Alias::new(&weights),
            slow_start: SlowStart::new(slow_start, here.map(|target| target.since)),
            assigned: tables.assign(&keyed),
        }
    }

    /// The index of an eligible target, by the policy; there is one whenever one is eligible.
    #[inline]
    pub(super) fn pick<L: Loads>(&self, pick: &Pick<'_, L>, random: &mut fastrand::Rng) -> Option<usize> {
        let position = match pick.policy {
            Policy::PeakEwma => self.two_choices(
                pick,
                random,
                |index| pick.loads.load(index),
                |index, crowding| {
                    let pending = f64::from(pick.loads.pending(index));
                    pick.loads.load(index) * (pending * crowding + 1.0) / (pending + 1.0)
                },
            ),
            Policy::LeastRequest => self.two_choices(
                pick,
                random,
                |index| f64::from(pick.loads.pending(index)),
                |index, crowding| f64::from(pick.loads.pending(index)) * crowding + 1.0,
            ),
            Policy::Random => self.draw(pick, random),
            Policy::RoundRobin => self.next_in_turn(pick),
            Policy::Maglev => self.by_hash(pick, random),
        };
        position.map(|position| self.members[position].index)
    }

    /// Whether one of them is eligible.
    pub(super) fn reaches(&self, loads: &impl Loads) -> bool {
        self.members.iter().any(|member| loads.eligible(member.index))
    }

    /// The cheaper of two. `cost` is what equals are compared by; the other one takes how much a request in flight counts.
    #[inline]
    fn two_choices<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        random: &mut fastrand::Rng,
        cost: impl Fn(usize) -> f64,
        weighted_cost: impl Fn(usize, f64) -> f64,
    ) -> Option<usize> {
        let ramp = self.ramp(pick.now);
        if self.has_equals(ramp.as_ref()) {
            let first = self.draw_any(pick, random, None)?;
            let Some(second) = self.draw_any(pick, random, Some(first)) else { return Some(first) };
            let cheaper = cost(self.members[second].index) < cost(self.members[first].index);
            return Some(if cheaper { second } else { first });
        }
        let first = self.draw_by_weight(pick, ramp.as_ref(), random)?;
        let Some(second) = self.draw_any(pick, random, Some(first)) else { return Some(first) };
        let candidate = |position: usize| {
            let weight = self.weight(position, ramp.as_ref());
            let crowding = crowding(weight, self.mean_weight);
            Candidate { position, weight, cost: weighted_cost(self.members[position].index, crowding) }
        };
        Some(weigh(candidate(first), candidate(second), random))
    }

    fn next_in_turn<L: Loads>(&self, pick: &Pick<'_, L>) -> Option<usize> {
        let ramp = self.ramp(pick.now);
        let fitting = (0..self.members.len()).filter(|position| self.fits(*position, pick));
        let members = fitting
            .map(|position| (position, self.members[position].index, self.weight(position, ramp.as_ref())));
        round_robin::next(members, pick.turns)
    }

    fn by_hash<L: Loads>(&self, pick: &Pick<'_, L>, random: &mut fastrand::Rng) -> Option<usize> {
        let hash = pick.hash.unwrap_or_else(|| random.u64(..));
        let pending = |position: usize| pick.loads.pending(self.members[position].index);
        let assigned = self.assigned.as_ref()?;
        // With nobody eligible all slots would be looked at, which are many more than the members.
        if !self.reaches(pick.loads) {
            return None;
        }
        let picked = assigned.pick(hash, |position| self.fits(position, pick), pending);
        // Of more members than slots some have none.
        picked.or_else(|| self.draw(pick, random))
    }

    /// One that is eligible, by weight.
    fn draw<L: Loads>(&self, pick: &Pick<'_, L>, random: &mut fastrand::Rng) -> Option<usize> {
        let ramp = self.ramp(pick.now);
        if self.has_equals(ramp.as_ref()) {
            self.draw_any(pick, random, None)
        } else {
            self.draw_by_weight(pick, ramp.as_ref(), random)
        }
    }

    /// One that is eligible, all equally likely.
    #[inline]
    fn draw_any<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        random: &mut fastrand::Rng,
        except: Option<usize>,
    ) -> Option<usize> {
        let count = self.members.len() - usize::from(except.is_some());
        if count == 0 {
            return None;
        }
        for _ in 0..DRAWS {
            let drawn = random.usize(0..count);
            let position = drawn + usize::from(except.is_some_and(|except| drawn >= except));
            if self.fits(position, pick) {
                return Some(position);
            }
        }
        let left = || {
            (0..self.members.len()).filter(|position| Some(*position) != except && self.fits(*position, pick))
        };
        let count = left().count();
        if count == 0 { None } else { left().nth(random.usize(0..count)) }
    }

    /// One that is eligible, as likely as its weight of now says.
    fn draw_by_weight<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        ramp: Option<&Ramp>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        for _ in 0..DRAWS {
            let position = match &self.alias {
                Some(alias) => alias.draw(random),
                None => random.usize(0..self.members.len()),
            };
            // Drawn by its full weight, it is kept as often as the part that it has of it.
            let kept = ramp.is_none_or(|ramp| random.f64() < ramp.part(self.members[position].since));
            if kept && self.fits(position, pick) {
                return Some(position);
            }
        }
        let left = || {
            let fitting = (0..self.members.len()).filter(|position| self.fits(*position, pick));
            fitting.map(|position| (position, self.weight(position, ramp)))
        };
        let mut point = random.f64() * left().map(|(_, weight)| weight).sum::<f64>();
        let inside = |(_, weight): &(usize, f64)| {
            point -= weight;
            point < 0.0
        };
        // The last one, should the sum have been rounded up.
        left().find(inside).or_else(|| left().next_back()).map(|(position, _)| position)
    }

    #[inline]
    fn fits<L: Loads>(&self, position: usize, pick: &Pick<'_, L>) -> bool {
        pick.loads.eligible(self.members[position].index)
    }

    #[inline]
    fn ramp(&self, now: Instant) -> Option<Ramp> {
        self.slow_start.as_ref()?.at(now)
    }

    /// Whether all have the same weight now.
    #[inline]
    fn has_equals(&self, ramp: Option<&Ramp>) -> bool {
        self.alias.is_none() && ramp.is_none()
    }

    fn weight(&self, position: usize, ramp: Option<&Ramp>) -> f64 {
        let member = &self.members[position];
        f64::from(member.weight) * ramp.map_or(1.0, |ramp| ramp.part(member.since))
    }
}
