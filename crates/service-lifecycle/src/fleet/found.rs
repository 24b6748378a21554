//! What was there before a fleet was: processes that an earlier `up` has left, and a rollout that was on its way then.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use service_registry::{Actor, Snapshot, Version, What};

use super::answered::Answered;
use super::command::MAX_HISTORY;
use super::{EndedRollout, Fleet, OnItsWay, Release};
use crate::rollout::{Reached, Rollout, Side};
use crate::{Launch, Order, Wanted};

/// How long a rollout waits for those that were left, as for whoever would be missed is waited.
const AWAITED: Duration = Duration::from_secs(15);

/// What was there before.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The replicas of which a process was left, by number, and which version each runs. They are in the registry.
    pub left: Vec<(u32, Version)>,
    /// The rollout that is on its way.
    pub rollout: Option<FoundRollout>,
    /// Those that have ended, the latest last.
    pub ended: VecDeque<EndedRollout>,
}

/// A rollout that is on its way when a fleet begins.
#[derive(Debug, Clone)]
pub struct FoundRollout {
    /// The version that it leads to.
    pub to: Version,
    /// How far it was; `None` for one that begins now.
    pub reached: Option<Reached>,
    /// When it began.
    pub since: Timestamp,
}

/// The same until it is taken over, and who is awaited then.
#[derive(Default)]
pub(super) struct Left {
    replicas: Vec<(u32, Version)>,
    awaited: BTreeSet<u32>,
    /// Whether the rollout begins now.
    begins: bool,
}

impl<L: Launch> Fleet<L> {
    /// The same fleet with what was there before. Until it is known which of the replicas serve, the rollout lets none go.
    #[must_use]
    pub fn with(mut self, found: Found) -> Self {
        let Found { left, rollout, ended } = found;
        let too_many = ended.len().saturating_sub(MAX_HISTORY);
        self.ended = ended.into_iter().skip(too_many).collect();
        if let Some(FoundRollout { to, reached, since }) = rollout {
            let begins = reached.is_none();
            let (plan, now) = (self.plan.clone(), self.now());
            let rollout = match reached {
                Some(reached) => Rollout::resume_at(plan, &reached, now),
                None => Rollout::begin(plan, now),
            };
            self.by = (Actor::Configuration, Some(format!("rollout of {}", to.id())));
            let target = Release { number: self.next_number, version: to };
            self.next_number += 1;
            let (before, by) = (Answered::default(), self.by.clone());
            self.on_its_way = Some(OnItsWay { target, rollout, before, since, by });
            self.left.begins = begins;
        }
        self.left.replicas = left;
        self
    }

    /// Begins the drivers of those that were left, each with what it runs.
    pub(super) fn take_over_what_was_left(&mut self) {
        if let Some(on_its_way) = &self.on_its_way {
            let (from, to) = (self.stable.version.id(), on_its_way.target.version.id());
            let rollout = &on_its_way.rollout;
            let told = if self.left.begins {
                format!("{from} to {to}")
            } else {
                format!("{from} to {to} goes on: {}", rollout.stage())
            };
            self.record(What::Rollout(told), None, Actor::Configuration);
        }
        for (ordinal, version) in std::mem::take(&mut self.left.replicas) {
            let target = self.on_its_way.as_ref().map(|on_its_way| &on_its_way.target);
            let release = match target.filter(|target| target.version == version) {
                Some(target) => target.clone(),
                None if version == self.stable.version => self.stable.clone(),
                None => {
                    self.next_number += 1;
                    Release { number: self.next_number - 1, version }
                }
            };
            self.left.awaited.insert(ordinal);
            self.drive(ordinal, release, Order::run(Actor::Configuration, None));
        }
    }

    /// Whether it is not known yet of somebody who was left whether it serves.
    pub(super) fn is_somebody_awaited(&mut self, snapshot: &Snapshot) -> bool {
        if self.now() >= AWAITED {
            self.left.awaited.clear();
        }
        let mut awaited = std::mem::take(&mut self.left.awaited);
        awaited.retain(|ordinal| {
            let is_known = |driven: &super::Driven| driven.selectable_since.is_some() || driven.is_leaving();
            let replica = snapshot.replica(&self.id(*ordinal));
            let fails = replica.is_none_or(|replica| replica.crash_loop.is_some());
            !fails && !self.driven.get(ordinal).is_none_or(is_known)
        });
        self.left.awaited = awaited;
        !self.left.awaited.is_empty()
    }

    /// Who is held and ran what is not here any more runs, once it is restarted, what runs by then.
    pub(super) fn hold_for_what_runs(&mut self) {
        let is_stray = |fleet: &Self, ordinal: &u32| {
            let driven = fleet.driven.get(ordinal);
            driven.is_some_and(|driven| {
                driven.is_held() && driven.heir.is_none() && fleet.side(driven.release) == Side::Stray
            })
        };
        let held: Vec<u32> = self.driven.keys().filter(|ordinal| is_stray(self, ordinal)).copied().collect();
        for ordinal in held {
            let Some(driven) = self.driven.get_mut(&ordinal) else { continue };
            let order = driven.orders.borrow().clone();
            let (actor, cause) = (order.actor.clone(), order.cause.clone().unwrap_or_default());
            driven.heir = Some(order);
            driven.orders.send_modify(|order| order.becomes(Wanted::Gone, actor, cause));
        }
    }
}
