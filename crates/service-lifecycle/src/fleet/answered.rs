//! How the versions of a service have answered while its calls are divided.

use service_registry::{Sample, Side, Snapshot, Split, Version};
use types::ServiceName;

use crate::rollout::Samples;

/// How both versions have answered since calls are divided.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered {
    stable: Sample,
    target: Sample,
}

impl Answered {
    /// How both versions have answered while this one has a part of the calls.
    pub(super) fn of(snapshot: &Snapshot, service: &ServiceName, target: &Version) -> Self {
        let split = snapshot.service(service).and_then(|service| service.split.as_ref());
        Self::now(split.filter(|split| split.to == *target))
    }

    /// Up to now.
    fn now(split: Option<&Split>) -> Self {
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
