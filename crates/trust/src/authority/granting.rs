//! What each service is given of the secrets, without their values: a digest by which its replicas see that it has changed, and
//! how much it may be at the most.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::granted_digest;
use secrets::{Given, Vault};
use tokio::sync::watch;
use types::ServiceName;

use super::{Authority, ServicePolicy};
use crate::TrustError;

/// The most that one service is given, in bytes: in base64 and with the certificates it fits into one answer of the mesh API.
pub const MAX_GRANTED_BYTES: usize = 700 << 10;
/// What stands beside each value in that answer, as it counts before base64: its names and numbers, the key that it was sealed
/// with, and the tag of that.
const BESIDE_A_VALUE: usize = 192;

/// What the replicas of each service are given, as [`granted_digest`] says it.
pub type Grants = BTreeMap<ServiceName, [u8; 32]>;

/// What a secret would be after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// One value of so many bytes.
    Set(usize),
    /// What it is, and an epoch more.
    Rotated,
}

impl Authority {
    /// What each service is given, as it changes.
    pub fn grants(&self) -> watch::Receiver<Arc<Grants>> {
        self.0.grants.subscribe()
    }

    /// Says what is given by now. With the vault in hand, so that nothing older is said after it.
    pub(super) fn publish_grants(&self, vault: &Vault) {
        self.0.secret_changes.send_modify(|changes| *changes += 1);
        let services = Arc::clone(&self.state().services);
        let now = grants(vault, services.iter());
        self.0.grants.send_if_modified(|known| {
            let changed = **known != now;
            *known = Arc::new(now);
            changed
        });
    }

    /// Whether every service that is given a secret could still be given it after a change.
    pub(super) fn check_room_for(
        &self,
        vault: &Vault,
        record: &str,
        becomes: Becomes,
    ) -> Result<(), TrustError> {
        let services = Arc::clone(&self.state().services);
        let given =
            services.iter().filter(|(_, policy)| policy.secrets.iter().any(|grant| grant.record == record));
        check_room(vault, given, Some((record, becomes)))
    }
}

/// What the services are given.
pub(super) fn grants<'a, P: Borrow<ServicePolicy> + 'a>(
    vault: &Vault,
    services: impl Iterator<Item = (&'a ServiceName, &'a P)>,
) -> Grants {
    let digest = |(name, policy): (&ServiceName, &P)| {
        let versions = policy.borrow().secrets.iter().flat_map(|grant| {
            let given = vault.given(&grant.record).into_iter();
            given.map(|given| (grant.name.as_str(), given.version, given.epoch))
        });
        (name.clone(), granted_digest(versions))
    };
    services.map(digest).collect()
}

/// Whether each service is given no more than an answer holds, also after a change of one secret.
pub(super) fn check_room<'a, P: Borrow<ServicePolicy> + 'a>(
    vault: &Vault,
    services: impl Iterator<Item = (&'a ServiceName, &'a P)>,
    change: Option<(&str, Becomes)>,
) -> Result<(), TrustError> {
    for (service, policy) in services {
        let of_record = |record: &str| {
            let given = vault.given(record);
            match change {
                Some((changed, becomes)) if changed == record => becomes.bytes(&given),
                _ => sum(&given),
            }
        };
        let bytes = policy.borrow().secrets.iter().map(|grant| of_record(&grant.record)).sum();
        if bytes > MAX_GRANTED_BYTES {
            return Err(TrustError::TooMuchGranted { service: service.clone(), bytes });
        }
    }
    Ok(())
}

impl Becomes {
    fn bytes(self, given: &[Given]) -> usize {
        match self {
            Self::Set(bytes) => bytes + BESIDE_A_VALUE,
            Self::Rotated => sum(given) + given.last().map_or(0, |newest| newest.bytes) + BESIDE_A_VALUE,
        }
    }
}

fn sum(given: &[Given]) -> usize {
    given.iter().map(|given| given.bytes + BESIDE_A_VALUE).sum()
}

#[cfg(test)]
mod tests {
    use mesh_protocol::{Bytes, JoinAnswer, MAX_MESSAGE_BYTES, SealedSecret};

    use super::*;

    /// The answer to a join that gives so many values of a length, each as long beside that as it can be.
    fn answer(values: usize, length: usize) -> usize {
        let secret = SealedSecret {
            name: "n".repeat(secrets::MAX_NAME_BYTES),
            version: u64::MAX,
            epoch: u32::MAX,
            enc: Bytes(vec![0; 32]),
            ct: Bytes(vec![0; length + 16]),
        };
        let answer = JoinAnswer {
            leaf: Bytes(vec![0; 4096]),
            chain: vec![Bytes(vec![0; 4096]); 2],
            secrets: vec![secret; values],
            set_signature: Bytes(vec![0; 128]),
        };
        serde_json::to_vec(&answer).unwrap().len()
    }

    #[test]
    fn the_most_that_a_service_is_given_fits_into_one_answer_however_it_is_divided() {
        for length in [0, 1, 2, 32, 1_000, secrets::MAX_VALUE_BYTES] {
            let values = MAX_GRANTED_BYTES / (length + BESIDE_A_VALUE);
            let answer = answer(values, length);
            assert!(answer <= MAX_MESSAGE_BYTES, "{values} values of {length} bytes are {answer}");
        }
    }
}
