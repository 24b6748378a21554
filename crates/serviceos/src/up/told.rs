//! What the replicas of a service are told at their start, whoever starts them.

use configuration::{ProcessSettings, ServiceSettings};
use mesh_protocol::{AnnouncedBy, Assignment, Bytes, MeshCoordinates};
use types::{ReplicaId, ServiceName};

/// The same for all replicas of a service.
pub(super) struct Told {
    version: String,
    config: serde_json::Value,
    allow: Vec<ServiceName>,
}

impl Told {
    pub(super) fn of(service: &ServiceSettings, process: &ProcessSettings) -> Self {
        Self {
            version: service.version.to_string(),
            config: process.config.clone(),
            allow: process.allow.iter().cloned().collect(),
        }
    }

    /// What one of them is told, with its ticket.
    pub(super) fn assignment(
        &self,
        replica: ReplicaId,
        mesh: MeshCoordinates,
        ticket: Vec<u8>,
        announced_by: AnnouncedBy,
    ) -> Assignment {
        Assignment {
            replica,
            version: self.version.clone(),
            config: self.config.clone(),
            mesh,
            ticket: Bytes(ticket),
            allow: self.allow.clone(),
            announced_by,
        }
    }
}
