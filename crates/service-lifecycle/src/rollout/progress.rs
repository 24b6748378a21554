//! How far a rollout is, for whoever watches it: what is there of both versions, and what has yet to come.

use std::time::Duration;

use super::{Gate, Pace, Promotion, Rollout, Samples, Seen, Side, Stage, Strategy};

/// How far a rollout is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// `rolling`, `canary` or `blueGreen`.
    pub strategy: &'static str,
    /// How many steps a canary has.
    pub steps: usize,
    /// The replicas of the old version.
    pub stable: Count,
    /// Those of the new one.
    pub target: Count,
    /// How both have answered since the stage began, while calls are divided.
    pub samples: Samples,
    /// What the new version has to hold.
    pub gate: Option<Gate>,
    /// What has yet to come before it goes on; all of it.
    pub waits: Vec<Waits>,
}

/// How many replicas of a version there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// That the stage leads to.
    pub wanted: usize,
    /// That there are, those that leave among them.
    pub there: usize,
    /// That have been selectable for long enough to count.
    pub available: usize,
}

/// What a rollout waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// That as many replicas of both versions are there as are wanted.
    Replicas,
    /// So many calls of the new version more.
    Samples(u64),
    /// So long; whole seconds.
    Time(Duration),
    /// That somebody promotes it.
    Promotion,
    /// That somebody resumes it.
    Resumption,
}

impl Strategy {
    /// The word of the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary { .. } => "canary",
            Self::BlueGreen { .. } => "blueGreen",
        }
    }
}

impl Rollout {
    /// How far it is by what is seen now.
    pub fn progress(&self, seen: &Seen<'_>) -> Progress {
        let (steps, gate) = match &self.plan.strategy {
            Strategy::Canary { steps, gate } => (steps.len(), Some(*gate)),
            Strategy::Rolling | Strategy::BlueGreen { .. } => (0, None),
        };
        Progress {
            strategy: self.plan.strategy.as_str(),
            steps,
            stable: self.count(seen, Side::Stable),
            target: self.count(seen, Side::Target),
            samples: seen.samples,
            gate,
            waits: self.waits(seen),
        }
    }

    fn count(&self, seen: &Seen<'_>, side: Side) -> Count {
        let replicas = self.plan.replicas as usize;
        let wanted = match (&self.stage, side) {
            (Stage::Filling | Stage::Over(_), Side::Target) | (Stage::Reverting(_), Side::Stable) => replicas,
            (Stage::Step(_) | Stage::Preview | Stage::Switched, Side::Target) => self.targets() as usize,
            (Stage::Step(_) | Stage::Preview | Stage::Switched, Side::Stable) => replicas,
            _ => 0,
        };
        // What an earlier rollout has left is old.
        let is_of_it = |of: Side| of == side || (side == Side::Stable && of == Side::Stray);
        let there = seen.members.iter().filter(|member| is_of_it(member.side)).count();
        Count { wanted, there, available: self.available(seen, side) }
    }

