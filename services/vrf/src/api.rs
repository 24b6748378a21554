//! The HTTP of the service: JSON in, JSON out, refusals as problem documents. It decides nothing about randomness.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use sdk::{Problem, StateError, Tenant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use thiserror::Error;

use crate::ecvrf::{PublicKey, SUITE};
use crate::hex;
use crate::keys::Published;
use crate::ledger::{Given, Keyed, NotGiven};
use crate::range::{Draw, DrawError};
use crate::records::{self, Owner};
use crate::service::{Asked, Service, verify};

/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// The largest body of a batch, in bytes.
const MAX_BATCH_BODY_BYTES: usize = 128 * 1024;
/// Draws of one batch.
const MAX_BATCH: usize = 100;
/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 255;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest seed, in bytes of UTF-8.
const MAX_SEED_BYTES: usize = 256;

/// The routes of the service.
pub(crate) fn router(service: Arc<Service>) -> axum::Router {
    axum::Router::new()
        .route("/v1/random", post(random))
        .route("/v1/random/{id}", get(kept))
        .route("/v1/random/batch", post(batch).layer(DefaultBodyLimit::max(MAX_BATCH_BODY_BYTES)))
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BatchRequest {
    requests: Vec<RandomRequest>,
}

#[derive(Serialize)]
struct BatchAnswer {
    answers: Vec<RandomAnswer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RandomAnswer {
    id: String,
    value: i64,
    values: Vec<i64>,
    beta: String,
    proof: String,
    alpha: String,
    suite: &'static str,
    key_id: String,
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
    #[error("no answer of yours has this id; answers are kept for 30 days")]
    UnknownId,
    #[error(
        "this seed was used with another range or count; GET its answer by its id, or choose another seed"
    )]
    SeedReused,
    #[error("this Idempotency-Key was used for another request; choose a new key for a new request")]
    Mismatch,
    #[error("{0}")]
    State(#[from] StateError),
    #[error("requests[{0}]: {1}")]
    OfBatch(usize, Box<Refusal>),
}

impl From<NotGiven> for Refusal {
    fn from(reason: NotGiven) -> Self {
        match reason {
            NotGiven::SeedReused(_) => Self::SeedReused,
            NotGiven::Mismatch => Self::Mismatch,
            NotGiven::State(error) => Self::State(error),
        }
    }
}

impl Refusal {
    /// The status, the code, and what the code means.
    fn what(&self) -> (StatusCode, &'static str, &'static str) {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::BadRequest(_) => (bad, "VRF_BAD_REQUEST", "Malformed request"),
            Self::BadRange(_) => (bad, "VRF_BAD_RANGE", "Nothing can be drawn from this range"),
            Self::SeedTooLong(_) => (bad, "VRF_SEED_TOO_LONG", "Seed too long"),
            Self::UnknownKey => (StatusCode::NOT_FOUND, "VRF_UNKNOWN_KEY", "Unknown key"),
            Self::UnknownId => (StatusCode::NOT_FOUND, "VRF_UNKNOWN_ID", "Unknown answer"),
            Self::SeedReused => (StatusCode::CONFLICT, "VRF_SEED_REUSED", "Seed used for another draw"),
            Self::Mismatch => {
                (StatusCode::CONFLICT, "IDEMPOTENCY_MISMATCH", "Idempotency-Key used for another request")
            }
            Self::State(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "STATE_UNAVAILABLE",
                "What the service keeps cannot be reached",
            ),
            Self::OfBatch(_, refusal) => refusal.what(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::State(error) = self {
            return Problem::from(error).into_response();
        }
        let (status, code, title) = self.what();
        Problem::new(status, code, title, self.to_string()).into_response()
    }
}

async fn random(
    State(service): State<Arc<Service>>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RandomAnswer>, Refusal> {
    let asked = asked(parse(body, MAX_BODY_BYTES)?)?;
    let key = idempotency_key(&headers)?;
    let given = give(&service, "/v1/random", &tenant, &[asked], key).await?;
    let given = given.into_iter().next().expect("there is an answer to each draw");
    Ok(Json(RandomAnswer::from(given)))
}

async fn batch(
    State(service): State<Arc<Service>>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchAnswer>, Refusal> {
    let BatchRequest { requests } = parse(body, MAX_BATCH_BODY_BYTES)?;
    if requests.is_empty() || requests.len() > MAX_BATCH {
        return Err(Refusal::BadRequest(format!("a batch has 1 to {MAX_BATCH} requests")));
    }
    let of_batch =
        |(place, request)| asked(request).map_err(|refusal| Refusal::OfBatch(place, Box::new(refusal)));
    let asked = requests.into_iter().enumerate().map(of_batch).collect::<Result<Vec<_>, _>>()?;
    let key = idempotency_key(&headers)?;
    let given = give(&service, "/v1/random/batch", &tenant, &asked, key).await;
    let given = given.map_err(|reason| match reason {
        NotGiven::SeedReused(place) => Refusal::OfBatch(place, Box::new(Refusal::SeedReused)),
        reason => reason.into(),
    })?;
    Ok(Json(BatchAnswer { answers: given.into_iter().map(RandomAnswer::from).collect() }))
}

/// Draws, and answers with what is kept then.
async fn give(
    service: &Service,
    path: &str,
    tenant: &str,
    asked: &[Asked],
    key: Option<&[u8]>,
) -> Result<Vec<Given>, NotGiven> {
    let keyed = key.map(|key| Keyed {
        key: records::key(tenant, key),
        request: records::request(path, asked.iter().map(|asked| (&asked.draw, asked.seed.as_deref()))),
        moment: service.moment(),
    });
    let (keys, mut drawn) = (service.keys(), Vec::with_capacity(asked.len()));
    for asked in asked {
        drawn.push(service.draw(&keys, tenant, asked, keyed.is_some()));
        // A batch lets others in between its proofs.
        tokio::task::yield_now().await;
    }
    service.ledger.settle(&Owner::new(tenant), drawn, keyed.as_ref()).await
}

async fn kept(
    State(service): State<Arc<Service>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Json<RandomAnswer>, Refusal> {
    let id = records::parse_id(&id).ok_or(Refusal::UnknownId)?;
    let record = service.ledger.find(&Owner::new(&tenant), id).await?.ok_or(Refusal::UnknownId)?;
    Ok(Json(RandomAnswer::from(Given { record, replayed: true })))
}

async fn verify_random(State(service): State<Arc<Service>>, body: Body) -> Result<Json<Verdict>, Refusal> {
    let VerifyRequest { key_id, public_key, alpha, proof, min, max, count } = parse(body, MAX_BODY_BYTES)?;
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

fn asked(request: RandomRequest) -> Result<Asked, Refusal> {
    let RandomRequest { min, max, count, seed } = request;
    let draw = draw(&min, &max, count.as_ref())?;
    match seed.as_ref().map(String::len).filter(|length| *length > MAX_SEED_BYTES) {
        Some(length) => Err(Refusal::SeedTooLong(length)),
        None => Ok(Asked { draw, seed }),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter().map(HeaderValue::as_bytes);
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key)),
        _ => Err(Refusal::BadRequest(format!("expected one Idempotency-Key of 1 to {MAX_KEY_BYTES} bytes"))),
    }
}

fn parse<T: DeserializeOwned>(body: Body, most: usize) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::BadRequest(format!("the body has more than {most} bytes")),
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

impl From<Given> for RandomAnswer {
    fn from(Given { record, replayed }: Given) -> Self {
        let values = record.draw.values(&record.beta);
        let milliseconds = i64::try_from(record.id.timestamp_ms()).unwrap_or_default();
        let time = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
        Self {
            id: records::id_text(record.id),
            value: values[0],
            values,
            beta: hex::encode(record.beta),
            proof: hex::encode(record.proof),
            alpha: hex::encode(&record.alpha),
            suite: SUITE,
            epoch: record.epoch,
            timestamp: format!("{time:.3}"),
            statement: hex::encode(record.statement()),
            signature: hex::encode(&record.signature),
            key_id: record.key_id,
            replayed,
        }
    }
}

#[cfg(test)]
mod tests;
