//! What the configuration says of a rollout.

use std::time::Duration;

use super::{Gate, Stage};

/// How a service is brought from one version to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The replicas that are wanted.
    pub replicas: u32,
    /// How many more there may be meanwhile, beside those that steps and previews ask for.
    pub max_surge: u32,
    /// How many fewer may be available meanwhile. One of both is at least 1.
    pub max_unavailable: u32,
    /// For how long a replica must have been selectable to count.
    pub min_ready: Duration,
    /// For how long nothing may come forward.
    pub progress_deadline: Duration,
    /// In which order.
    pub strategy: Strategy,
}

/// In which order replicas and calls change over.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// Replica by replica; each has its part of the calls at once.
    Rolling,
    /// A part of the calls first, and more of them step by step, while all replicas of the old version stay.
    Canary {
        /// The steps, at least one.
        steps: Vec<Step>,
        /// What the new version has to hold.
        gate: Gate,
    },
    /// All replicas of the new version beside those of the old one, and then all calls at once.
    BlueGreen {
        /// Who says when.
        promotion: Promotion,
        /// How long the replicas of the old version are kept after that.
        keep: Duration,
    },
}

/// A step of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The part of the calls, 1 to 100 percent.
    pub weight: u8,
    /// How long it lasts at least; without, until somebody promotes it.
    pub pause: Option<Duration>,
}

/// When the calls change over to a version that stands ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// After so long.
    After(Duration),
    /// When somebody says so.
    ByHand,
}

impl Step {
    /// The replicas of the new version that such a part of the calls needs: as many as of the others would have it, one at least.
    pub(super) fn replicas(&self, of: u32) -> u32 {
        let exact = u64::from(of) * u64::from(self.weight);
        u32::try_from(exact.div_ceil(100)).unwrap_or(u32::MAX).max(1)
    }
}

impl Strategy {
    /// The stage of this strategy for one that a rollout was at.
    pub(super) fn nearest(&self, stage: &Stage) -> Stage {
        match (stage, self) {
            (Stage::Filling | Stage::Reverting(_) | Stage::Over(_), _)
            | (Stage::Preview | Stage::Switched, Self::BlueGreen { .. }) => stage.clone(),
            (Stage::Step(number), Self::Canary { steps, .. }) => {
                Stage::Step((*number).min(steps.len().saturating_sub(1)))
            }
            // All calls were the new version's.
            (Stage::Switched, _) => Stage::Filling,
            (Stage::Step(_) | Stage::Preview, _) => self.first_stage(),
        }
    }

    pub(super) fn first_stage(&self) -> Stage {
        match self {
            Self::Rolling => Stage::Filling,
            Self::Canary { .. } => Stage::Step(0),
            Self::BlueGreen { .. } => Stage::Preview,
        }
    }
}
