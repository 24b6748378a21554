//! Secrets: a value comes in sealed to the authority, and none ever goes out.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{get, post, put};
use jiff::Timestamp;
use mesh_protocol::Bytes as Base64;
use secrets::{Origin, SecretsError};
use serde::{Deserialize, Serialize};
use trust::{GrantedSecret, SealKey, SealedValue};
use types::Mode;

use super::{Actor, AdminState};
use crate::health::rfc3339;
use crate::problem::AdminProblem;

/// The largest request with a value: 64 KiB as base64, and what stands around it.
const MAX_SEALED_BYTES: usize = 96 << 10;

/// The request of `POST /v1/secrets/key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealKeyRequest {
    /// 32 random bytes of whoever asks.
    pub nonce: Base64,
}

/// The key that values are sealed to, and the authority's evidence that it holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealKeyAnswer {
    /// The mode.
    pub mode: Mode,
    /// The trust domain.
    pub trust_domain: String,
    /// The key of the mesh's root, as DER SubjectPublicKeyInfo.
    pub root_spki: Base64,
    /// The X25519 key, another one at each start.
    pub hpke_public_key: Base64,
    /// Evidence over [`SealKey::report_data`] of the nonce.
    pub evidence: Base64,
}

impl SealKeyAnswer {
    /// The key as it is said to be; `None` where it has not 32 bytes. Nothing of it is proved.
    pub fn key(&self) -> Option<SealKey> {
        Some(SealKey {
            mode: self.mode,
            trust_domain: self.trust_domain.clone(),
            root_spki: self.root_spki.0.clone(),
            hpke_public: self.hpke_public_key.0.as_slice().try_into().ok()?,
        })
    }
}

/// One secret, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// `set` by an operator, or `generated` inside.
    pub origin: String,
    /// `ed25519`, `p256` or `random`, of one that was generated.
    pub generate: Option<String>,
    /// Its versions, ascending, never empty.
    pub versions: Vec<SecretVersion>,
    /// The services that are given it.
    pub services: Vec<String>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    /// Its number, from 1.
    pub version: u64,
    /// Its epoch, from 1; always 1 of a secret that an operator has set.
    pub epoch: u32,
    /// When it was made, RFC 3339.
    pub made_at: Option<String>,
}

/// The answer to a value that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSet {
    /// The name.
    pub name: String,
    /// The number of the version that it has become.
    pub version: u64,
}

/// The answer to a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRotated {
    /// The name.
    pub name: String,
    /// The epoch that was made.
    pub epoch: u32,
}

/// The answer to a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRemoved {
    /// The name.
    pub name: String,
}

pub(super) fn routes() -> Router<AdminState> {
    // The one request that carries more than the others may.
    let set = put(set).layer(DefaultBodyLimit::max(MAX_SEALED_BYTES));
    Router::new()
        .route("/v1/secrets", get(list))
        .route("/v1/secrets/{name}", set.get(show).delete(remove).post(key))
        .route("/v1/secrets/{name}/rotate", post(rotate))
}

/// `POST /v1/secrets/key`: the one that is posted to. A secret may have that name too.
async fn key(
    State(state): State<AdminState>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SealKeyAnswer>, AdminProblem> {
    if name_in(name)? != "key" {
        return Err(AdminProblem::method_not_allowed());
    }
    let request: SealKeyRequest =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let nonce = request.nonce.0.as_slice().try_into();
    let nonce = nonce.map_err(|_| AdminProblem::invalid("nonce: expected 32 bytes"))?;
    let (key, evidence) = state.authority.seal_key(&nonce).await?;
    Ok(Json(SealKeyAnswer {
        mode: key.mode,
        trust_domain: key.trust_domain,
        root_spki: Base64(key.root_spki),
        hpke_public_key: Base64(key.hpke_public.to_vec()),
        evidence: Base64(evidence.encode()),
    }))
}

async fn list(State(state): State<AdminState>) -> Json<Vec<SecretInfo>> {
    Json(state.authority.secrets().await.into_iter().map(SecretInfo::new).collect())
}

async fn show(
    State(state): State<AdminState>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<SecretInfo>, AdminProblem> {
    let name = name_in(name)?;
    if secrets::is_reserved(&name) {
        return Err(SecretsError::Reserved(name).into());
    }
    secrets::check_name(&name)?;
    let listed = state.authority.secrets().await;
    let found = listed.into_iter().find(|secret| secret.summary.name == name);
    Ok(Json(SecretInfo::new(found.ok_or(SecretsError::Unknown(name))?)))
}

async fn set(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SecretSet>, AdminProblem> {
    let name = name_in(name)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => SecretsError::TooLarge.into(),
        _ => AdminProblem::from(rejection),
    })?;
    let sealed: SealedValue =
        serde_json::from_slice(&body).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let version = state.authority.set_secret(&name, &sealed, actor.0).await?;
    tracing::info!(name, version, "a secret was set");
    Ok(Json(SecretSet { name, version }))
}

async fn rotate(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<SecretRotated>, AdminProblem> {
    let name = name_in(name)?;
    let epoch = state.authority.rotate_secret(&name, actor.0).await?;
    tracing::info!(name, epoch, "a secret was rotated");
    Ok(Json(SecretRotated { name, epoch }))
}

async fn remove(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<SecretRemoved>, AdminProblem> {
    let name = name_in(name)?;
    state.authority.remove_secret(&name, actor.0).await?;
    tracing::info!(name, "a secret was removed");
    Ok(Json(SecretRemoved { name }))
}

fn name_in(name: Result<Path<String>, PathRejection>) -> Result<String, AdminProblem> {
    name.map(|Path(name)| name).map_err(|_not_utf8| SecretsError::InvalidName.into())
}

impl SecretInfo {
    fn new(GrantedSecret { summary, services }: GrantedSecret) -> Self {
        let versions = summary.versions.iter().map(|version| SecretVersion {
            version: version.version,
            epoch: version.epoch,
            made_at: version
                .made_at
                .and_then(|at| Timestamp::from_second(i64::try_from(at).ok()?).ok())
                .map(rfc3339),
        });
        Self {
            origin: match summary.origin {
                Origin::Set => "set",
                Origin::Generated => "generated",
            }
            .to_owned(),
            generate: summary.generate.map(|kind| kind.as_str().to_owned()),
            versions: versions.collect(),
            services: services.iter().map(ToString::to_string).collect(),
            name: summary.name,
        }
    }
}
