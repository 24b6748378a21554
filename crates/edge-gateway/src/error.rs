//! Errors of the request flow, and the one place where they become answers.

use std::borrow::Cow;
use std::time::Duration;

use access::whole_seconds;
use http::StatusCode;
use http1::RequestFault;
use observability::Refused;
use serde::Serialize;
use service_router::{BodyError, CallError};
use shared_limits::Uncounted;
use thiserror::Error;
use types::{ByteSize, Problem};
use validation::{NotJson, Violation, Violations};

use crate::answer::{After, OwnAnswer};

/// Why a request is not answered by a replica.
#[derive(Debug, Error)]
pub enum FlowError {
    /// The request breaks HTTP, or could mean two things.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// The target is over the limit.
    #[error("the URL is longer than {0} bytes")]
    UrlTooLong(u64),
    /// The headers have too many bytes.
    #[error("the request has more headers than are allowed: at most {0}")]
    HeadersTooLarge(ByteSize),
    /// The headers have too many lines.
    #[error("the request has more headers than are allowed: at most {0} lines")]
    TooManyHeaders(usize),
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
    #[error("this route needs a credential, such as an API key in `Authorization: Bearer …` or `X-API-Key`")]
    AuthRequired,
    /// A credential that is none.
    #[error("the credential is not valid")]
    AuthInvalid(Cow<'static, str>),
    /// A credential past its expiry.
    #[error("the API key has expired")]
    AuthExpired,
    /// A credential of which nobody can say at present whether it is good.
    #[error("the credential cannot be checked at present")]
    AuthUnavailable(String),
    /// The caller may not.
    #[error("the caller lacks the scope `{0}`")]
    ScopeMissing(String),
    /// The body is over the limit.
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// The client sends what is no body.
    #[error("the request body did not arrive whole: {0}")]
    BodyIncomplete(&'static str),
    /// The content is of a type that the route does not take.
    #[error("{}: {why}", taken(wanted))]
    MediaType {
        /// What it takes, as `Accept` lists it.
        wanted: String,
        /// What is wrong with the request's.
        why: &'static str,
    },
    /// The content is encoded, and cannot be judged so.
    #[error("this route takes no Content-Encoding but identity")]
    EncodingUnsupported,
    /// There is no body where one is needed.
    #[error("this route needs a body, and the request has none")]
    BodyMissing,
    /// The body is no JSON that can be read in one way only.
    #[error("the body is not what this route takes: {0}")]
    NotJson(NotJson),
    /// The body is JSON that breaks the schema.
    #[error("the body is not what this route takes: {}", counted(.0))]
    BodyViolates(Box<Violations>),
    /// The parameters break their schemas.
    #[error("the parameters are not what this route takes: {}", counted(.0))]
    ParametersViolate(Box<Violations>),
    /// There is no room for another body that has to be read whole.
    #[error("the gateway holds as many request bodies as it may")]
    NoRoom,
    /// The client sends its head too slowly.
    #[error("the request did not arrive in time")]
    HeadTimeout,
    /// The client sends its body too slowly.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// A limit of how often somebody may call is reached.
    #[error("{by}")]
    RateLimited {
        /// Which one.
        by: LimitedBy,
        /// When another request is allowed.
        retry_after: Duration,
    },
    /// The limits that gateways share cannot be counted, and nobody is to be let through uncounted.
    #[error("the limits of this gateway cannot be counted at present")]
    LimitsUnavailable,
    /// Too much is asked at once.
    #[error("{0} has as many requests in flight as it may")]
    Overloaded(&'static str),
    /// No more signed requests can be remembered.
    #[error("as many signed requests are remembered as may be")]
    NoncesFull(Duration),
    /// This machine has no room for another connection to a replica.
    #[error("the gateway has no room for another connection")]
    Exhausted(String),
    /// The time of a drain is over, and the request has no answer.
    #[error("the gateway is stopping, and the time for open requests is over")]
    Draining,
    /// Nobody may serve.
    #[error("no replica can be selected")]
    NoReplica(String),
    /// The replica failed.
    #[error("the replica failed before it answered")]
    Upstream(String),
    /// The client has gone away; nobody is answered.
    #[error("the client went away")]
    Cancelled,
    /// The replica is too slow.
    #[error("the replica did not answer in time")]
    UpstreamTimeout,
}

/// Whose limit is reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitedBy {
    /// That of the client's address.
    #[error("this address has sent as many requests as it may")]
    Address,
    /// That of refused credentials from the client's address.
    #[error("this address has presented too many credentials that were refused")]
    FailedAuthentication,
    /// The rate of the caller's tier.
    #[error("the caller has used what its tier {0} allows")]
    Tier(String),
    /// The day's quota of the caller's tier.
    #[error("the caller has used what its tier {0} allows for today (UTC)")]
    Daily(String),
    /// That of the route, for everybody.
    #[error("this route was called as often as it may be")]
    Route,
}

/// Every code that the gateway answers with; each has a page in `docs/errors/`.
pub const CODES: [&str; 22] = [
    "REQUEST_MALFORMED",
    "URL_TOO_LONG",
    "HEADERS_TOO_LARGE",
    "EXPECTATION_FAILED",
    "ROUTE_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "AUTH_REQUIRED",
    "AUTH_INVALID",
    "AUTH_KEY_EXPIRED",
    "AUTH_UNAVAILABLE",
    "SCOPE_MISSING",
    "BODY_TOO_LARGE",
    "MEDIA_TYPE_UNSUPPORTED",
    "VALIDATION_FAILED",
    "REQUEST_TIMEOUT",
    "RATE_LIMITED",
    "LIMITS_UNAVAILABLE",
    "OVERLOADED",
    "DRAINING",
    "NO_REPLICA_SELECTABLE",
    "UPSTREAM_FAILED",
    "UPSTREAM_TIMEOUT",
];

/// A problem document with everything that is wrong.
#[derive(Serialize)]
struct Violating<'a> {
    #[serde(flatten)]
    problem: Problem,
    violations: &'a [Violation],
}

fn taken(wanted: &str) -> String {
    if wanted.is_empty() {
        "this route takes no body".to_owned()
    } else {
        format!("this route takes {wanted}")
    }
}

fn counted(violations: &Violations) -> String {
    match violations.listed.len() {
        1 if !violations.more => "there is 1 violation".to_owned(),
        count if violations.more => format!("there are more than {count} violations"),
        count => format!("there are {count} violations"),
    }
}

impl From<CallError> for FlowError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoReplica(why) => Self::NoReplica(why),
            CallError::Upstream(reason) => Self::Upstream(reason),
            CallError::Timeout => Self::UpstreamTimeout,
            CallError::Exhausted(reason) => Self::Exhausted(reason),
            CallError::Shed(_) => Self::Overloaded("the service"),
            CallError::Cancelled => Self::Cancelled,
            CallError::Body(error) => error.into(),
        }
    }
}

