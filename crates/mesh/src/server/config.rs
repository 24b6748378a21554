//! The configuration of a member's own service: which one it is to work with, and what it has made of it.

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use jiff::Timestamp;
use mesh_protocol::tls::Peer;
use mesh_protocol::{Bytes, ConfigAnswer, ConfigOutcome, ConfigReport, WantedConfig, told_reason};
use service_registry::{Configuration, Configurations, Taken};
use trust::Authority;
use types::{ReplicaId, ServiceName};

use super::{Api, Connection, Refused, read, replica};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/config", get(newest).post(said))
}

/// What the replicas of a service are to work with. Asked after the transition was, it is no older than that.
pub(super) fn wanted(
    authority: &Authority,
    configurations: &Configurations,
    service: &ServiceName,
) -> Option<Configuration> {
    configurations.of_digest(service, &authority.config_digest(service)?)
}

/// The same as it is told on the watch.
pub(super) fn told(configuration: &Configuration) -> WantedConfig {
    WantedConfig { revision: configuration.revision, digest: Bytes(configuration.digest.to_vec()) }
}

async fn newest(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
) -> Result<Json<ConfigAnswer>, Refused> {
    let (_, _, configuration) = api.of_its_service(&connection)?;
    let Configuration { revision, value, .. } = configuration;
    Ok(Json(ConfigAnswer { revision, config: value.as_ref().clone() }))
}

/// What is said of another configuration than the one that is wanted is over, and changes nothing.
async fn said(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<ConfigReport>, JsonRejection>,
) -> Result<Json<()>, Refused> {
    let ConfigReport { revision, outcome, reason } = read(body)?;
    let (replica, peer, wanted) = api.of_its_service(&connection)?;
    if revision != wanted.revision {
        return Ok(Json(()));
    }
    let taken = match outcome {
        ConfigOutcome::Applied => Taken::Applied,
        ConfigOutcome::Rejected => {
            // From here on it may renew its identity with the one before.
            api.authority.config_rejected(peer, wanted.digest);
            Taken::Rejected(told_reason(reason.as_deref().unwrap_or("it does not say why")))
        }
    };
    if api.configurations.said(&replica, revision, taken.clone(), Timestamp::now()) {
        match taken {
            Taken::Rejected(reason) => tracing::error!(
                %replica,
                revision,
                reason,
                "a replica has rejected its configuration, and goes on with the one before; `serviceos config status` shows it"
            ),
            Taken::Applied | Taken::Pending => {
                tracing::info!(%replica, revision, "a replica works with its configuration");
            }
        }
    }
    Ok(Json(()))
}

impl Api {
    /// Who asks, and what its service is to work with.
    fn of_its_service<'c>(
        &self,
        connection: &'c Connection,
    ) -> Result<(ReplicaId, &'c Peer, Configuration), Refused> {
        let (replica, peer) = replica(connection)?;
        let found = wanted(&self.authority, &self.configurations, &replica.service);
        let found = found.ok_or_else(|| {
            let detail = format!("{} has no configuration", replica.service);
            Refused::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", detail)
        })?;
        Ok((replica, peer, found))
    }
}
