//! What a service sees of its assignment, and of its secrets.

use std::fmt;

use mesh_protocol::{Assignment, Secret, SecretSet};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use types::{ReplicaId, ServiceName};

use crate::State;
use crate::config::Configs;

/// What a replica was given at its start.
#[derive(Clone)]
pub struct Start {
    /// The service that it belongs to.
    pub service: ServiceName,
    /// Which replica it is.
    pub replica: ReplicaId,
    /// The label of its version.
    pub version: String,
    /// The service's configuration, an object.
    pub config: Value,
    /// The same as it changes while the replica runs. What `config` holds is seen already.
    pub configs: Configs,
    /// Its secrets.
    pub secrets: SecretSet,
    /// The same as they change while it runs: a value that was set, an epoch more. What it holds now is seen already.
    pub changes: watch::Receiver<SecretSet>,
    /// What it shares with the other replicas of its service.
    pub state: State,
}

/// Why a replica cannot start: a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError(String);

impl StartError {
    /// Says why.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl Start {
    /// The configuration as the service's own type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, StartError> {
        config(&self.config)
    }

    /// A secret by its name.
    pub fn secret(&self, name: &str) -> Result<&Secret, StartError> {
        self.secrets
            .get(name)
            .ok_or_else(|| StartError::new(format_args!("the secret {name} was not handed over")))
    }
}

impl Start {
    /// What the assignment says, the secrets that the join gave, and those and the configurations that come later.
    pub(crate) fn new(
        assignment: Assignment,
        secrets: SecretSet,
        changes: watch::Receiver<SecretSet>,
        configs: Configs,
        state: State,
    ) -> Self {
        let Assignment { replica, version, config, .. } = assignment;
        Self { service: replica.service.clone(), replica, version, config, configs, secrets, changes, state }
    }
}

/// A configuration as a service's own type.
pub(crate) fn config<T: DeserializeOwned>(config: &Value) -> Result<T, StartError> {
    T::deserialize(config)
        .map_err(|error| StartError::new(format_args!("the configuration is not valid: {error}")))
}
