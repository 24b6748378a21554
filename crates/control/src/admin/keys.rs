//! API keys: each change is in the audit trail before it is made, by the id of the key and never by the key.

use access::{AccessError, KeyRecord, NewKey, NewRotation};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{delete, post};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use trust::TrustError;
use trust::audit::{Entry, Outcome};

use super::{Actor, AdminState, CreatedKey, RotatedKey};
use crate::problem::AdminProblem;

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/keys", post(create).get(list))
        .route("/v1/keys/{id}", delete(revoke))
        .route("/v1/keys/{id}/rotate", post(rotate))
}

async fn create(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<CreatedKey>), AdminProblem> {
    let new: NewKey =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let created = carried_out(tokio::spawn(created(state, actor, new))).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn created(state: AdminState, actor: Actor, new: NewKey) -> Result<CreatedKey, AdminProblem> {
    let made = state.keys.make(new, Timestamp::now()).await?;
    let KeyRecord { id, name, scopes, tenant, tier, expires_at, public_key, .. } = made.record();
    let change = Change { state: &state, actor, kind: "key-create", id: id.clone() };
    let expires = expires_at.map(|at| at.to_string());
    let mut data =
        json!({"name": name, "scopes": scopes, "tenant": tenant, "tier": tier, "expiresAt": expires});
    if let Some(public) = public_key {
        data["publicKey"] = json!(public);
    }
    change.begins(data).await?;
    let (record, key) = change.ended(state.keys.add(made).await).await?;
    tracing::info!(key = record.id, name = record.name, "an API key was created");
    Ok(CreatedKey { id: record.id, key: key.map(|key| key.expose().to_owned()) })
}

async fn list(State(state): State<AdminState>) -> Json<Vec<KeyRecord>> {
    Json(state.keys.list().await)
}

async fn revoke(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyRecord>, AdminProblem> {
    let Path(id) = id?;
    carried_out(tokio::spawn(revoked(state, actor, id))).await.map(Json)
}

async fn revoked(state: AdminState, actor: Actor, id: String) -> Result<KeyRecord, AdminProblem> {
    let known = state.keys.list().await.into_iter().find(|record| record.id == id);
    let known = known.ok_or_else(|| AccessError::UnknownKey(id.clone()))?;
    if known.revoked_at.is_some() {
        return Ok(known);
    }
    let change = Change { state: &state, actor, kind: "key-revoke", id };
    change.begins(json!({"name": known.name})).await?;
    let record = change.ended(state.keys.revoke(&change.id, Timestamp::now()).await).await?;
    tracing::info!(key = record.id, name = record.name, "an API key was revoked");
    Ok(record)
}

/// Without a body it is done as it is by default.
async fn rotate(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RotatedKey>, AdminProblem> {
    let (Path(id), body) = (id?, body?);
    let wanted = match body.is_empty() {
        true => NewRotation::default(),
        false => serde_json::from_slice(&body).map_err(|error| AdminProblem::invalid(error.to_string()))?,
    };
    carried_out(tokio::spawn(rotated(state, actor, id, wanted))).await.map(Json)
}

async fn rotated(
    state: AdminState,
    actor: Actor,
    id: String,
    wanted: NewRotation,
) -> Result<RotatedKey, AdminProblem> {
    let made = state.keys.make_rotation(&id, &wanted, Timestamp::now()).await?;
    let change = Change { state: &state, actor, kind: "key-rotate", id };
    let mut data = json!({"name": made.name(), "overlap": types::duration::text(made.overlap())});
    if let Some(public) = made.public_key() {
        data["publicKey"] = json!(public);
    }
    change.begins(data).await?;
    let (record, key) = change.ended(state.keys.rotate(made).await).await?;
    tracing::info!(key = record.id, name = record.name, "an API key was rotated");
    Ok(RotatedKey {
        id: record.id,
        key: key.map(|key| key.expose().to_owned()),
        previous_ends_at: record.previous_ends_at,
    })
}

/// In a task of its own: whoever asks may go, and what is recorded as done must be done.
async fn carried_out<T>(change: JoinHandle<Result<T, AdminProblem>>) -> Result<T, AdminProblem> {
    change.await.unwrap_or_else(|_| Err(AccessError::Unfinished.into()))
}

/// What is done, to which key, and by whom.
struct Change<'a> {
    state: &'a AdminState,
    actor: Actor,
    kind: &'static str,
    id: String,
}

impl Change<'_> {
    async fn begins(&self, data: Value) -> Result<(), TrustError> {
        self.record(Outcome::Done, None, data).await
    }

    /// What was recorded as done and was not is said to have failed.
    async fn ended<T>(&self, ended: Result<T, AccessError>) -> Result<T, AdminProblem> {
        if let Err(error) = &ended {
            self.record(Outcome::Failed, Some(error.to_string()), Value::Null).await?;
        }
        Ok(ended?)
    }

    async fn record(&self, outcome: Outcome, reason: Option<String>, data: Value) -> Result<(), TrustError> {
        let (kind, actor, subject) = (self.kind.into(), self.actor.0.into(), self.id.clone());
        self.state.authority.put_on_record(Entry { kind, actor, subject, outcome, reason, data }).await
    }
}

#[cfg(test)]
mod tests;
