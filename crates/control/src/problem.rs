//! Errors of the admin API as problem documents.

use access::AccessError;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use types::Problem;

use crate::admin::MAX_BODY_BYTES;

/// An error answer.
pub(crate) struct AdminProblem(pub(crate) Problem);

impl AdminProblem {
    pub(crate) fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Problem::new(status.as_u16(), code, title, detail))
    }

    pub(crate) fn replica_unknown(id: &str) -> Self {
        let detail = format!("there is no replica {id}; `serviceos status` shows those that there are");
        Self::new(StatusCode::NOT_FOUND, "REPLICA_UNKNOWN", "Unknown replica", detail)
    }
}

impl From<AccessError> for AdminProblem {
    fn from(error: AccessError) -> Self {
        let (status, code, title) = match error {
            AccessError::Invalid(_) => (StatusCode::BAD_REQUEST, "VALIDATION_FAILED", "Validation failed"),
            AccessError::UnknownKey(_) => (StatusCode::NOT_FOUND, "KEY_UNKNOWN", "Unknown key"),
            AccessError::Store(_)
            | AccessError::Damaged(_)
            | AccessError::Randomness
            | AccessError::Unfinished => {
                (StatusCode::INTERNAL_SERVER_ERROR, "STORE_FAILED", "The store failed")
            }
        };
        Self::new(status, code, title, error.to_string())
    }
}

impl From<BytesRejection> for AdminProblem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("the body has more than {MAX_BODY_BYTES} bytes");
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large", detail);
        }
        let detail = "the body did not come to its end";
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", "Validation failed", detail)
    }
}

impl From<PathRejection> for AdminProblem {
    /// The parameter is the id of a key, and none has one that is not UTF-8.
    fn from(_not_utf8: PathRejection) -> Self {
        let detail = "no API key has an id that is not UTF-8";
        Self::new(StatusCode::NOT_FOUND, "KEY_UNKNOWN", "Unknown key", detail)
    }
}

impl IntoResponse for AdminProblem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).expect("a problem document is plain text fields");
        (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response()
    }
}
