//! The HTTP of the service: JSON in, JSON out, refusals as problem documents. It decides nothing about randomness.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sdk::{Problem, Tenant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use thiserror::Error;

use crate::ecvrf::{PublicKey, SUITE};
use crate::hex;
use crate::keys::Published;
use crate::range::{Draw, DrawError};
use crate::service::{Answer, Service, verify};

/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// The longest seed, in bytes of UTF-8.
const MAX_SEED_BYTES: usize = 256;

/// The routes of the service.
pub(crate) fn router(service: Arc<Service>) -> axum::Router {
    axum::Router::new()
        .route("/v1/random", post(random))
        .route("/v1/random/verify", post(verify_random))
        .route("/v1/random/keys", get(keys))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(service)
}

type Body = Result<Bytes, BytesRejection>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RandomRequest {
    min: Number,
    max: Number,
    count: Option<Number>,
    seed: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RandomAnswer<'a> {
    id: String,
    value: i64,
    values: Vec<i64>,
    beta: String,
    proof: String,
    alpha: String,
    suite: &'static str,
    key_id: &'a str,
    epoch: u32,
    timestamp: String,
    statement: String,
    signature: String,
    replayed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerifyRequest {
    key_id: Option<String>,
    public_key: Option<String>,
    alpha: String,
    proof: String,
    min: Option<Number>,
    max: Option<Number>,
    count: Option<Number>,
}

#[derive(Default, Serialize)]
struct Verdict {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct KeyList<'a> {
    keys: Vec<KeyRow<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyRow<'a> {
    key_id: &'a str,
    epoch: u32,
    suite: &'static str,
    public_key: String,
    signing_key: String,
}

/// Why a request is refused.
#[derive(Debug, Error)]
enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    BadRange(#[from] DrawError),
    #[error("a seed has at most {MAX_SEED_BYTES} bytes, this one has {0}")]
    SeedTooLong(usize),
    #[error("no key of this service has this id; GET /v1/random/keys lists them")]
    UnknownKey,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, title) = match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "VRF_BAD_REQUEST", "Malformed request"),
            Self::BadRange(_) => {
                (StatusCode::BAD_REQUEST, "VRF_BAD_RANGE", "Nothing can be drawn from this range")
            }
            Self::SeedTooLong(_) => (StatusCode::BAD_REQUEST, "VRF_SEED_TOO_LONG", "Seed too long"),
            Self::UnknownKey => (StatusCode::NOT_FOUND, "VRF_UNKNOWN_KEY", "Unknown key"),
        };
        Problem::new(status, code, title, self.to_string()).into_response()
    }
}

async fn random(
    State(service): State<Arc<Service>>,
    Tenant(tenant): Tenant,
    body: Body,
) -> Result<Response, Refusal> {
    let RandomRequest { min, max, count, seed } = parse(body)?;
    let draw = draw(&min, &max, count.as_ref())?;
    if let Some(length) = seed.as_ref().map(String::len).filter(|length| *length > MAX_SEED_BYTES) {
        return Err(Refusal::SeedTooLong(length));
    }
    let keys = service.keys();
    Ok(Json(RandomAnswer::from(service.draw(&keys, &tenant, seed.as_deref(), &draw))).into_response())
}

async fn verify_random(State(service): State<Arc<Service>>, body: Body) -> Result<Json<Verdict>, Refusal> {
    let VerifyRequest { key_id, public_key, alpha, proof, min, max, count } = parse(body)?;
    let (alpha, proof) = (bytes("alpha", &alpha)?, bytes("proof", &proof)?);
    let draw = match (min, max, count) {
        (Some(min), Some(max), count) => Some(draw(&min, &max, count.as_ref())?),
        (None, None, None) => None,
        _ => {
            return Err(Refusal::BadRequest(
                "min and max come together, and count only with them".to_owned(),
            ));
        }
    };
    let public = match (key_id, public_key) {
        (Some(id), None) => Ok(service.keys().find(&id).ok_or(Refusal::UnknownKey)?.public),
        (None, Some(key)) => PublicKey::from_bytes(&bytes("publicKey", &key)?),
        _ => return Err(Refusal::BadRequest("expected either keyId or publicKey".to_owned())),
    };
    let verdict = match public.and_then(|public| verify(&public, &alpha, &proof, draw.as_ref())) {
        Ok((beta, values)) => {
            Verdict { valid: true, beta: Some(hex::encode(beta)), values, ..Verdict::default() }
        }
        Err(invalid) => Verdict { reason: Some(invalid.to_string()), ..Verdict::default() },
    };
    Ok(Json(verdict))
}

async fn keys(State(service): State<Arc<Service>>) -> Response {
    let keys = service.keys();
    Json(KeyList { keys: keys.rows().into_iter().map(KeyRow::from).collect() }).into_response()
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::BadRequest(format!("the body has more than {MAX_BODY_BYTES} bytes"))
        }
        _ => Refusal::BadRequest("the body broke off".to_owned()),
    })?;
    // A derived struct would also be read from an array of its fields.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::BadRequest("expected a JSON object".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| Refusal::BadRequest(error.to_string()))
}

fn draw(min: &Number, max: &Number, count: Option<&Number>) -> Result<Draw, Refusal> {
    let count = count.map_or(Ok(1), |count| integer("count", count))?;
    Ok(Draw::new(integer("min", min)?, integer("max", max)?, count)?)
}

/// A number as an integer. What has more digits than an `i64` is still an integer, merely one out of range.
fn integer(field: &str, number: &Number) -> Result<i64, Refusal> {
    let beyond = |float: f64| float.fract() == 0.0 && float.abs() >= i64::MAX as f64;
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => Ok(integer),
        (None, Some(float)) if number.is_u64() || beyond(float) => {
            Ok(if float < 0.0 { i64::MIN } else { i64::MAX })
        }
        _ => Err(Refusal::BadRequest(format!("{field} must be an integer, not {number}"))),
    }
}

fn bytes(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    hex::decode(text).ok_or_else(|| Refusal::BadRequest(format!("{field} must be hexadecimal")))
}

impl<'a> From<(&'a Published, &[u8])> for KeyRow<'a> {
    fn from((key, signer): (&'a Published, &[u8])) -> Self {
        Self {
            key_id: &key.id,
            epoch: key.epoch,
            suite: SUITE,
            public_key: hex::encode(key.public.as_bytes()),
            signing_key: hex::encode(signer),
        }
    }
}

impl<'a> From<Answer<'a>> for RandomAnswer<'a> {
    fn from(answer: Answer<'a>) -> Self {
        Self {
            id: answer.id,
            value: answer.values[0],
            values: answer.values,
            beta: hex::encode(answer.beta),
            proof: hex::encode(answer.proof),
            alpha: hex::encode(answer.alpha),
            suite: SUITE,
            key_id: &answer.key.id,
            epoch: answer.key.epoch,
            timestamp: format!("{:.3}", answer.time),
            statement: hex::encode(answer.statement),
            signature: hex::encode(answer.signature),
            // Nothing is remembered, so an answer that is the same again was made again.
            replayed: false,
        }
    }
}

#[cfg(test)]
mod tests;
