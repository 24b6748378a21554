//! What the replicas of a service are told at their start, whoever starts them.

use configuration::{ProcessSettings, ServiceSettings};
use mesh_protocol::{Assignment, Bytes, ConfigReload, RegisteredBy};
use types::wire::Message;
use types::{ReplicaId, ServiceName};

use super::joining::InForce;

/// The same for all replicas of a service.
pub(super) struct Told {
    version: String,
    config_reload: ConfigReload,
    allow: Vec<ServiceName>,
}

impl Told {
    pub(super) fn of(service: &ServiceSettings, process: &ProcessSettings) -> Self {
        Self {
            version: service.version.to_string(),
            config_reload: match process.config_reload {
                configuration::ConfigReload::File => ConfigReload::File,
                configuration::ConfigReload::Signal => ConfigReload::Signal,
            },
            allow: process.allow.iter().cloned().collect(),
        }
    }

    /// The label of their version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// What of it takes another process when it is changed, as a part of a digest.
    pub(super) fn add_to(&self, message: Message) -> Message {
        let reload = match self.config_reload {
            ConfigReload::File => "file",
            ConfigReload::Signal => "signal",
        };
        let allow = self.allow.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ");
        message.lp(&self.version).lp(reload).lp(allow)
    }

    /// What one of them is told, with its ticket and what is in force.
    pub(super) fn assignment(
        &self,
        replica: ReplicaId,
        in_force: InForce,
        ticket: Vec<u8>,
        registered_by: RegisteredBy,
    ) -> Assignment {
        let InForce { mesh, config } = in_force;
        Assignment {
            replica,
            version: self.version.clone(),
            config,
            mesh,
            ticket: Bytes(ticket),
            allow: self.allow.clone(),
            registered_by,
            config_reload: self.config_reload,
        }
    }
}
