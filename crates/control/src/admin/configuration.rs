//! The configuration: what is in force, every revision that was, and changes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use configuration::{Difference, LoadError, MAX_FILE_BYTES};
use secrets::SecretsError;
use serde::{Deserialize, Serialize};
use store::StoreError;
use thiserror::Error;
use trust::TrustError;
use types::ServiceName;

use super::{Actor, AdminState};
use crate::problem::AdminProblem;

/// The lines of a diff that are told; of the rest only the number is.
const MAX_DIFFERENCES: usize = 1_000;

/// A revision of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRevision {
    /// Its number, from 1. Numbers only grow; one is left out where a change was given up after all.
    pub revision: u64,
    /// Who made it: `configuration file`, or whoever asked for it as the audit trail names them.
    pub author: String,
    /// Where it came from: `file` or `cli`.
    pub origin: String,
    /// When it was made, RFC 3339.
    pub time: String,
    /// SHA-256 of what it means, in hex.
    pub digest: String,
    /// Whether it is what everything goes by now.
    pub in_force: bool,
    /// In what it differs from the one before, the first lines; nothing of the first one.
    pub changes: Vec<String>,
    /// How many keys that are in all.
    pub changed_keys: usize,
    /// The YAML, as it was given; not in a list. Its paths are relative to the folder of the file that `up` was started with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The configuration that is wanted.
    pub wanted: ConfigWanted,
    /// The revision that must be in force for it, if it matters.
    pub if_revision: Option<u64>,
    /// Only what would come of it is told.
    pub dry_run: bool,
    /// Who asks, as the audit trail names them.
    pub author: &'static str,
}

/// A configuration that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigWanted {
    /// That of this text.
    Text(Vec<u8>),
    /// That of an earlier revision.
    Revision(u64),
    /// The one in force, with so many replicas of a service.
    Scaled(ServiceName, u32),
    /// The one in force, of which what this service runs is measured again: where it is another, it is rolled out. No revision
    /// comes of it, and `changed` of the answer says whether a rollout has begun.
    MeasuredAgain(ServiceName),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigChanged {
    /// The revision that is in force now.
    pub revision: u64,
    /// Whether it is another one than before. What means the same as what is in force makes none.
    pub changed: bool,
    /// Whether nothing was changed since only that was asked for.
    pub dry_run: bool,
    /// In what it differs from what was in force, at most 1,000 keys.
    pub diff: Vec<Difference>,
    /// How many keys more.
    pub more: usize,
    /// The keys for which it would be refused, as they can be changed only by a new start; only told in a dry run.
    pub restart_needed: Vec<String>,
}

impl ConfigChanged {
    /// The answer with as much of the diff as may be told.
    pub fn new(revision: u64, changed: bool, mut diff: Vec<Difference>) -> Self {
        let more = diff.len().saturating_sub(MAX_DIFFERENCES);
        diff.truncate(MAX_DIFFERENCES);
        Self { revision, changed, dry_run: false, diff, more, restart_needed: Vec::new() }
    }
}

/// Why a configuration is not taken over. Nothing has changed then.
#[derive(Debug, Error)]
pub enum ConfigRefused {
    /// What is wrong with it.
    #[error("{0}")]
    Invalid(LoadError),
    /// Another revision than the expected one is in force.
    #[error(
        "revision {in_force} is in force by now; look at it with `serviceos config show`, then try again"
    )]
    Conflict {
        /// It.
        in_force: u64,
    },
    /// No such revision is kept.
    #[error("there is no revision {0}; `serviceos config history` lists those that are kept")]
    Unknown(u64),
    /// Keys of a running system that stay.
    #[error(
        "{} can be changed only by a new start (`serviceos down`, then `serviceos up`); undo that to have the rest applied now",
        .0.join(", ")
    )]
    NewStart(Vec<String>),
    /// There is no such service.
    #[error("there is no service {0}; `serviceos services` lists them")]
    UnknownService(ServiceName),
    /// Something that it needs is not there.
    #[error("{0}")]
    NotApplied(String),
    /// The audit trail, or what it changes about trust.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The revision could not be written down or read.
    #[error("the revision could not be kept: {0}")]
    Store(StoreError),
}

