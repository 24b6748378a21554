//! The row of a service.

use std::time::Duration;

use jiff::Timestamp;
use mesh_protocol::to_hex;
use serde::{Deserialize, Serialize};
use service_lifecycle::rollout::{Failure, Outcome, Pace, Reached, Stage};
use service_lifecycle::{EndedRollout, RolloutStatus, Rollouts};
use service_registry::{SpecDigest, Version};
use types::{NodeName, ReplicaId, ServiceName};

use crate::up::specs::{Spec, Specs};

const FORMAT: u32 = 1;

/// Where those of a node are.
pub(super) fn prefix(node: &NodeName) -> String {
    format!("nodes/{node}/rollouts/")
}

/// What is kept of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Row {
    format: u32,
    /// What runs.
    pub(super) stable: KeptVersion,
    /// What the configuration says, where that was given up.
    pub(super) given_up: Option<Id>,
    pub(super) rollout: Option<KeptRollout>,
    /// Rollouts that have ended, the latest last. Rows that were written before these were kept have none.
    #[serde(default)]
    ended: Vec<KeptEnded>,
    /// What replicas may run beside, of rollouts that were replaced by this one.
    others: Vec<KeptVersion>,
}

/// By what a version is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Id {
    label: String,
    /// What it is made of, in hexadecimal.
    digest: String,
}

/// A version, and what is needed to start it and to admit it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptVersion {
    id: Id,
    /// What its program was measured as, in hexadecimal.
    workload: String,
    /// The number of a configuration that says what it runs.
    pub(super) revision: u64,
}

