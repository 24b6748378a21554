//! What a service begins with: from what runs, what is kept of it, and what is wanted now. Pure.

use jiff::Timestamp;
use service_lifecycle::rollout::{Failure, Outcome, Reached, Stage};
use service_lifecycle::{EndedRollout, FoundRollout};
use service_registry::Version;

use super::row::Row;

/// What a service begins with.
#[derive(Debug, Clone)]
pub(super) struct Course {
    /// The version that runs, and that the rollout leads away from where there is one.
    pub(super) stable: Version,
    pub(super) rollout: Option<FoundRollout>,
    /// What the configuration says, and what was given up: it is not begun with by itself.
    pub(super) given_up: Option<Version>,
}

impl Course {
    /// `runs` are the versions of those that were left, as far as they are known; `starts` says whether the version that ran can be
    /// started again.
    pub(super) fn of(row: Option<&Row>, wanted: &Version, runs: &[Version], starts: bool) -> Self {
        let directly = Self { stable: wanted.clone(), rollout: None, given_up: None };
        let Some(row) = row else { return directly };
        let stable = row.stable.version();
        let rolled = |rollout| Self { stable: stable.clone(), rollout: Some(rollout), given_up: None };
        let begins = || FoundRollout { to: wanted.clone(), reached: None, since: Timestamp::now() };
        let Some(rollout) = &row.rollout else {
            let is_given_up = row.given_up.as_ref().is_some_and(|given_up| given_up.version() == *wanted);
            let runs = runs.contains(&stable);
            return match () {
                () if *wanted == stable => directly,
                () if is_given_up && (runs || starts) => {
                    Self { stable, rollout: None, given_up: Some(wanted.clone()) }
                }
                () if !runs => directly,
                () => rolled(begins()),
            };
        };
        let (target, since, reached) = (rollout.target.version(), rollout.since, rollout.reached());
        let is_reverting = matches!(reached.stage, Stage::Reverting(_));
        if runs.is_empty() {
            // There is nobody to be replaced; but nothing begins with what is being given up.
            let goes_on = is_reverting && *wanted == target && starts;
            let reached = Some(reached);
            return if goes_on { rolled(FoundRollout { to: target, reached, since }) } else { directly };
        }
        if *wanted == target {
            rolled(FoundRollout { to: target, reached: Some(reached), since })
        } else if *wanted == stable {
            // Somebody has taken back what was being rolled out.
            let undone = Reached { stage: Stage::Reverting(Failure::Undone), ..reached.clone() };
            let reached = Some(if is_reverting { reached } else { undone });
            rolled(FoundRollout { to: target, reached, since })
        } else {
            rolled(begins())
        }
    }