impl ConfigRefused {
    /// Whether only the store, the audit trail, or somebody who has changed the same at the same moment was in the way, so that
    /// the same may be taken over later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Conflict { .. } => true,
            Self::Store(error) | Self::Trust(TrustError::Store(error)) => comes_back(error),
            Self::Trust(TrustError::Secrets(SecretsError::Store(error))) => comes_back(error),
            Self::Trust(TrustError::Secrets(error)) => matches!(error, SecretsError::Conflict),
            Self::Trust(error) => matches!(error, TrustError::Audit(_) | TrustError::Overtaken),
            Self::Invalid(_)
            | Self::Unknown(_)
            | Self::UnknownService(_)
            | Self::NewStart(_)
            | Self::NotApplied(_) => false,
        }
    }
}

/// What is too large for the store stays so.
fn comes_back(error: &StoreError) -> bool {
    !matches!(error, StoreError::TooLarge(_))
}

/// An answer, some time.
pub type ConfigAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ConfigRefused>> + Send + 'a>>;

/// Whoever has the revisions, and applies another one.
pub trait ConfigDesk: Send + Sync {
    /// What is in force.
    fn in_force(&self) -> ConfigRevision;
    /// The number of what is in force.
    fn revision_in_force(&self) -> u64;
    /// Those that are kept, the newest first.
    fn list(&self) -> ConfigAnswer<'_, Vec<ConfigRevision>>;
    /// One of them.
    fn revision(&self, number: u64) -> ConfigAnswer<'_, ConfigRevision>;
    /// Applies another one, to its end, whether or not somebody waits for that.
    fn change(&self, change: ConfigChange) -> ConfigAnswer<'_, ConfigChanged>;
}

/// The one that everybody shares.
pub type SharedConfigDesk = Arc<dyn ConfigDesk>;

/// The request of `POST /v1/config/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision whose configuration shall be in force again, under a number of its own.
    pub revision: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct How {
    dry_run: bool,
}

pub(super) fn routes() -> Router<AdminState> {
    let apply = post(apply).layer(DefaultBodyLimit::max(max_file_bytes()));
    Router::new()
        .route("/v1/config", apply.get(show))
        .route("/v1/config/revisions", get(list))
        .route("/v1/config/revisions/{number}", get(revision))
        .route("/v1/config/rollback", post(roll_back))
}

/// What is applied may be as large as a file.
fn max_file_bytes() -> usize {
    usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX)
}

async fn show(State(state): State<AdminState>) -> Response {
    let revision = state.configuration.in_force();
    tagged(revision.revision, &revision)
}

async fn list(State(state): State<AdminState>) -> Result<Json<Vec<ConfigRevision>>, AdminProblem> {
    Ok(Json(state.configuration.list().await?))
}

async fn revision(
    State(state): State<AdminState>,
    number: Result<Path<String>, PathRejection>,
) -> Result<Response, AdminProblem> {
    let number = number.ok().and_then(|Path(number)| number.parse().ok());
    let revision = state.configuration.revision(number.unwrap_or_default()).await?;
    Ok(tagged(revision.revision, &revision))
}

async fn apply(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, AdminProblem> {
    let Query(how) = how.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    if !is_text(&headers) {
        return Err(AdminProblem::invalid("the body is the YAML itself; send it as application/yaml"));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => AdminProblem::body_too_large(max_file_bytes()),
        _ => AdminProblem::from(rejection),
    })?;
    let wanted = ConfigWanted::Text(body.into());
    changed(&state, actor, &headers, how, wanted).await
}

async fn roll_back(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, AdminProblem> {
    let Query(how) = how.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let request: RollbackRequest =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    changed(&state, actor, &headers, how, ConfigWanted::Revision(request.revision)).await
}

pub(super) async fn changed(
    state: &AdminState,
    actor: Actor,
    headers: &HeaderMap,
    how: How,
    wanted: ConfigWanted,
) -> Result<Response, AdminProblem> {
    let if_revision = expected(headers)?;
    let change = ConfigChange { wanted, if_revision, dry_run: how.dry_run, author: actor.0 };
    let changed = state.configuration.change(change).await?;
    Ok(tagged(changed.revision, &changed))
}

/// The revision is the tag (RFC 9110, section 8.8.3).
fn tagged(revision: u64, body: &impl Serialize) -> Response {
    ([(header::ETAG, format!("\"{revision}\""))], Json(body)).into_response()
}

/// The revision of `If-Match`; none where it is left out, or where any will do.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, AdminProblem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).parse();
    number
        .map(Some)
        .map_err(|_| AdminProblem::invalid("If-Match: expected the number of a revision, such as \"7\""))
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/") || ["application/yaml", "application/x-yaml"].contains(&kind.as_str())
}

#[cfg(test)]
pub(super) mod tests;
