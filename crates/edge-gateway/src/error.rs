//! Errors of the request flow, and the one place where they become answers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use service_router::{BodyError, CallError};
use thiserror::Error;
use types::Problem;

/// Why a request is not answered by a replica.
#[derive(Debug, Error)]
pub enum FlowError {
    /// The request breaks HTTP, or could mean two things.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// The target is over the limit.
    #[error("the URL is longer than {0} bytes")]
    UrlTooLong(u64),
    /// The headers are over a limit.
    #[error("the request has more headers than are allowed: {0}")]
    HeadersTooLarge(String),
    /// An `Expect` other than `100-continue`.
    #[error("only `Expect: 100-continue` is understood")]
    Expectation,
    /// No route matches the path.
    #[error("no route matches this path")]
    RouteNotFound,
    /// The path takes other methods.
    #[error("this path takes {0}")]
    MethodNotAllowed(String),
    /// No credential.
    #[error("this route needs an API key, in `Authorization: Bearer …` or `X-API-Key`")]
    AuthRequired,
    /// A credential that is none.
    #[error("the API key is not valid")]
    AuthInvalid,
    /// A credential past its expiry.
    #[error("the API key has expired")]
    AuthExpired,
    /// The caller may not.
    #[error("the API key lacks the scope `{0}`")]
    ScopeMissing(String),
    /// The body is over the limit.
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// The client stopped sending its body.
    #[error("the request body did not arrive whole")]
    BodyIncomplete,
    /// The client sends its body too slowly.
    #[error("the request body did not arrive in time")]
    RequestTimeout,
    /// Too many requests at once.
    #[error("the gateway has as many requests in flight as it may")]
    Overloaded,
    /// This machine has no room for another connection to a replica.
    #[error("the gateway has no room for another connection")]
    Exhausted(String),
    /// Nobody may serve.
    #[error("no replica can be selected")]
    NoReplica(String),
    /// The replica failed.
    #[error("the replica failed before it answered")]
    Upstream(String),
    /// The replica is too slow.
    #[error("the replica did not answer in time")]
    UpstreamTimeout,
}

/// Every code that the gateway answers with; each has a page in `docs/errors/`.
pub const CODES: [&str; 16] = [
    "REQUEST_MALFORMED",
    "URL_TOO_LONG",
    "HEADERS_TOO_LARGE",
    "EXPECTATION_FAILED",
    "ROUTE_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "AUTH_REQUIRED",
    "AUTH_INVALID",
    "AUTH_KEY_EXPIRED",
    "SCOPE_MISSING",
    "BODY_TOO_LARGE",
    "REQUEST_TIMEOUT",
    "OVERLOADED",
    "NO_REPLICA_SELECTABLE",
    "UPSTREAM_FAILED",
    "UPSTREAM_TIMEOUT",
];

impl From<CallError> for FlowError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoReplica(why) => Self::NoReplica(why),
            CallError::Upstream(reason) => Self::Upstream(reason),
            CallError::Timeout => Self::UpstreamTimeout,
            CallError::Body(BodyError::TooLarge) => Self::BodyTooLarge(0),
            CallError::Exhausted(reason) => Self::Exhausted(reason),
            CallError::Body(BodyError::Idle) => Self::RequestTimeout,
            CallError::Body(BodyError::Client | BodyError::Upstream) => Self::BodyIncomplete,
        }
    }
}

impl FlowError {
    /// Status, stable code and title.
    pub(crate) fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) | Self::BodyIncomplete => {
                (StatusCode::BAD_REQUEST, "REQUEST_MALFORMED", "Malformed request")
            }
            Self::UrlTooLong(_) => (StatusCode::URI_TOO_LONG, "URL_TOO_LONG", "URL too long"),
            Self::HeadersTooLarge(_) => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE", "Headers too large")
            }
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "EXPECTATION_FAILED", "Expectation failed"),
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "Unknown path"),
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
            }
            Self::AuthRequired => (StatusCode::UNAUTHORIZED, "AUTH_REQUIRED", "Authentication required"),
            Self::AuthInvalid => (StatusCode::UNAUTHORIZED, "AUTH_INVALID", "Invalid credential"),
            Self::AuthExpired => (StatusCode::UNAUTHORIZED, "AUTH_KEY_EXPIRED", "Expired credential"),
            Self::ScopeMissing(_) => (StatusCode::FORBIDDEN, "SCOPE_MISSING", "Missing scope"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "Request timed out"),
            Self::Overloaded | Self::Exhausted(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", "Overloaded")
            }
            Self::NoReplica(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "NO_REPLICA_SELECTABLE", "No replica can be selected")
            }
            Self::Upstream(_) => (StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", "Upstream failed"),
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", "Upstream timed out"),
        }
    }

    /// What the operator is told and the client is not.
    pub(crate) fn internal_detail(&self) -> Option<&str> {
        match self {
            Self::Upstream(reason) | Self::Exhausted(reason) => Some(reason),
            _ => None,
        }
    }

    /// The answer to the client.
    pub(crate) fn into_response(self, request_id: &str) -> Response<Bytes> {
        let (status, code, title) = self.kind();
        let detail: Cow<'static, str> = match &self {
            // The facts about replicas are no secret: `/health/detailed` shows them too.
            Self::NoReplica(why) => format!("no replica can be selected: {why}").into(),
            other => other.to_string().into(),
        };
        let mut problem = Problem::new(status.as_u16(), code, title, detail);
        problem.request_id = Some(request_id.to_owned());
        let body = serde_json::to_vec(&problem).expect("a problem document is plain text fields");
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        match &self {
            Self::AuthRequired => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::AuthInvalid | Self::AuthExpired => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::MethodNotAllowed(allow) => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::NoReplica(_) | Self::Overloaded | Self::Exhausted(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if matches!(
            self,
            Self::Malformed(_) | Self::BodyIncomplete | Self::BodyTooLarge(_) | Self::RequestTimeout
        ) {
            // What follows on this connection cannot be told from the rest of this request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