    /// How the rollout has ended that was on its way and is not any more.
    pub(super) fn ended(&self, row: &Row) -> Option<EndedRollout> {
        let rollout = row.rollout.as_ref()?;
        let (from, to) = (row.stable.version(), rollout.target.version());
        let outcome = match &self.rollout {
            Some(on_its_way) if on_its_way.reached.is_some() => return None,
            Some(_) => Outcome::Replaced,
            None if self.stable == to => Outcome::Done,
            None if self.stable != from => Outcome::Replaced,
            None => Outcome::Reverted(match rollout.reached().stage {
                Stage::Reverting(failure) => failure,
                _ => Failure::Undone,
            }),
        };
        Some(EndedRollout { from, to, outcome, times: (rollout.since, Timestamp::now()) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::row::tests::{row, version};
    use super::*;

    /// What comes of a row, what is wanted now, and what was left.
    fn course(row: Option<Row>, wanted: u8, runs: &[u8]) -> String {
        let runs: Vec<_> = runs.iter().map(|number| version(*number)).collect();
        let course = Course::of(row.as_ref(), &version(wanted), &runs, true);
        let given_up = if course.given_up.is_some() { ", another given up" } else { "" };
        let stable = course.stable.label().to_owned();
        let rollout = course.rollout.map(|rollout| match rollout.reached {
            Some(reached) => format!(" to {}, {}", rollout.to.label(), reached.stage),
            None => format!(" to {}, begins", rollout.to.label()),
        });
        format!("{stable}{}{given_up}", rollout.unwrap_or_default())
    }

    #[test]
    fn what_is_another_by_now_is_rolled_out_where_something_runs() {
        assert_eq!(course(None, 1, &[1]), "1.0.0");
        assert_eq!(course(Some(row(1, None)), 1, &[1]), "1.0.0");
        assert_eq!(course(Some(row(1, None)), 2, &[1]), "1.0.0 to 2.0.0, begins");
        assert_eq!(
            course(Some(row(1, None)), 2, &[1, 2]),
            "1.0.0 to 2.0.0, begins",
            "before it was written down"
        );
        assert_eq!(course(Some(row(1, None)), 2, &[]), "2.0.0");
        assert_eq!(course(Some(row(1, None)), 2, &[2]), "2.0.0");
    }

    #[test]
    fn a_rollout_goes_on_unless_something_else_is_wanted_by_now() {
        let step = || Some(row(1, Some((2, Stage::Step(1)))));
        assert_eq!(course(step(), 2, &[1, 2]), "1.0.0 to 2.0.0, step 2");
        assert_eq!(course(step(), 1, &[1, 2]), "1.0.0 to 2.0.0, reverting: somebody wants it so");
        assert_eq!(course(step(), 3, &[1, 2]), "1.0.0 to 3.0.0, begins");
        assert_eq!(course(step(), 2, &[]), "2.0.0", "there is nobody to be replaced");
    }

    #[test]
    fn a_rollout_that_does_not_go_on_has_ended() {
        let ended = |stage: Stage, wanted: u8, runs: &[u8]| {
            let runs: Vec<_> = runs.iter().map(|number| version(*number)).collect();
            let row = row(1, Some((2, stage)));
            let ended = Course::of(Some(&row), &version(wanted), &runs, true).ended(&row);
            ended.map(|ended| ended.outcome.to_string())
        };
        let late = || Stage::Reverting(Failure::Late(Duration::from_secs(9)));
        assert_eq!(ended(Stage::Step(1), 2, &[1, 2]), None);
        assert_eq!(ended(Stage::Step(1), 1, &[1, 2]), None, "it is undone, and has yet to end");
        assert_eq!(ended(Stage::Step(1), 3, &[1, 2]).as_deref(), Some("replaced by another one"));
        assert_eq!(ended(Stage::Step(1), 2, &[]).as_deref(), Some("done"));
        assert_eq!(ended(Stage::Step(1), 1, &[]).as_deref(), Some("reverted: somebody wants it so"));
        assert_eq!(
            ended(late(), 1, &[]),
            Some(format!("reverted: {}", Failure::Late(Duration::from_secs(9))))
        );
        assert_eq!(ended(late(), 3, &[]).as_deref(), Some("replaced by another one"));
    }

    #[test]
    fn what_was_given_up_is_not_begun_with() {
        let reverting = || Some(row(1, Some((2, Stage::Reverting(Failure::Undone)))));
        assert_eq!(course(reverting(), 2, &[1, 2]), "1.0.0 to 2.0.0, reverting: somebody wants it so");
        assert_eq!(course(reverting(), 2, &[]), "1.0.0 to 2.0.0, reverting: somebody wants it so");
        assert_eq!(course(reverting(), 3, &[]), "3.0.0");
        let cannot = Course::of(reverting().as_ref(), &version(2), &[], false);
        assert_eq!(cannot.stable, version(2), "nothing else can be started");
        let mut given_up = row(1, None);
        given_up.given_up = row(2, None).stable.into();
        assert_eq!(course(Some(given_up.clone()), 2, &[1]), "1.0.0, another given up");
        assert_eq!(course(Some(given_up.clone()), 3, &[1]), "1.0.0 to 3.0.0, begins");
        assert_eq!(course(Some(given_up.clone()), 2, &[]), "1.0.0, another given up");
        let cannot = Course::of(Some(&given_up), &version(2), &[], false);
        assert_eq!(cannot.stable, version(2), "nothing else can be started");
    }
}
