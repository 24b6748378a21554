//! Rollouts: how far they are, how they ended, and who wants them to go on otherwise.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use service_lifecycle::rollout::Outcome;
use service_lifecycle::{EndedRollout, FleetRefused, Steer};
use service_registry::Actor as EventActor;
use types::ServiceName;

use super::lifecycle::{fleet, service};
use super::stream::{self, Stopping, Tells};
use super::{Actor, AdminState, ConfigChange, ConfigWanted};
use crate::catalogue::ServiceKind;
use crate::problem::AdminProblem;
use crate::rollout::{FollowRollouts, RolloutHistory, RolloutStarted, ServiceRollout};

/// Whether what is asked for is a stream.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Following {
    #[serde(default)]
    follow: bool,
}

type Name = Result<Path<String>, PathRejection>;

type Answer = Result<Json<ServiceRollout>, AdminProblem>;

pub(super) fn routes() -> Router<AdminState> {
    let steered = |steer| {
        post(move |state: State<AdminState>, actor: Extension<Actor>, path: Name| {
            steered(state, actor, path, steer)
        })
    };
    Router::new()
        .route("/v1/services/{name}/rollout", get(status))
        .route("/v1/services/{name}/rollout/history", get(history))
        .route("/v1/services/{name}/rollout/start", post(start))
        .route("/v1/services/{name}/rollout/pause", steered(Steer::Pause))
        .route("/v1/services/{name}/rollout/resume", steered(Steer::Resume))
        .route("/v1/services/{name}/rollout/promote", steered(Steer::Promote))
        .route("/v1/services/{name}/rollout/undo", steered(Steer::Undo))
}

async fn status(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    path: Name,
    query: Result<Query<Following>, QueryRejection>,
) -> Result<Response, AdminProblem> {
    let service = service(&state, path)?;
    let Query(Following { follow }) =
        query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let fleet = fleet(&state, &service)?;
    if !follow {
        return Ok(Json(ServiceRollout::now(&service, fleet)).into_response());
    }
    let place = state.events.place().ok_or_else(AdminProblem::watchers_full)?;
    Ok(stream::answer(FollowRollouts::new(service, fleet), stopping, place))
}

async fn history(State(state): State<AdminState>, path: Name) -> Result<Json<RolloutHistory>, AdminProblem> {
    let service = service(&state, path)?;
    let rollouts = fleet(&state, &service)?.rollouts();
    Ok(Json(RolloutHistory::of(&service, &rollouts.ended)))
}

/// What the service runs is measured again, and rolled out where it is another.
async fn start(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    path: Name,
) -> Result<Json<RolloutStarted>, AdminProblem> {
    let service = service(&state, path)?;
    let fleet = fleet(&state, &service)?;
    if state.catalogue.kind(&service) == Some(ServiceKind::Elsewhere) {
        return Err(FleetRefused::Elsewhere(service).into());
    }
    let wanted = ConfigWanted::MeasuredAgain(service.clone());
    let change = ConfigChange { wanted, if_revision: None, dry_run: false, author: actor.0 };
    let started = state.configuration.change(change).await?.changed;
    Ok(Json(RolloutStarted { started, status: ServiceRollout::now(&service, fleet) }))
}

/// Answers with how things are since.
async fn steered(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    path: Name,
    steer: Steer,
) -> Answer {
    let service = service(&state, path)?;
    let fleet = fleet(&state, &service)?;
    match fleet.steer(steer, EventActor::Operator).await {
        Ok(()) => {
            tracing::info!(%service, by = actor.0, "a rollout was {steer}");
            Ok(Json(ServiceRollout::now(&service, fleet)))
        }
        Err(FleetRefused::NoRollout(_)) if steer == Steer::Undo => {
            let last = fleet.rollouts().decided().cloned();
            Err(nothing_to_undo(&state, &service, last).await)
        }
        Err(refused) => Err(refused.into()),
    }
}

/// What is over is taken back by a revision of the configuration; which one ran before is said where it is known.
async fn nothing_to_undo(
    state: &AdminState,
    service: &ServiceName,
    last: Option<EndedRollout>,
) -> AdminProblem {
    let Some(EndedRollout { from, outcome: Outcome::Done, times: (began, _), .. }) = last else {
        return FleetRefused::NoRollout(service.clone()).into();
    };
    let list = state.configuration.list().await.unwrap_or_default();
    // The first of them that is no younger has begun it, and the next one is what was in force before.
    let is_older = |time: &str| time.parse::<Timestamp>().is_ok_and(|time| time <= began);
    let began = list.iter().position(|revision| is_older(&revision.time));
    let before = began.and_then(|began| Some((began, list.get(began + 1)?)));
    let advice = match before {
        Some((0, before)) => format!(
            "`serviceos config rollback {}` takes back the revision that began it, with all that it changed",
            before.revision
        ),
        Some((later, before)) => format!(
            "`serviceos config rollback {}` takes back the revision that began it, with all that it changed, and the {later} since; write \
             its version, command and env as they were into the file to keep those",
            before.revision
        ),
        None => "`serviceos config history` lists what can be rolled back to".to_owned(),
    };
    let detail = format!(
        "the last rollout of {service} is done, so there is none to undo; to have {} run again, {advice}",
        from.id()
    );
    AdminProblem::new(StatusCode::CONFLICT, "NO_ROLLOUT", "No rollout", detail)
}

impl Tells for FollowRollouts {
    async fn next(&mut self) -> Bytes {
        FollowRollouts::next(self).await
    }
}

#[cfg(test)]
mod tests;
