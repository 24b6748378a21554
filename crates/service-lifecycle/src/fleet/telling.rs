//! What a fleet tells of the rollout that is on its way.

use service_registry::Snapshot;

use super::answered::Answered;
use super::{Fleet, FleetEnd, FleetRefused, OnItsWay, RolloutStatus, Steer};
use crate::Launch;
use crate::rollout::{Member, Pace, Rollout, Seen, Side, Stage};

impl<L: Launch> Fleet<L> {
    pub(super) fn tell(&self, snapshot: &Snapshot, members: &[Member], end: &FleetEnd) {
        let wanted = match &self.on_its_way {
            Some(OnItsWay { target, rollout, .. }) if !matches!(rollout.stage(), Stage::Reverting(_)) => {
                &target.version
            }
            _ => &self.stable.version,
        };
        let status = self.on_its_way.as_ref().map(|on_its_way| self.status(on_its_way, snapshot, members));
        end.told.send_if_modified(|told| {
            let is_news = (&told.wanted, &told.on_its_way) != (wanted, &status);
            (told.wanted, told.on_its_way) = (wanted.clone(), status);
            is_news
        });
    }

    fn status(&self, on_its_way: &OnItsWay, snapshot: &Snapshot, members: &[Member]) -> RolloutStatus {
        let OnItsWay { target, rollout, before, since } = on_its_way;
        let samples = Answered::of(snapshot, &self.service, &target.version).since(before);
        RolloutStatus {
            from: self.stable.version.clone(),
            to: target.version.clone(),
            stage: rollout.stage().clone(),
            pace: rollout.pace(),
            percent: rollout.share(),
            begun: members.iter().filter(|member| member.side == Side::Target).count(),
            since: *since,
            progress: rollout.progress(&Seen { now: self.now(), members, samples }),
        }
    }

    /// Whether a rollout may go on like that, and whether that is another way than it goes already.
    pub(super) fn is_another_way(&self, rollout: &Rollout, steer: Steer) -> Result<bool, FleetRefused> {
        let refused = |why| Err(FleetRefused::NotNow(self.service.clone(), why));
        let is_given_up = matches!(rollout.stage(), Stage::Reverting(_));
        match (steer, rollout.pace()) {
            (Steer::Undo, _) => Ok(!is_given_up),
            (Steer::Pause | Steer::Resume | Steer::Promote, _) if is_given_up => {
                refused("is given up already, and the old version takes its place again; wait for its end")
            }
            (Steer::Pause, pace) => Ok(pace == Pace::Going),
            (Steer::Resume, Pace::Paused) => Ok(true),
            (Steer::Resume, Pace::Going) => {
                refused("is not paused; `serviceos rollout promote` skips what it waits for")
            }
            (Steer::Promote, Pace::Going) if *rollout.stage() == Stage::Filling => {
                refused("has no steps and waits left; the new version takes the place of the old one already")
            }
            (Steer::Promote, Pace::Paused) if *rollout.stage() == Stage::Filling => refused(
                "has no steps and waits left, and is paused; `serviceos rollout resume` lets it go on",
            ),
            (Steer::Promote, _) => Ok(true),
        }
    }
}
