//! Why a query has no answer, and the one place where that becomes an HTTP answer.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outbound::FetchError;
use sdk::Problem;
use thiserror::Error;

/// Why a query has no answer. The texts are for the caller and hold nothing of what the source sent.
#[derive(Debug, Error)]
pub(crate) enum OracleError {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the query waited too long for its turn")]
    Busy,
    #[error("the source answered with status {0}")]
    UpstreamStatus(u16),
    #[error("the source's answer is not JSON: {0}")]
    NotJson(String),
    #[error("{0}")]
    Path(String),
}

impl IntoResponse for OracleError {
    fn into_response(self) -> Response {
        let (status, code, title) = match &self {
            Self::BadRequest(_) | Self::Fetch(FetchError::BadUrl(_) | FetchError::BadRequest(_)) => {
                (StatusCode::BAD_REQUEST, "ORACLE_BAD_REQUEST", "Malformed query")
            }
            Self::Fetch(FetchError::NotAllowed) => {
                (StatusCode::FORBIDDEN, "ORACLE_NOT_ALLOWED", "The source is not on the allow-list")
            }
            Self::Fetch(FetchError::PrivateAddress) => {
                (StatusCode::FORBIDDEN, "ORACLE_PRIVATE_ADDRESS", "The source is not at a public address")
            }
            Self::Fetch(FetchError::Dns) => {
                (StatusCode::BAD_GATEWAY, "ORACLE_DNS", "The source's name was not resolved")
            }
            Self::Fetch(FetchError::Tls(_)) => {
                (StatusCode::BAD_GATEWAY, "ORACLE_TLS", "No trusted connection to the source")
            }
            Self::Fetch(FetchError::Timeout) | Self::Busy => {
                (StatusCode::GATEWAY_TIMEOUT, "ORACLE_TIMEOUT", "No answer in time")
            }
            Self::Fetch(FetchError::TooLarge) => {
                (StatusCode::BAD_GATEWAY, "ORACLE_TOO_LARGE", "The source's answer is too large")
            }
            Self::Fetch(FetchError::Connect(_) | FetchError::Protocol(_)) => {
                (StatusCode::BAD_GATEWAY, "ORACLE_UNREACHABLE", "No usable answer from the source")
            }
            Self::UpstreamStatus(_) => {
                (StatusCode::BAD_GATEWAY, "ORACLE_UPSTREAM_STATUS", "The source did not answer with success")
            }
            Self::NotJson(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "ORACLE_NOT_JSON", "The source's answer is not JSON")
            }
            Self::Path(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "ORACLE_PATH", "The JSONPath selects no usable value")
            }
        };
        Problem::new(status, code, title, self.to_string()).into_response()
    }
}
