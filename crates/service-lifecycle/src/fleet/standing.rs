//! What of a replica a rollout can count on.

use service_registry::{Attested, Replica};

use super::Driven;
use crate::rollout::{Side, Standing};

/// What of a replica can be counted on. One that ends again and again may serve in between: the new version is given up all the same,
/// and of the old one it is missed when it goes.
pub(super) fn standing(replica: &Replica, driven: &Driven, side: Side) -> Standing {
    let refused = (replica.attestation.value == Attested::Refused).then(|| replica.attestation.ceased());
    let crash_loop = replica.crash_loop.as_ref().map(|crash_loop| crash_loop.last.reason.clone());
    match (crash_loop.or(refused.flatten()), driven.selectable_since) {
        (Some(reason), None) => Standing::Failing(reason),
        (Some(reason), Some(_)) if side == Side::Target => Standing::Failing(reason),
        (_, Some(since)) => Standing::Selectable(since),
        (None, None) => Standing::Pending,
    }
}
