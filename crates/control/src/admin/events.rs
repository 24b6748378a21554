//! What has happened to replicas and services.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Deserialize;
use types::ServiceName;

use super::AdminState;
use super::stream::{self, Stopping, Tells};
use crate::events::FollowEvents;
use crate::problem::AdminProblem;

/// Of which service, after which event, and whether what is asked for is a stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    service: Option<String>,
    #[serde(default)]
    after: String,
    #[serde(default)]
    follow: bool,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/events", get(events))
}

async fn events(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    query: Result<Query<EventQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, AdminProblem> {
    let Query(query) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let service = query.service.as_deref().map(|name| service(&state, name)).transpose()?;
    if !query.follow {
        return Ok(Json(state.events.after(&query.after, service.as_ref())).into_response());
    }
    // A reader whose stream broke off asks for the same again, and says here how far it came.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let place = state.events.place().ok_or_else(AdminProblem::watchers_full)?;
    let follow = state.events.follow(last.unwrap_or(&query.after), service);
    Ok(stream::answer(follow, stopping, place))
}

/// One that there is, or was.
fn service(state: &AdminState, name: &str) -> Result<ServiceName, AdminProblem> {
    let is_known = |service: &ServiceName| state.catalogue.has(service) || state.events.knows(service);
    name.parse().ok().filter(is_known).ok_or_else(|| AdminProblem::service_unknown(name))
}

impl Tells for FollowEvents {
    async fn next(&mut self) -> Bytes {
        FollowEvents::next(self).await
    }
}
