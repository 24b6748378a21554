//! The change of a service from one version to another. Pure: what is there, and the time, in; what is to be done next, out.
//!
//! ```text
//! rolling     Filling ───────────────────────────────────────────▶ Over
//! canary      Step 0 ──gate──▶ Step 1 ──gate──▶ … ──gate──▶ Filling ─▶ Over
//! blue-green  Preview ──promoted──▶ Switched ──kept for a while──▶ Filling ─▶ Over
//!                └── failed gate, crash loop, refused attestation, too late, undone ──▶ Reverting ─▶ Over
//! ```
//!
//! It starts nothing and counts nothing itself, and it reads no clock: the same observations always lead to the same actions.

mod capacity;
mod gate;
mod plan;
mod progress;

use std::fmt;
use std::time::Duration;

use types::ReplicaId;

pub use capacity::{Member, Side, Standing};
pub use gate::{Gate, Sample, Samples};
pub use plan::{Plan, Promotion, Step, Strategy};
pub use progress::{Count, Progress, Waits};

use capacity::{Bounds, Places, fill, give_way, hold, keep};
use gate::Verdict;

/// What is there at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Since some moment that stays the same, such as the start of the machine.
    pub now: Duration,
    /// The replicas of the service, those that are draining among them.
    pub members: &'a [Member],
    /// How both versions have answered since [`Rollout::stage`] was another the last time.
    pub samples: Samples,
}

/// What is to be done where no rollout is on its way, to have so many replicas.
pub fn steady(members: &[Member], plan: &Plan) -> Vec<Action> {
    let actions = keep(members, Side::Stable, plan.replicas);
    if actions.is_empty() { give_way(members, plan.replicas, plan.max_surge) } else { actions }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start one more replica of this side.
    Start(Side),
    /// Drain this replica, and stop it for good.
    Drain(ReplicaId),
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// A canary's step of this number takes its part of the calls, or waits for its replicas.
    Step(usize),
    /// All replicas of the new version are started beside the others, and are called by nobody who does not name it.
    Preview,
    /// The new version has all calls; the replicas of the old one wait, in case they are needed again.
    Switched,
    /// The new version takes the place of the old one, replica by replica.
    Filling,
    /// The old version takes its place again.
    Reverting(Failure),
    /// It is over.
    Over(Outcome),
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every replica runs the new version.
    Done,
    /// Every replica runs the old version again.
    Reverted(Failure),
    /// The same, but for so long nothing of the old version has come back that is missing; it is tried further.
    Incomplete(Failure),
    /// Another one has taken its place, which whoever has both says.
    Replaced,
}

/// Why the new version is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A replica of it cannot serve, for this reason.
    Replica(ReplicaId, String),
    /// It answers worse than the old one.
    Gate(String),
    /// For so long nothing has come forward.
    Late(Duration),
    /// Somebody wants it so.
    Undone,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(number) => write!(formatter, "step {}", number + 1),
            Self::Preview => formatter.write_str("preview: the new version is called by whoever names it"),
            Self::Switched => formatter.write_str("switched: the new version has all calls"),
            Self::Filling => formatter.write_str("the new version takes the place of the old one"),
            Self::Reverting(failure) => write!(formatter, "reverting: {failure}"),
            Self::Over(outcome) => outcome.fmt(formatter),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => formatter.write_str("done"),
            Self::Reverted(failure) => write!(formatter, "reverted: {failure}"),
            Self::Incomplete(failure) => {
                write!(formatter, "reverted, but not every replica of the old version serves: {failure}")
            }
            Self::Replaced => formatter.write_str("replaced by another one"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id, reason) => write!(formatter, "{id}: {reason}"),
            Self::Gate(why) => formatter.write_str(why),
            Self::Late(time) => write!(formatter, "nothing has come forward for {} s", time.as_secs()),
            Self::Undone => formatter.write_str("somebody wants it so"),
        }
    }
}

/// Whether a rollout goes on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It does.
    Going,
    /// It waits until somebody resumes it. It is given up all the same where the new version fails.
    Paused,
}

