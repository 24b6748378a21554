//! What a fleet tells of its rollouts, and how one ends.

use jiff::Timestamp;
use service_registry::{Actor, Snapshot, Version, What};

use super::answered::Answered;
use super::command::MAX_HISTORY;
use super::{EndedRollout, Fleet, FleetEnd, OnItsWay, RolloutStatus, Rollouts};
use crate::Launch;
use crate::rollout::{Member, Outcome, Progress, Seen, Side, Stage};

impl<L: Launch> Fleet<L> {
    /// What it runs, and is about to.
    pub fn rollouts(&self) -> Rollouts {
        self.told(&[])
    }

    fn told(&self, members: &[Member]) -> Rollouts {
        Rollouts { wanted: self.wanted(), on_its_way: self.status(members), ended: self.ended.clone() }
    }

    /// Only the latest of those that have ended are known.
    pub(super) fn remember(&mut self, OnItsWay { target, since, .. }: &OnItsWay, outcome: Outcome) {
        if self.ended.len() == MAX_HISTORY {
            self.ended.pop_front();
        }
        let (from, to) = (self.stable.version.clone(), target.version.clone());
        self.ended.push_back(EndedRollout { from, to, outcome, times: (*since, Timestamp::now()) });
    }

    pub(super) fn finish(&mut self, outcome: Outcome, end: &FleetEnd) {
        let Some(on_its_way) = self.on_its_way.take() else { return };
        self.remember(&on_its_way, outcome.clone());
        if outcome == Outcome::Done {
            self.stable = on_its_way.target;
        }
        self.record(What::Rollout(outcome.to_string()), None, Actor::Rollout);
        self.divide_calls();
        end.progress.send_replace(None);
        end.told.send_replace(self.rollouts());
        end.ended.send_modify(|ended| *ended += 1);
    }

    /// The calls are divided as the rollout says.
    pub(super) fn divide_calls(&self) {
        let divided = self.on_its_way.as_ref().and_then(|OnItsWay { target, rollout, .. }| {
            let percent = rollout.share().filter(|_| target.version != self.stable.version)?;
            Some((target.version.clone(), percent))
        });
        self.registry.split(&self.service, divided);
    }

    pub(super) fn tell(&self, snapshot: &Snapshot, members: &[Member], end: &FleetEnd) {
        let progress =
            self.on_its_way.as_ref().map(|on_its_way| self.progress(on_its_way, snapshot, members));
        end.progress.send_if_modified(|told| {
            let is_news = *told != progress;
            *told = progress;
            is_news
        });
        let now = self.told(members);
        end.told.send_if_modified(|told| {
            let is_news = *told != now;
            *told = now;
            is_news
        });
    }

    fn progress(&self, on_its_way: &OnItsWay, snapshot: &Snapshot, members: &[Member]) -> Progress {
        let OnItsWay { target, rollout, before, .. } = on_its_way;
        let samples = Answered::of(snapshot, &self.service, &target.version).since(before);
        rollout.progress(&Seen { now: self.now(), members, samples })
    }

    fn wanted(&self) -> Version {
        match &self.on_its_way {
            Some(OnItsWay { target, rollout, .. }) if !matches!(rollout.stage(), Stage::Reverting(_)) => {
                target.version.clone()
            }
            _ => self.stable.version.clone(),
        }
    }

    fn status(&self, members: &[Member]) -> Option<RolloutStatus> {
        let OnItsWay { target, rollout, since, .. } = self.on_its_way.as_ref()?;
        Some(RolloutStatus {
            from: self.stable.version.clone(),
            to: target.version.clone(),
            stage: rollout.stage().clone(),
            pace: rollout.pace(),
            percent: rollout.share(),
            begun: members.iter().filter(|member| member.side == Side::Target).count(),
            since: *since,
        })
    }
}
