//! How the versions of a service have answered while its calls are divided.

use service_registry::{Sample, Side, Split};

use crate::rollout::Samples;

/// How both versions have answered since calls are divided.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered {
    stable: Sample,
    target: Sample,
}

impl Answered {
    /// Up to now.
    pub(super) fn now(split: Option<&Split>) -> Self {
        let sample = |side| split.map(|split| split.answered.sample(side)).unwrap_or_default();
        Self { stable: sample(Side::Stable), target: sample(Side::Target) }
    }

    /// What came since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Samples {
        Samples {
            stable: (&self.stable.clone().since(&before.stable)).into(),
            target: (&self.target.clone().since(&before.target)).into(),
        }
    }
}