impl From<Uncounted> for FlowError {
    fn from(uncounted: Uncounted) -> Self {
        match uncounted {
            Uncounted::Unavailable => Self::LimitsUnavailable,
            Uncounted::Overloaded => Self::Overloaded("the count of limits"),
        }
    }
}

impl From<BodyError> for FlowError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::BodyTooLarge(limit),
            BodyError::ClientIdle => Self::RequestTimeout,
            BodyError::Client(why) => Self::BodyIncomplete(why),
            BodyError::Gone(_) => Self::Cancelled,
            BodyError::Upstream(reason) => Self::Upstream(reason),
        }
    }
}

impl FlowError {
    /// Why a head is refused, in the words of the limits in force.
    pub(crate) fn of_head(fault: RequestFault, limits: &configuration::GatewayLimits) -> Self {
        match fault {
            RequestFault::Malformed(why) => Self::Malformed(why),
            RequestFault::TargetTooLong => Self::UrlTooLong(limits.url_bytes.0),
            RequestFault::TooManyBytes => Self::HeadersTooLarge(limits.header_bytes),
            RequestFault::TooManyFields => Self::TooManyHeaders(limits.headers),
        }
    }
}

impl FlowError {
    /// Status, stable code and title.
    pub(crate) fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) | Self::BodyIncomplete(_) | Self::Cancelled => {
                (StatusCode::BAD_REQUEST, "REQUEST_MALFORMED", "Malformed request")
            }
            Self::UrlTooLong(_) => (StatusCode::URI_TOO_LONG, "URL_TOO_LONG", "URL too long"),
            Self::HeadersTooLarge(_) | Self::TooManyHeaders(_) => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HEADERS_TOO_LARGE", "Headers too large")
            }
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "EXPECTATION_FAILED", "Expectation failed"),
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "Unknown path"),
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
            }
            Self::AuthRequired => (StatusCode::UNAUTHORIZED, "AUTH_REQUIRED", "Authentication required"),
            Self::AuthInvalid(_) => (StatusCode::UNAUTHORIZED, "AUTH_INVALID", "Invalid credential"),
            Self::AuthExpired => (StatusCode::UNAUTHORIZED, "AUTH_KEY_EXPIRED", "Expired credential"),
            Self::AuthUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "AUTH_UNAVAILABLE", "Authentication unavailable")
            }
            Self::ScopeMissing(_) => (StatusCode::FORBIDDEN, "SCOPE_MISSING", "Missing scope"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large"),
            Self::MediaType { .. } | Self::EncodingUnsupported => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE_UNSUPPORTED", "Unsupported media type")
            }
            Self::BodyMissing | Self::NotJson(_) | Self::ParametersViolate(_) => {
                (StatusCode::BAD_REQUEST, "VALIDATION_FAILED", "Invalid request")
            }
            Self::BodyViolates(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_FAILED", "Invalid request")
            }
            Self::HeadTimeout | Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "Request timed out")
            }
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Rate limit reached"),
            Self::LimitsUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "LIMITS_UNAVAILABLE", "Limits unavailable")
            }
            Self::Overloaded(_) | Self::NoncesFull(_) | Self::Exhausted(_) | Self::NoRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", "Overloaded")
            }
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING", "Draining"),
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
            Self::Upstream(reason) | Self::Exhausted(reason) | Self::AuthUnavailable(reason) => Some(reason),
            Self::AuthInvalid(reason) => Some(reason),
            _ => None,
        }
    }

    /// Which limit has refused the request, where one has. A replica that is too slow is the service's failure.
    pub(crate) fn refusal(&self) -> Option<Refused> {
        match self {
            Self::Malformed(_) | Self::BodyIncomplete(_) => Some(Refused::Malformed),
            Self::UrlTooLong(_) => Some(Refused::UrlBytes),
            Self::HeadersTooLarge(_) => Some(Refused::HeaderBytes),
            Self::TooManyHeaders(_) => Some(Refused::Headers),
            Self::BodyTooLarge(_) => Some(Refused::BodyBytes),
            Self::MediaType { .. } | Self::EncodingUnsupported => Some(Refused::MediaType),
            Self::BodyMissing | Self::NotJson(_) | Self::BodyViolates(_) | Self::ParametersViolate(_) => {
                Some(Refused::Content)
            }
            Self::NoRoom => Some(Refused::HeldBytes),
            Self::NoncesFull(_) => Some(Refused::Nonces),
            Self::HeadTimeout => Some(Refused::HeaderTimeout),
            Self::RequestTimeout => Some(Refused::RequestTimeout),
            Self::RateLimited { by: LimitedBy::Address, .. } => Some(Refused::AddressLimited),
            Self::RateLimited { by: LimitedBy::FailedAuthentication, .. } => {
                Some(Refused::FailedAuthentication)
            }
            Self::RateLimited { by: LimitedBy::Tier(_), .. } => Some(Refused::RateLimited),
            Self::RateLimited { by: LimitedBy::Daily(_), .. } => Some(Refused::DailyLimited),
            Self::RateLimited { by: LimitedBy::Route, .. } => Some(Refused::RouteLimited),
            _ => None,
        }
    }

    /// What gRPC calls the same.
    pub(crate) fn grpc_status(&self) -> u8 {
        /// `INVALID_ARGUMENT`, `DEADLINE_EXCEEDED`, …: the numbers of gRPC's status codes.
        const INVALID_ARGUMENT: u8 = 3;
        const DEADLINE_EXCEEDED: u8 = 4;
        const PERMISSION_DENIED: u8 = 7;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        const UNAUTHENTICATED: u8 = 16;
        match self.kind().0 {
            StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
            StatusCode::FORBIDDEN => PERMISSION_DENIED,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => UNIMPLEMENTED,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => DEADLINE_EXCEEDED,
            status if status.is_client_error() => INVALID_ARGUMENT,
            _ => INTERNAL,
        }
    }

    /// What the client is told.
    pub(crate) fn detail(&self) -> Cow<'static, str> {
        match self {
            // The facts about replicas are no secret: `/health/detailed` shows them too.
            Self::NoReplica(why) => format!("no replica can be selected: {why}").into(),
            other => other.to_string().into(),
        }
    }

    /// The answer to the client.
    pub(crate) fn answer(&self, request_id: &str) -> OwnAnswer {
        let (status, code, title) = self.kind();
        let mut problem = Problem::new(status.as_u16(), code, title, self.detail());
        problem.request_id = Some(request_id.to_owned());
        let body = match self {
            Self::BodyViolates(violations) | Self::ParametersViolate(violations) => {
                serde_json::to_vec(&Violating { problem, violations: &violations.listed })
            }
            _ => serde_json::to_vec(&problem),
        };
        let body = body.expect("a problem document is plain text fields");
        let mut fields = Vec::new();
        match self {
            Self::AuthRequired => fields.push(("www-authenticate", "Bearer".to_owned())),
            Self::AuthInvalid(_) | Self::AuthExpired => {
                fields.push(("www-authenticate", "Bearer error=\"invalid_token\"".to_owned()));
            }
            Self::MethodNotAllowed(allow) => fields.push(("allow", allow.clone())),
            // What is taken instead (RFC 9110 section 15.5.16).
            Self::MediaType { wanted, .. } if !wanted.is_empty() => fields.push(("accept", wanted.clone())),
            Self::EncodingUnsupported => fields.push(("accept-encoding", "identity".to_owned())),
            Self::NoReplica(_)
            | Self::Overloaded(_)
            | Self::Exhausted(_)
            | Self::NoRoom
            | Self::AuthUnavailable(_)
            | Self::LimitsUnavailable
            | Self::Draining => {
                fields.push(("retry-after", "1".to_owned()));
            }
            Self::RateLimited { retry_after, .. } | Self::NoncesFull(retry_after) => {
                fields.push(("retry-after", whole_seconds(*retry_after).to_string()));
            }
            _ => {}
        }
        let connection = match self {
            Self::Malformed(_)
            | Self::BodyIncomplete(_)
            | Self::BodyTooLarge(_)
            | Self::HeadTimeout
            | Self::RequestTimeout
            | Self::UrlTooLong(_)
            | Self::HeadersTooLarge(_)
            | Self::TooManyHeaders(_)
            | Self::Draining => After::Close,
            _ => After::Open,
        };
        let grpc = Some((self.grpc_status(), self.detail().into_owned()));
        OwnAnswer { status, content_type: Problem::MEDIA_TYPE, fields, body, grpc, connection }
    }
}