/// A rollout on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptRollout {
    pub(super) target: KeptVersion,
    stage: KeptStage,
    pace: KeptPace,
    /// The part of the calls that it had.
    percent: Option<u8>,
    pub(super) since: Timestamp,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeptEnded {
    from: Id,
    to: Id,
    outcome: KeptOutcome,
    since: Timestamp,
    ended: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
enum KeptOutcome {
    Done,
    Reverted { because: KeptFailure },
    Incomplete { because: KeptFailure },
    Replaced,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
enum KeptStage {
    Step { number: usize },
    Preview,
    Switched,
    Filling,
    Reverting { because: KeptFailure },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "of")]
enum KeptFailure {
    Replica { replica: ReplicaId, reason: String },
    Gate { reason: String },
    Late { seconds: u64 },
    Undone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptPace {
    Going,
    Paused,
}

impl Row {
    /// What is to be kept; nothing where a version is none that is started here.
    pub(super) fn of(service: &ServiceName, rollouts: &Rollouts, specs: &Specs) -> Option<Self> {
        let kept = |version: &Version| KeptVersion::of(&*specs.of(service, version)?);
        // One that is started again is what it was.
        let on_its_way = rollouts.on_its_way.as_ref().filter(|rollout| rollout.from != rollout.to);
        let stable = on_its_way.map_or(&rollouts.wanted, |rollout| &rollout.from);
        let rollout = match on_its_way {
            Some(rollout) => KeptRollout::of(rollout, kept(&rollout.to)?),
            None => None,
        };
        let target = on_its_way.map(|rollout| &rollout.to);
        let others = specs.versions(service).into_iter();
        let others =
            others.filter(|version| on_its_way.is_some() && version != stable && Some(version) != target);
        let others = others.filter_map(|version| kept(&version)).collect();
        // Until what follows from its end was taken over, the configuration says what was given up.
        let given_up = specs.given_up(service).or_else(|| specs.not_taken_over(service, rollouts));
        let given_up = given_up.as_ref().and_then(Id::of);
        let ended = rollouts.ended.iter().filter_map(KeptEnded::of).collect();
        Some(Self { format: FORMAT, stable: kept(stable)?, given_up, rollout, ended, others })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the rows are plain fields")
    }

    /// # Errors
    /// It is damaged, or of a later version of the program.
    pub(super) fn decode(row: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(row)
    }

    /// The rollouts that have ended, the latest last.
    pub(super) fn ended(&self) -> impl Iterator<Item = EndedRollout> {
        self.ended.iter().map(KeptEnded::rollout)
    }

    /// Whether its node says still what was given up, which is this.
    pub(super) fn gave_up(&self, spec: &Spec) -> bool {
        self.given_up.as_ref().is_some_and(|given_up| given_up.version() == spec.version)
    }

    /// The versions that replicas may run.
    pub(super) fn versions(&self) -> impl Iterator<Item = &KeptVersion> {
        let target = self.rollout.iter().map(|rollout| &rollout.target);
        std::iter::once(&self.stable).chain(target).chain(&self.others)
    }
}

impl Id {
    fn of(version: &Version) -> Option<Self> {
        Some(Self { label: version.label().to_owned(), digest: version.spec()?.to_string() })
    }

    /// The version. One whose digest is none is like no other.
    pub(super) fn version(&self) -> Version {
        let digest = SpecDigest::from_hex(&self.digest);
        digest.map_or_else(|| self.label.as_str().into(), |digest| Version::new(&self.label, digest))
    }
}

impl KeptVersion {
    pub(super) fn of(spec: &Spec) -> Option<Self> {
        Some(Self { id: Id::of(&spec.version)?, workload: to_hex(&spec.workload), revision: spec.revision })
    }

    pub(super) fn version(&self) -> Version {
        self.id.version()
    }

    /// Whether replicas of both are admitted by the same: what else they are told may be another at each node.
    pub(super) fn is(&self, spec: &Spec) -> bool {
        self.id.label == spec.version.label() && self.workload() == spec.workload
    }

    /// What its program was measured as.
    pub(super) fn workload(&self) -> [u8; 32] {
        SpecDigest::from_hex(&self.workload).map_or([0; 32], |digest| digest.0)
    }
}

impl KeptRollout {
    fn of(rollout: &RolloutStatus, target: KeptVersion) -> Option<Self> {
        let stage = match &rollout.stage {
            Stage::Step(number) => KeptStage::Step { number: *number },
            Stage::Preview => KeptStage::Preview,
            Stage::Switched => KeptStage::Switched,
            Stage::Filling => KeptStage::Filling,
            Stage::Reverting(failure) => KeptStage::Reverting { because: KeptFailure::of(failure) },
            Stage::Over(_) => return None,
        };
        let pace = match rollout.pace {
            Pace::Going => KeptPace::Going,
            Pace::Paused => KeptPace::Paused,
        };
        Some(Self { target, stage, pace, percent: rollout.percent, since: rollout.since })
    }

    /// How far it was.
    pub(super) fn reached(&self) -> Reached {
        let stage = match &self.stage {
            KeptStage::Step { number } => Stage::Step(*number),
            KeptStage::Preview => Stage::Preview,
            KeptStage::Switched => Stage::Switched,
            KeptStage::Filling => Stage::Filling,
            KeptStage::Reverting { because } => Stage::Reverting(because.failure()),
        };
        let pace = match self.pace {
            KeptPace::Going => Pace::Going,
            KeptPace::Paused => Pace::Paused,
        };
        Reached { stage, pace, percent: self.percent }
    }
}

impl KeptEnded {
    fn of(ended: &EndedRollout) -> Option<Self> {
        let outcome = match &ended.outcome {
            Outcome::Done => KeptOutcome::Done,
            Outcome::Reverted(failure) => KeptOutcome::Reverted { because: KeptFailure::of(failure) },
            Outcome::Incomplete(failure) => KeptOutcome::Incomplete { because: KeptFailure::of(failure) },
            Outcome::Replaced => KeptOutcome::Replaced,
        };
        let (from, to, (since, ended)) = (Id::of(&ended.from)?, Id::of(&ended.to)?, ended.times);
        Some(Self { from, to, outcome, since, ended })
    }

    fn rollout(&self) -> EndedRollout {
        let outcome = match &self.outcome {
            KeptOutcome::Done => Outcome::Done,
            KeptOutcome::Reverted { because } => Outcome::Reverted(because.failure()),
            KeptOutcome::Incomplete { because } => Outcome::Incomplete(because.failure()),
            KeptOutcome::Replaced => Outcome::Replaced,
        };
        let times = (self.since, self.ended);
        EndedRollout { from: self.from.version(), to: self.to.version(), outcome, times }
    }
}

impl KeptFailure {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Replica(replica, reason) => {
                Self::Replica { replica: replica.clone(), reason: reason.clone() }
            }
            Failure::Gate(reason) => Self::Gate { reason: reason.clone() },
            Failure::Late(time) => Self::Late { seconds: time.as_secs() },
            Failure::Undone => Self::Undone,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Replica { replica, reason } => Failure::Replica(replica.clone(), reason.clone()),
            Self::Gate { reason } => Failure::Gate(reason.clone()),
            Self::Late { seconds } => Failure::Late(Duration::from_secs(*seconds)),
            Self::Undone => Failure::Undone,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::up::kept_rollouts) fn version(number: u8) -> Version {
        Version::new(&format!("{number}.0.0"), SpecDigest([number; 32]))
    }

    fn kept(number: u8) -> KeptVersion {
        let id = Id::of(&version(number)).unwrap();
        KeptVersion { id, workload: to_hex(&[number; 32]), revision: number.into() }
    }

    impl From<KeptVersion> for Option<Id> {
        fn from(kept: KeptVersion) -> Self {
            Some(kept.id)
        }
    }

    pub(in crate::up::kept_rollouts) fn row(stable: u8, on_its_way: Option<(u8, Stage)>) -> Row {
        let rollout = on_its_way.map(|(target, stage)| {
            let (from, to, since) = (version(stable), version(target), Timestamp::UNIX_EPOCH);
            let (pace, percent) = (Pace::Paused, Some(10));
            let status = RolloutStatus { from, to, stage, pace, percent, begun: 1, since };
            KeptRollout::of(&status, kept(target)).unwrap()
        });
        let (ended, others) = (Vec::new(), vec![kept(9)]);
        Row { format: FORMAT, stable: kept(stable), given_up: None, rollout, ended, others }
    }

    #[test]
    fn a_row_says_when_it_is_read_what_was_on_its_way_when_it_was_written() {
        let failures = [
            Failure::Replica("vrf/3".parse().unwrap(), "exited with code 3".into()),
            Failure::Gate("5.0 % of 100 calls failed".into()),
            Failure::Late(Duration::from_secs(600)),
            Failure::Undone,
        ];
        let stages = [Stage::Step(2), Stage::Preview, Stage::Switched, Stage::Filling];
        for stage in stages.into_iter().chain(failures.map(Stage::Reverting)) {
            let row = row(1, Some((2, stage.clone())));
            let read = Row::decode(&row.encode()).unwrap();
            assert_eq!(read, row);
            let reached = read.rollout.unwrap().reached();
            assert_eq!(reached, Reached { stage, pace: Pace::Paused, percent: Some(10) });
        }
        let read = Row::decode(&row(1, None).encode()).unwrap();
        assert_eq!((read.stable.version(), read.stable.workload()), (version(1), [1; 32]));
        assert!(Row::decode(b"{}").is_err());
    }

    #[test]
    fn a_row_says_how_rollouts_have_ended_and_one_of_before_that_was_kept_says_nothing_of_it() {
        let times = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        let because = Failure::Late(Duration::from_secs(600));
        let outcomes = [
            Outcome::Done,
            Outcome::Reverted(Failure::Undone),
            Outcome::Incomplete(because),
            Outcome::Replaced,
        ];
        let of = |outcome| EndedRollout { from: version(1), to: version(2), outcome, times };
        let ended: Vec<_> = outcomes.into_iter().map(of).collect();
        let row = Row { ended: ended.iter().filter_map(KeptEnded::of).collect(), ..row(1, None) };
        let read = Row::decode(&row.encode()).unwrap();
        assert_eq!(read.ended().collect::<Vec<_>>(), ended);
        let mut before: serde_json::Value = serde_json::from_slice(&row.encode()).unwrap();
        before.as_object_mut().unwrap().remove("ended").unwrap();
        assert_eq!(Row::decode(before.to_string().as_bytes()).unwrap().ended().count(), 0);
    }
}
