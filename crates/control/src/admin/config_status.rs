//! Which configuration each service is to work with, and what its replicas have made of it.

use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Json;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use service_registry::{Configurations, Registry, ReplicaConfiguration, Taken};
use tokio::time::timeout;

use super::AdminState;
use crate::health::rfc3339;
use crate::problem::AdminProblem;
use crate::status;

/// How long an answer is kept back at the most.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// `serviceos config status --json`, a stable contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The number of the revision in force.
    pub revision: u64,
    /// The services whose replicas join the mesh, in the order of the configuration.
    pub services: Vec<ServiceConfigStatus>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfigStatus {
    /// Its name.
    pub name: String,
    /// The number of the revision in which its `config` was changed last: the one that its replicas are to work with.
    pub wanted: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaConfigStatus>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaConfigStatus {
    /// Its id.
    pub id: String,
    /// The number of the last one that it has said it works with.
    pub applied: Option<u64>,
    /// `applied`, `rejected`, or `pending` where it has not said yet.
    pub outcome: String,
    /// Why it was rejected, or why the replica does not run.
    pub reason: Option<String>,
    /// When it has said so, RFC 3339; while it is pending, when the replica was launched.
    pub since: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Milliseconds, for which the answer is kept back while a replica has not said yet.
    wait: Option<u64>,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/config/status", get(show))
}

async fn show(
    State(state): State<AdminState>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<ConfigStatus>, AdminProblem> {
    let Query(Wait { wait }) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let now = || ConfigStatus::new(&state.configurations, &state.registry);
    if let Some(wait) = wait {
        let wait = Duration::from_millis(wait).min(LONGEST_WAIT);
        let all_have_said = state.configurations.until(|| !now().is_pending());
        let _in_time = timeout(wait, all_have_said).await.is_ok();
    }
    Ok(Json(now()))
}

impl ConfigStatus {
    /// What is known now.
    pub fn new(configurations: &Configurations, registry: &Registry) -> Self {
        let (revision, wanted) = configurations.wanted();
        let snapshot = registry.snapshot();
        let services = snapshot.services.iter().filter_map(|service| {
            let replicas = service.replicas.iter().filter_map(|replica| {
                let configuration = configurations.of_replica(&replica.id)?;
                Some(ReplicaConfigStatus::new(replica.id.to_string(), configuration, status::why(replica)))
            });
            Some(ServiceConfigStatus {
                name: service.name.to_string(),
                wanted: *wanted.get(&service.name)?,
                replicas: replicas.collect(),
            })
        });
        Self { revision, services: services.collect() }
    }

    /// Whether a replica has not said yet what it has made of its configuration.
    pub fn is_pending(&self) -> bool {
        self.replicas().any(|replica| replica.outcome == word(&Taken::Pending))
    }

    /// Whether a replica has rejected its configuration.
    pub fn is_rejected(&self) -> bool {
        self.replicas().any(|replica| replica.outcome == word(&Taken::Rejected(String::new())))
    }

    fn replicas(&self) -> impl Iterator<Item = &ReplicaConfigStatus> {
        self.services.iter().flat_map(|service| &service.replicas)
    }
}

impl ReplicaConfigStatus {
    fn new(id: String, configuration: ReplicaConfiguration, not_running: Option<String>) -> Self {
        let ReplicaConfiguration { applied, taken, since, .. } = configuration;
        let outcome = word(&taken).to_owned();
        let reason = match taken {
            Taken::Rejected(reason) => Some(reason),
            Taken::Pending => not_running,
            Taken::Applied => None,
        };
        Self { id, applied, outcome, reason, since: since.map(rfc3339) }
    }
}

/// As it is shown.
pub(crate) fn word(taken: &Taken) -> &'static str {
    match taken {
        Taken::Pending => "pending",
        Taken::Applied => "applied",
        Taken::Rejected(_) => "rejected",
    }
}

#[cfg(test)]
mod tests;
