//! The HTTP of the service: JSON in, JSON out, refusals as problem documents.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use outbound::TlsPeer;
use serde::Serialize;
use serde_json::Value;

use crate::error::OracleError;
use crate::query::RawQuery;
use crate::service::{Answer, Service};

/// The largest request, in bytes.
const MAX_BODY_BYTES: usize = 30 * 1024;

/// The routes of the service.
pub(crate) fn router(service: Arc<Service>) -> axum::Router {
    axum::Router::new()
        .route("/v1/oracle/query", post(query))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(service)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryAnswer {
    id: String,
    status: &'static str,
    result: Value,
    status_code: u16,
    fetched_at: String,
    request_hash: String,
    body_hash: String,
    tls: Option<Tls>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    peer: String,
    spki_sha256: String,
}

async fn query(
    State(service): State<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<QueryAnswer>, OracleError> {
    Ok(Json(service.answer(parse(body)?.try_into()?).await?.into()))
}

fn parse(body: Result<Bytes, BytesRejection>) -> Result<RawQuery, OracleError> {
    let body = body.map_err(|_| {
        OracleError::BadRequest(format!(
            "the body could not be read, or has more than {MAX_BODY_BYTES} bytes"
        ))
    })?;
    // The derived reader would take an array for an object whose names were left out.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(OracleError::BadRequest("the body is not a JSON object".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| OracleError::BadRequest(error.to_string()))
}

impl From<Answer> for QueryAnswer {
    fn from(answer: Answer) -> Self {
        Self {
            id: format!("orc_{}", answer.id),
            status: "done",
            result: answer.result,
            status_code: answer.status,
            fetched_at: format!("{:.3}", answer.fetched_at),
            request_hash: hex(&answer.request_hash),
            body_hash: hex(&answer.body_hash),
            tls: answer.tls.map(Tls::from),
        }
    }
}

impl From<TlsPeer> for Tls {
    fn from(peer: TlsPeer) -> Self {
        Self { peer: peer.name, spki_sha256: hex(&peer.spki_sha256) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
