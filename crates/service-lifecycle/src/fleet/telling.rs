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
        Rollouts { wanted: self.wanted(), on_its_way: self.status(&[]), ended: Default::default() }
    }

    pub(super) fn finish(&mut self, outcome: Outcome, end: &FleetEnd) {
        let Some(OnItsWay { target, since, .. }) = self.on_its_way.take() else { return };
        let (from, to) = (self.stable.version.clone(), target.version.clone());
        if outcome == Outcome::Done {
            self.stable = target;
        }
        self.record(What::Rollout(outcome.to_string()), None, Actor::Rollout);
        self.divide_calls();
        // Who runs what it ran before was only started again.
        if from == to {
            end.told.send_modify(|told| told.on_its_way = None);
            end.progress.send_replace(None);
            return;
        }
        let wanted = self.stable.version.clone();
        end.progress.send_replace(None);
        end.told.send_modify(|told| {
            (told.wanted, told.on_its_way) = (wanted, None);
            if told.ended.len() == MAX_HISTORY {
                told.ended.pop_front();
            }
            told.ended.push_back(EndedRollout { from, to, outcome, times: (since, Timestamp::now()) });
        });
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
        let (wanted, status) = (self.wanted(), self.status(members));
        end.told.send_if_modified(|told| {
            let is_news = (&told.wanted, &told.on_its_way) != (&wanted, &status);
            (told.wanted, told.on_its_way) = (wanted, status);
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
