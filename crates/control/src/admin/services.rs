//! The catalogue: which services there are, where their instances are, and what becomes of them.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Deserialize;
use types::ServiceName;

use super::AdminState;
use super::stream::{self, Stopping, Tells};
use crate::catalogue::{Services, Watch};
use crate::problem::AdminProblem;

/// With `watch`, what is asked for is a stream from that revision on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceQuery {
    watch: Option<String>,
}

/// What is wanted of the instances, as it stands in the request.
struct Wanted {
    service: Option<ServiceName>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/services/{name}/instances", get(instances_of))
        .route("/v1/instances", get(instances))
}

async fn services(State(state): State<AdminState>) -> Json<Services> {
    Json(state.catalogue.services())
}

async fn instances(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, AdminProblem> {
    Wanted { service: None, query, headers }.answer(&state, stopping)
}

async fn instances_of(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, AdminProblem> {
    let Ok(Path(name)) = path else {
        return Err(AdminProblem::service_unknown("of a name that is not UTF-8"));
    };
    let service = name.parse().ok().filter(|service| state.catalogue.has(service));
    let service = Some(service.ok_or_else(|| AdminProblem::service_unknown(&name))?);
    Wanted { service, query, headers }.answer(&state, stopping)
}

impl Wanted {
    fn answer(self, state: &AdminState, stopping: Stopping) -> Result<Response, AdminProblem> {
        let Self { service, query, headers } = self;
        let Query(query) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
        let Some(watch) = query.watch else {
            return Ok(Json(state.catalogue.instances(service.as_ref())).into_response());
        };
        // A reader whose stream broke off asks for the same again, and says here how far it came.
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let watch = state.catalogue.watch(service, last.unwrap_or(&watch));
        let place = state.catalogue.place().ok_or_else(AdminProblem::watchers_full)?;
        Ok(stream::answer(watch, stopping, place))
    }
}

impl Tells for Watch {
    async fn next(&mut self) -> Bytes {
        Watch::next(self).await.encode()
    }
}

#[cfg(test)]
mod tests;
