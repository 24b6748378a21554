//! A rollout that is on its way goes on as somebody says.

use service_registry::{Actor, What};

use super::{Fleet, FleetRefused, OnItsWay, Steer};
use crate::Launch;
use crate::rollout::{Pace, Rollout, Samples, Seen, Stage};

impl<L: Launch> Fleet<L> {
    pub(super) fn steer(&mut self, steer: Steer, actor: Actor) -> Result<(), FleetRefused> {
        let now = self.now();
        let snapshot = self.registry.snapshot();
        self.note_who_serves(&snapshot);
        let members = self.members(&snapshot);
        let Some(OnItsWay { rollout, by, .. }) = &mut self.on_its_way else {
            return Err(FleetRefused::NoRollout(self.service.clone()));
        };
        let seen = Seen { now, members: &members, samples: Samples::default() };
        let is_another = is_another_way(rollout, &seen, steer);
        if !is_another.map_err(|why| FleetRefused::NotNow(self.service.clone(), why))? {
            return Ok(());
        }
        match steer {
            Steer::Pause => rollout.pause(),
            Steer::Resume => rollout.resume(now),
            Steer::Promote => rollout.promote(),
            Steer::Undo => {
                rollout.undo();
                *by = (actor.clone(), Some(steer.to_string()));
            }
        }
        self.record(What::Rollout(steer.to_string()), None, actor);
        Ok(())
    }
}

/// Whether that is another way than it goes already, or why it cannot.
fn is_another_way(rollout: &Rollout, seen: &Seen<'_>, steer: Steer) -> Result<bool, &'static str> {
    let is_given_up = matches!(rollout.stage(), Stage::Reverting(_));
    match (steer, rollout.pace()) {
        (Steer::Undo, _) => Ok(!is_given_up),
        (Steer::Pause | Steer::Resume | Steer::Promote, _) if is_given_up => {
            Err("is given up already, and the old version takes its place again; wait for its end")
        }
        (Steer::Pause, pace) => Ok(pace == Pace::Going),
        (Steer::Resume, Pace::Paused) => Ok(true),
        (Steer::Resume, Pace::Going) => {
            Err("is not paused; `serviceos rollout promote` skips what it waits for")
        }
        (Steer::Promote, Pace::Going) if *rollout.stage() == Stage::Filling => {
            Err("has no steps and waits left; the new version takes the place of the old one already")
        }
        (Steer::Promote, Pace::Paused) if *rollout.stage() == Stage::Filling => {
            Err("has no steps and waits left, and is paused; `serviceos rollout resume` lets it go on")
        }
        // They would have all calls.
        (Steer::Promote, pace) if *rollout.stage() == Stage::Preview && !rollout.is_complete(seen) => {
            Err(match pace {
                Pace::Going => "waits for replicas of the new version; promote it once all of them serve",
                Pace::Paused => {
                    "has too few replicas of the new version that serve, and starts none while it is paused; `serviceos rollout resume` lets it go on"
                }
            })
        }
        (Steer::Promote, _) => Ok(true),
    }
}