/// How far a rollout was that somebody else goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Where it was.
    pub stage: Stage,
    /// Whether it went on by itself.
    pub pace: Pace,
    /// The part of the calls that the new version had.
    pub percent: Option<u8>,
}

/// A rollout on its way.
#[derive(Debug, Clone)]
pub struct Rollout {
    plan: Plan,
    stage: Stage,
    pace: Pace,
    /// Whether somebody has said since it was paused how many replicas are wanted.
    is_scaled: bool,
    /// Since when all that the stage needs is there.
    complete_since: Option<Duration>,
    /// Whether a step has its part of the calls already though that is not known: it had, before the rollout was gone on with.
    had_its_part: bool,
    /// Whether the old version could serve alone.
    old_suffices: bool,
    /// For how long nothing has come forward.
    stands_still: Duration,
    /// The most replicas of the version that is to be there that were available at once.
    most: usize,
    /// When it was looked at the last time.
    looked: Option<Duration>,
}

impl Rollout {
    /// One that begins at this moment.
    pub fn begin(plan: Plan, now: Duration) -> Self {
        let stage = plan.strategy.first_stage();
        Self {
            plan,
            stage,
            pace: Pace::Going,
            is_scaled: false,
            complete_since: None,
            had_its_part: false,
            old_suffices: true,
            stands_still: Duration::ZERO,
            most: 0,
            looked: Some(now),
        }
    }

    /// One that somebody else has begun, and that goes on at this moment from where it was. The waits and the samples of its stage
    /// begin anew; a stage that the plan does not know any more begins as the plan says.
    pub fn resume_at(plan: Plan, at: &Reached, now: Duration) -> Self {
        let stage = plan.strategy.nearest(&at.stage);
        let had_its_part = matches!((&stage, &plan.strategy), (Stage::Step(number), Strategy::Canary { steps, .. })
            if stage == at.stage && at.percent == Some(steps[*number].weight));
        Self { stage, pace: at.pace, had_its_part, looked: None, ..Self::begin(plan, now) }
    }

    /// Where it is.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether it goes on by itself.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The part of the calls that the new version is to have, in percent; `None` where each replica has as much as any other.
    pub fn share(&self) -> Option<u8> {
        match (&self.stage, &self.plan.strategy) {
            (Stage::Step(number), Strategy::Canary { steps, .. }) => {
                // Before its replicas are there, a step has what the one before had.
                let has_its_part = self.complete_since.is_some() || self.had_its_part;
                let in_force = if has_its_part { Some(*number) } else { number.checked_sub(1) };
                Some(in_force.map_or(0, |number| steps[number].weight))
            }
            (Stage::Switched, _) => Some(100),
            (Stage::Step(_) | Stage::Preview, _) => Some(0),
            (Stage::Reverting(_), _) => self.old_suffices.then_some(0),
            (Stage::Filling | Stage::Over(_), _) => None,
        }
    }

    /// So many replicas are wanted from now on.
    pub fn scale(&mut self, replicas: u32) {
        self.plan.replicas = replicas;
        self.is_scaled = true;
    }

    /// Waits until somebody resumes it.
    pub fn pause(&mut self) {
        self.pace = Pace::Paused;
        self.is_scaled = false;
    }

    /// Goes on; the time for which it was paused does not count.
    pub fn resume(&mut self, now: Duration) {
        self.pace = Pace::Going;
        self.stands_still = Duration::ZERO;
        self.complete_since = self.complete_since.map(|_| now);
    }

    /// Skips what is left of steps and waits.
    pub fn promote(&mut self) {
        let next = match self.stage {
            Stage::Step(_) | Stage::Switched => Stage::Filling,
            Stage::Preview => Stage::Switched,
            Stage::Filling | Stage::Reverting(_) | Stage::Over(_) => return,
        };
        self.pace = Pace::Going;
        self.enter(next);
    }

    /// Gives the new version up.
    pub fn undo(&mut self) {
        self.revert(Failure::Undone);
    }

