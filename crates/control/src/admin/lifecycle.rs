//! The replicas that are looked after here: how many there are, and which begin anew or stay stopped.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use service_lifecycle::FleetHandle;
use service_registry::Actor as EventActor;
use types::{ReplicaId, ServiceName};

use super::configuration::{How, changed};
use super::{Actor, AdminState, ConfigWanted};
use crate::problem::AdminProblem;

/// The request of `POST /v1/services/{name}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many replicas are wanted.
    pub replicas: u32,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/services/{name}/scale", post(scale))
        .route("/v1/services/{name}/restart", post(restart))
        .route("/v1/replicas/{service}/{ordinal}/restart", post(restart_one))
        .route("/v1/replicas/{service}/{ordinal}/drain", post(drain))
}

/// Another revision of the configuration, in which only this is another.
async fn scale(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, AdminProblem> {
    let service = service(&state, path)?;
    let request: ScaleRequest =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let wanted = ConfigWanted::Scaled(service, request.replicas);
    changed(&state, actor, &headers, How::default(), wanted).await
}

async fn restart(
    State(state): State<AdminState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, AdminProblem> {
    let service = service(&state, path)?;
    fleet(&state, &service)?.restart(EventActor::Operator).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn restart_one(
    State(state): State<AdminState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, AdminProblem> {
    let replica = replica(&state, path)?;
    fleet(&state, &replica.service)?.restart_one(replica.clone(), EventActor::Operator).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn drain(
    State(state): State<AdminState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, AdminProblem> {
    let replica = replica(&state, path)?;
    fleet(&state, &replica.service)?.drain(replica.clone(), EventActor::Operator).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) fn service(
    state: &AdminState,
    path: Result<Path<String>, PathRejection>,
) -> Result<ServiceName, AdminProblem> {
    let Ok(Path(name)) = path else {
        return Err(AdminProblem::service_unknown("of a name that is not UTF-8"));
    };
    let service = name.parse().ok().filter(|service| state.catalogue.has(service));
    service.ok_or_else(|| {
        let snapshot = state.registry.snapshot();
        let names = snapshot.services.iter().map(|service| service.name.as_str());
        AdminProblem::service_unknown_beside(&name, names)
    })
}

fn replica(
    state: &AdminState,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<ReplicaId, AdminProblem> {
    let Ok(Path((service, ordinal))) = path else {
        return Err(AdminProblem::replica_unknown("of a name that is not UTF-8"));
    };
    let name = format!("{service}/{ordinal}");
    let id: ReplicaId = name.parse().map_err(|_| AdminProblem::replica_unknown(&name))?;
    if state.registry.snapshot().replica(&id).is_some() {
        Ok(id)
    } else {
        Err(AdminProblem::replica_unknown(&name))
    }
}

pub(super) fn fleet<'a>(
    state: &'a AdminState,
    service: &ServiceName,
) -> Result<&'a FleetHandle, AdminProblem> {
    state.fleets.of(service).ok_or_else(|| AdminProblem::not_started_here(service))
}
