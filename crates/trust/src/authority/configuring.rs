//! A member whose service has another configuration: what its evidence must be bound to.
//!
//! That is the configuration of the manifest in force, with one exception. A member that has said that it cannot work with it
//! renews with the one that it was admitted with, so that a configuration that nobody can use does not end a whole service. It is
//! no other than before, and the line of such a renewal in the audit trail says which configuration it keeps. Nobody joins for the
//! first time like that.

use mesh_protocol::Subject;
use mesh_protocol::tls::Peer;
use types::ServiceName;

use super::{Authority, ServicePolicy, State};
use crate::Standing;

/// Which replica.
type Whose = (ServiceName, String);

impl Authority {
    /// The digest of the configuration that the replicas of a service are to work with.
    pub fn config_digest(&self, service: &ServiceName) -> Option<[u8; 32]> {
        self.state().services.get(service).map(|policy| policy.config_digest)
    }

    /// Takes down that a member cannot work with a configuration of which this is the digest. Each has one place for that.
    pub fn config_rejected(&self, peer: &Peer, digest: [u8; 32]) {
        let Subject::Service { service, instance } = &peer.id.subject else { return };
        let whose = (service.clone(), instance.clone());
        // Members that this authority has not admitted keep nothing.
        if self.0.standings.borrow().contains_key(&whose) {
            self.state().rejected.insert(whose, digest);
        }
    }

    /// The digest of the configuration that a member was admitted with, if this is it.
    pub(super) fn kept_config(&self, whose: &Whose, claimed: [u8; 32]) -> Option<[u8; 32]> {
        match self.0.standings.borrow().get(whose)? {
            Standing::Valid(admission) | Standing::Expired(admission) => Some(admission.config),
            Standing::Pending { .. } | Standing::Refused { .. } => None,
        }
        .filter(|config| *config == claimed)
    }
}

impl State {
    /// What the evidence of a replica must be bound to, under a policy of its service.
    pub(super) fn config_of(
        &self,
        whose: &Whose,
        policy: &ServicePolicy,
        kept: Option<[u8; 32]>,
    ) -> [u8; 32] {
        let rejects = self.rejected.get(whose) == Some(&policy.config_digest);
        kept.filter(|_| rejects).unwrap_or(policy.config_digest)
    }
}