    /// What is to be done by what is seen now. To be asked again whenever something is another, and once a second.
    pub fn advance(&mut self, seen: &Seen<'_>) -> Vec<Action> {
        self.note_progress(seen);
        let needed = Places::of(self.plan.replicas, seen.members, Side::Stable).to_run;
        let needed = needed.saturating_sub(self.plan.max_unavailable as usize);
        self.old_suffices = self.available(seen, Side::Stable) >= needed;
        if let Some(failure) = self.failure(seen) {
            self.revert(failure);
        }
        if self.pace == Pace::Going || matches!(self.stage, Stage::Reverting(_)) {
            self.go_on(seen);
        }
        self.actions(seen)
    }

    /// What has to be started while it is not known yet which replicas serve that were there before the rollout was gone on with:
    /// nothing goes meanwhile, and nothing comes forward.
    pub fn missing(&self, seen: &Seen<'_>) -> Vec<Action> {
        let mut actions = self.actions(seen);
        actions.retain(|action| matches!(action, Action::Start(_)));
        actions
    }

    fn actions(&self, seen: &Seen<'_>) -> Vec<Action> {
        match &self.stage {
            Stage::Step(_) | Stage::Preview | Stage::Switched => {
                let there =
                    seen.members.iter().filter(|member| member.side == Side::Target && member.stays());
                let there = u32::try_from(there.count()).unwrap_or(u32::MAX);
                // What is paused has what it has.
                let most = if self.pace == Pace::Paused { there } else { u32::MAX };
                let mut actions = keep(seen.members, Side::Target, self.targets().min(most));
                actions.extend(keep(seen.members, Side::Stable, self.plan.replicas));
                actions
            }
            Stage::Filling if self.pace == Pace::Paused => {
                // Whoever says meanwhile how many there are to be means all of them.
                let more = if self.is_scaled { 0 } else { self.plan.max_surge };
                hold(seen.members, self.plan.replicas, more)
            }
            Stage::Filling => fill(seen, Side::Target, &self.bounds()),
            Stage::Reverting(_) => fill(seen, Side::Stable, &self.bounds()),
            Stage::Over(_) => Vec::new(),
        }
    }

    /// To the next stage, where this one has all that it needs.
    fn go_on(&mut self, seen: &Seen<'_>) {
        let complete = self.is_complete(seen);
        self.complete_since = if complete { self.complete_since.or(Some(seen.now)) } else { None };
        if complete {
            self.had_its_part = false;
        }
        let Some(since) = self.complete_since else { return self.give_up_what_is_missing() };
        let waited = seen.now.saturating_sub(since);
        let next = match (&self.stage, &self.plan.strategy) {
            (Stage::Step(number), Strategy::Canary { steps, gate }) => {
                let is_over = steps[*number].pause.is_some_and(|pause| waited >= pause);
                if !is_over || gate.verdict(&seen.samples) != Verdict::Passed {
                    return;
                }
                if *number + 1 < steps.len() { Stage::Step(number + 1) } else { Stage::Filling }
            }
            (Stage::Preview, Strategy::BlueGreen { promotion: Promotion::After(wait), .. })
                if waited >= *wait =>
            {
                Stage::Switched
            }
            (Stage::Switched, Strategy::BlueGreen { keep, .. }) if waited >= *keep => Stage::Filling,
            (Stage::Filling, _) => Stage::Over(Outcome::Done),
            (Stage::Reverting(failure), _) => Stage::Over(Outcome::Reverted(failure.clone())),
            _ => return,
        };
        self.enter(next);
    }

    /// What of the old version has not come back for as long as a new one may take does not keep what is there from being all.
    fn give_up_what_is_missing(&mut self) {
        if let Stage::Reverting(failure) = &self.stage
            && self.stands_still >= self.plan.progress_deadline
        {
            self.enter(Stage::Over(Outcome::Incomplete(failure.clone())));
        }
    }

