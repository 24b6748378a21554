//! What the replicas of this node write.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use types::ReplicaId;

use super::AdminState;
use super::stream::{self, Stopping, Tells};
use crate::logs::{Follow, WhoseLines};
use crate::problem::AdminProblem;

/// Whose lines, how old at most, and whether what is asked for is a stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    service: Option<String>,
    replica: Option<String>,
    since: Option<String>,
    #[serde(default)]
    follow: bool,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/logs", get(logs))
}

async fn logs(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, AdminProblem> {
    let Query(query) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let follow = state.logs.follow(query.whose(&state)?, query.since()?);
    if !query.follow {
        return Ok(([(header::CONTENT_TYPE, "application/json")], follow.all()).into_response());
    }
    let place = state.logs.place().ok_or_else(AdminProblem::watchers_full)?;
    Ok(stream::answer(follow, stopping, place))
}

impl LogQuery {
    fn whose(&self, state: &AdminState) -> Result<WhoseLines, AdminProblem> {
        match (&self.service, &self.replica) {
            (None, None) => Ok(WhoseLines::All),
            (Some(name), None) => {
                let service = name.parse().ok().filter(|service| state.catalogue.has(service));
                service.map(WhoseLines::OfService).ok_or_else(|| AdminProblem::service_unknown(name))
            }
            (None, Some(id)) => {
                let exists =
                    |id: &ReplicaId| state.registry.snapshot().replica(id).is_some() || state.logs.knows(id);
                let replica = id.parse().ok().filter(exists);
                replica.map(WhoseLines::OfReplica).ok_or_else(|| AdminProblem::replica_unknown(id))
            }
            (Some(_), Some(_)) => {
                Err(AdminProblem::invalid("`service` and `replica` exclude each other; the id names both"))
            }
        }
    }

    fn since(&self) -> Result<Option<Timestamp>, AdminProblem> {
        let Some(text) = &self.since else { return Ok(None) };
        let age = types::duration::parse(text).and_then(|age| SignedDuration::try_from(age).ok());
        let age = age.ok_or_else(|| AdminProblem::invalid("`since` is a duration such as 10m or 1h30m"))?;
        Ok(Some(Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN)))
    }
}

impl Tells for Follow {
    async fn next(&mut self) -> Bytes {
        Follow::next(self).await
    }
}

#[cfg(test)]
mod tests;