    fn waits(&self, seen: &Seen<'_>) -> Vec<Waits> {
        let is_given_up = matches!(self.stage, Stage::Reverting(_));
        if self.pace == Pace::Paused && !is_given_up {
            return vec![Waits::Resumption];
        }
        let Some(since) = self.complete_since else { return vec![Waits::Replicas] };
        let left = |wait: Duration| {
            let left = wait.saturating_sub(seen.now.saturating_sub(since)).as_millis().div_ceil(1_000);
            (left > 0).then(|| Waits::Time(Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX))))
        };
        match (&self.stage, &self.plan.strategy) {
            (Stage::Step(number), Strategy::Canary { steps, gate }) => {
                let Some(pause) = steps[*number].pause else { return vec![Waits::Promotion] };
                let missing = gate.min_requests.saturating_sub(seen.samples.target.requests);
                let samples = (missing > 0).then_some(Waits::Samples(missing));
                left(pause).into_iter().chain(samples).collect()
            }
            (Stage::Preview, Strategy::BlueGreen { promotion, .. }) => match promotion {
                Promotion::After(wait) => left(*wait).into_iter().collect(),
                Promotion::ByHand => vec![Waits::Promotion],
            },
            (Stage::Switched, Strategy::BlueGreen { keep, .. }) => left(*keep).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::rollout::{Member, Plan, Sample, Standing, Step};

    const SECOND: Duration = Duration::from_secs(1);

    fn members(stable: u32, target: u32) -> Vec<Member> {
        let member = |ordinal, side| {
            let id = types::ReplicaId::new("vrf".parse().unwrap(), ordinal);
            Member { id, side, standing: Standing::Selectable(Duration::ZERO) }
        };
        let stable = (0..stable).map(|ordinal| member(ordinal, Side::Stable));
        stable.chain((0..target).map(|ordinal| member(10 + ordinal, Side::Target))).collect()
    }

    fn rollout(strategy: Strategy) -> Rollout {
        let plan = Plan {
            replicas: 3,
            max_surge: 1,
            max_unavailable: 0,
            min_ready: 2 * SECOND,
            progress_deadline: 600 * SECOND,
            strategy,
        };
        Rollout::begin(plan, 10 * SECOND)
    }

    fn canary(pause: Option<Duration>) -> Rollout {
        let gate = Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 100 };
        rollout(Strategy::Canary { steps: vec![Step { weight: 10, pause }], gate })
    }

    /// What is waited for and how many of both there are, at these moments with so many of the new version and so many calls.
    fn check(mut rollout: Rollout, seen: &[(u64, u32, u64)], expected: &Expect) {
        let mut told = String::new();
        for (second, target, requests) in seen {
            let members = members(3, *target);
            let sample = Sample { requests: *requests, errors: 0, p99: None };
            let samples = Samples { stable: Sample::default(), target: sample };
            let seen = Seen { now: Duration::from_secs(*second), members: &members, samples };
            let _started_by_nobody = rollout.advance(&seen);
            let Progress { stable, target, waits, .. } = rollout.progress(&seen);
            let count = |count: Count| format!("{}/{}/{}", count.available, count.there, count.wanted);
            let stage = rollout.stage();
            told += &format!("{second}: {stage}: {} {} {waits:?}\n", count(stable), count(target));
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn a_canary_waits_for_replicas_then_for_its_pause_and_for_calls_and_says_how_many() {
        let seen = [(10, 0, 0), (11, 1, 0), (30, 1, 63), (70, 1, 99), (71, 1, 100), (72, 3, 0)];
        check(
            canary(Some(60 * SECOND)),
            &seen,
            &expect![[r#"
                10: step 1: 3/3/3 0/0/1 [Replicas]
                11: step 1: 3/3/3 1/1/1 [Time(60s), Samples(100)]
                30: step 1: 3/3/3 1/1/1 [Time(41s), Samples(37)]
                70: step 1: 3/3/3 1/1/1 [Time(1s), Samples(1)]
                71: the new version takes the place of the old one: 3/3/0 1/1/3 [Replicas]
                72: the new version takes the place of the old one: 3/3/0 3/3/3 [Replicas]
            "#]],
        );
    }

    #[test]
    fn what_goes_on_by_hand_waits_for_somebody() {
        check(
            canary(None),
            &[(10, 1, 0), (900, 1, 500)],
            &expect![[r#"
                10: step 1: 3/3/3 1/1/1 [Promotion]
                900: step 1: 3/3/3 1/1/1 [Promotion]
            "#]],
        );
        let by_hand = Strategy::BlueGreen { promotion: Promotion::ByHand, keep: 30 * SECOND };
        check(
            rollout(by_hand),
            &[(10, 2, 0), (11, 3, 0)],
            &expect![[r#"
                10: preview: the new version is called by whoever names it: 3/3/3 2/2/3 [Replicas]
                11: preview: the new version is called by whoever names it: 3/3/3 3/3/3 [Promotion]
            "#]],
        );
        let mut paused = canary(None);
        paused.pause();
        check(
            paused,
            &[(10, 1, 0)],
            &expect![[r#"
            10: step 1: 3/3/3 1/1/1 [Resumption]
        "#]],
        );
    }

    #[test]
    fn what_is_given_up_leads_to_the_old_version_alone() {
        let mut undone = canary(None);
        undone.undo();
        check(
            undone,
            &[(10, 1, 0)],
            &expect![[r#"
            10: reverting: somebody wants it so: 3/3/3 1/1/0 [Replicas]
        "#]],
        );
    }
}