    /// Whether all that the stage needs is there.
    pub fn is_complete(&self, seen: &Seen<'_>) -> bool {
        let available = |side| self.available(seen, side);
        let all = |side| {
            let places = Places::of(self.plan.replicas, seen.members, side);
            let mut others = seen.members.iter().filter(|member| member.side != side);
            others.all(|member| places.keep(member)) && available(side) >= places.to_run
        };
        match self.stage {
            Stage::Step(_) | Stage::Preview | Stage::Switched => {
                let is_held =
                    |member: &&Member| member.side == Side::Target && member.standing == Standing::Held;
                let held = seen.members.iter().filter(is_held).count();
                let serve = available(Side::Target);
                let wanted = self.targets() as usize;
                serve >= wanted || serve > 0 && serve + held >= wanted
            }
            Stage::Filling => all(Side::Target),
            Stage::Reverting(_) => all(Side::Stable),
            Stage::Over(_) => true,
        }
    }

    fn available(&self, seen: &Seen<'_>, side: Side) -> usize {
        let of_side = seen.members.iter().filter(|member| member.side == side);
        of_side.filter(|member| member.is_available(seen.now, self.plan.min_ready)).count()
    }

    /// How many replicas of the new version are to stand beside the others.
    fn targets(&self) -> u32 {
        match (&self.stage, &self.plan.strategy) {
            (Stage::Step(number), Strategy::Canary { steps, .. }) => {
                steps[*number].replicas(self.plan.replicas)
            }
            _ => self.plan.replicas,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            replicas: self.plan.replicas,
            max_surge: self.plan.max_surge,
            max_unavailable: self.plan.max_unavailable,
            min_ready: self.plan.min_ready,
        }
    }

    /// Why the new version is to be given up.
    fn failure(&self, seen: &Seen<'_>) -> Option<Failure> {
        if matches!(self.stage, Stage::Reverting(_) | Stage::Over(_)) {
            return None;
        }
        let failing = seen.members.iter().find_map(|member| match (&member.side, &member.standing) {
            (Side::Target, Standing::Failing(reason)) => Some((member.id.clone(), reason.clone())),
            _ => None,
        });
        if let Some((id, reason)) = failing {
            return Some(Failure::Replica(id, reason));
        }
        if let Strategy::Canary { gate, .. } = &self.plan.strategy
            && let Verdict::Failed(why) = gate.verdict(&seen.samples)
        {
            return Some(Failure::Gate(why));
        }
        let is_late = self.waits_for_replicas() && self.stands_still >= self.plan.progress_deadline;
        is_late.then_some(Failure::Late(self.stands_still))
    }

    /// Whether it is replicas that it waits for, and neither samples, nor a pause, nor somebody.
    fn waits_for_replicas(&self) -> bool {
        self.pace == Pace::Going && self.complete_since.is_none()
    }

    fn note_progress(&mut self, seen: &Seen<'_>) {
        let is_reverting = matches!(self.stage, Stage::Reverting(_));
        let available = self.available(seen, if is_reverting { Side::Stable } else { Side::Target });
        let since = seen.now.saturating_sub(self.looked.replace(seen.now).unwrap_or(seen.now));
        if available > self.most {
            (self.most, self.stands_still) = (available, Duration::ZERO);
        } else if self
            .complete_since
            .is_some_and(|since| seen.now.saturating_sub(since) >= self.plan.progress_deadline)
        {
            // Before that it may be there by turns, such as one that is left alone again and again because its calls fail.
            self.stands_still = Duration::ZERO;
        } else if is_reverting || self.waits_for_replicas() {
            // Whoever drains has a time of its own for that.
            let drains = seen.members.iter().any(|member| member.standing == Standing::Draining);
            self.stands_still += if drains { Duration::ZERO } else { since };
        }
    }

    fn revert(&mut self, failure: Failure) {
        if !matches!(self.stage, Stage::Reverting(_) | Stage::Over(_)) {
            self.enter(Stage::Reverting(failure));
            self.most = 0;
        }
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.complete_since, self.stands_still) = (stage, None, Duration::ZERO);
        self.had_its_part = false;
    }
}

#[cfg(test)]
mod tests;
