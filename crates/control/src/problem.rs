//! Errors of the admin API as problem documents.

use access::AccessError;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrets::SecretsError;
use serde_json::{Map, Value};
use service_lifecycle::FleetRefused;
use store::StoreError;
use trust::TrustError;
use types::{Problem, ServiceName};

use crate::admin::{ConfigRefused, MAX_BODY_BYTES, TicketRefused};

/// An error answer.
pub(crate) struct AdminProblem {
    problem: Box<Problem>,
    /// What else programs are told, beside the document's own keys.
    more: Map<String, Value>,
}

impl AdminProblem {
    pub(crate) fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(status.as_u16(), code, title, detail)), more: Map::new() }
    }

    /// The same, with one thing more for programs.
    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn body_too_large(bytes: usize) -> Self {
        let detail = format!("the body has more than {bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large", detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_FAILED", "Validation failed", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path does not take that method; the Allow header names those that it takes";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed", detail)
    }

    pub(crate) fn not_revoked(value: &str) -> Self {
        let detail = format!("{value} is not revoked; `serviceos attestation show` lists what is");
        Self::new(StatusCode::NOT_FOUND, "NOT_REVOKED", "Not revoked", detail)
    }

    pub(crate) fn service_unknown(name: &str) -> Self {
        let detail = format!("there is no service {name}; `serviceos services` shows those that there are");
        Self::new(StatusCode::NOT_FOUND, "SERVICE_UNKNOWN", "Unknown service", detail)
    }

    /// The same beside those that there are, one of which may have been meant.
    pub(crate) fn service_unknown_beside<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let Some(meant) = configuration::nearest(name, known) else { return Self::service_unknown(name) };
        let detail = format!(
            "there is no service {name}; did you mean {meant}? `serviceos services` shows those that there are"
        );
        Self::new(StatusCode::NOT_FOUND, "SERVICE_UNKNOWN", "Unknown service", detail)
    }

    pub(crate) fn watchers_full() -> Self {
        let detail =
            "as many streams are open already as may be; end one of them, or ask without `watch` or `follow`";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "WATCHERS_FULL", "Too many watchers", detail)
    }

    pub(crate) fn not_started_here(service: &ServiceName) -> Self {
        let detail =
            format!("the replicas of {service} are endpoints; they are started and ended where they run");
        Self::new(StatusCode::CONFLICT, "REPLICAS_ELSEWHERE", "Replicas that are started elsewhere", detail)
    }

    pub(crate) fn replica_unknown(id: &str) -> Self {
        let detail = format!("there is no replica {id}; `serviceos status` shows those that there are");
        Self::new(StatusCode::NOT_FOUND, "REPLICA_UNKNOWN", "Unknown replica", detail)
    }
}

impl From<FleetRefused> for AdminProblem {
    fn from(refused: FleetRefused) -> Self {
        let (status, code, title) = match &refused {
            FleetRefused::Unknown(_) => (StatusCode::NOT_FOUND, "REPLICA_UNKNOWN", "Unknown replica"),
            FleetRefused::Leaving(_) => (StatusCode::CONFLICT, "REPLICA_LEAVING", "Replica on its way out"),
            FleetRefused::Elsewhere(_) => {
                (StatusCode::CONFLICT, "REPLICAS_ELSEWHERE", "Replicas that are started elsewhere")
            }
            FleetRefused::OnItsWay(_) => {
                (StatusCode::CONFLICT, "ROLLOUT_IN_PROGRESS", "A rollout is on its way")
            }
            FleetRefused::NoRollout(_) => (StatusCode::CONFLICT, "NO_ROLLOUT", "No rollout"),
            FleetRefused::NotNow(..) => (StatusCode::CONFLICT, "ROLLOUT_NOT_NOW", "Not at this stage"),
            FleetRefused::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING", "Stopping"),
        };
        Self::new(status, code, title, refused.to_string())
    }
}

const STORE_FAILED: (StatusCode, &str, &str) =
    (StatusCode::INTERNAL_SERVER_ERROR, "STORE_FAILED", "The store failed");

/// A store that is away comes back by itself; one that fails in another way does not.
fn of_store(error: &StoreError) -> (StatusCode, &'static str, &'static str) {
    match error {
        StoreError::Unreachable(_) | StoreError::Undecided(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", "The store does not answer")
        }
        _ => STORE_FAILED,
    }
}

impl From<SecretsError> for AdminProblem {
    fn from(error: SecretsError) -> Self {
        let (status, code, title) = match &error {
            SecretsError::Store(error) => of_store(error),
            SecretsError::Conflict => (StatusCode::CONFLICT, "CHANGED_ELSEWHERE", "Changed by another node"),
            SecretsError::InvalidName => (StatusCode::BAD_REQUEST, "SECRET_NAME", "No name of a secret"),
            SecretsError::Reserved(_) => {
                (StatusCode::FORBIDDEN, "SECRET_RESERVED", "Secret of the mesh itself")
            }
            SecretsError::Unknown(_) => (StatusCode::NOT_FOUND, "SECRET_UNKNOWN", "Unknown secret"),
            SecretsError::Immutable(_) => (StatusCode::CONFLICT, "SECRET_GENERATED", "Generated secret"),
            SecretsError::NotGenerated(_) => {
                (StatusCode::CONFLICT, "SECRET_NOT_GENERATED", "Secret that was set")
            }
            SecretsError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "SECRET_TOO_LARGE", "Value too large"),
            SecretsError::TooMany | SecretsError::TooManyEpochs(_) => {
                (StatusCode::CONFLICT, "SECRETS_FULL", "No room for more secrets")
            }
            SecretsError::MasterKey { .. }
            | SecretsError::MasterKeyMissing(_)
            | SecretsError::OtherMasterKey(_)
            | SecretsError::Tampered(_)
            | SecretsError::OtherDomain { .. }
            | SecretsError::Crypto(_) => STORE_FAILED,
        };
        Self::new(status, code, title, error.to_string())
    }
}

impl From<TicketRefused> for AdminProblem {
    fn from(refused: TicketRefused) -> Self {
        let (status, code, title) = match refused {
            TicketRefused::Authority(error) => return error.into(),
            TicketRefused::Unknown(_) => (StatusCode::NOT_FOUND, "REPLICA_UNKNOWN", "Unknown replica"),
            TicketRefused::Supervised(_) => {
                (StatusCode::CONFLICT, "REPLICA_SUPERVISED", "Replica started by serviceos itself")
            }
            TicketRefused::Taken(_) => (StatusCode::CONFLICT, "REPLICA_TAKEN", "Replica not free"),
        };
        Self::new(status, code, title, refused.to_string())
    }
}

impl From<TrustError> for AdminProblem {
    fn from(error: TrustError) -> Self {
        let (status, code, title) = match error {
            TrustError::Secrets(error) => return error.into(),
            TrustError::NotSealed => (StatusCode::BAD_REQUEST, "SECRET_NOT_SEALED", "Value not sealed"),
            TrustError::SecretInUse { .. } => (StatusCode::CONFLICT, "SECRET_IN_USE", "Secret in use"),
            TrustError::TooMuchGranted { .. } => {
                (StatusCode::CONFLICT, "SECRETS_OF_SERVICE", "Too many secrets for a service")
            }
            TrustError::Overtaken => (StatusCode::CONFLICT, "CHANGED_ELSEWHERE", "Changed by another node"),
            TrustError::OtherManifest { .. } => {
                (StatusCode::CONFLICT, "MANIFEST_DIFFERS", "Another manifest than the mesh's")
            }
            TrustError::RevocationRefused(_) => {
                (StatusCode::CONFLICT, "REVOCATION_REFUSED", "Revocation refused")
            }
            TrustError::Audit(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "AUDIT_FAILED", "The audit trail failed")
            }
            TrustError::Store(ref error) => of_store(error),
            TrustError::Tampered(_) => STORE_FAILED,
            TrustError::Certificate(_)
            | TrustError::Record(_)
            | TrustError::Randomness
            | TrustError::RootsOfOtherMode { .. }
            | TrustError::ChangedWithoutStore(_)
            | TrustError::Evidence(_)
            | TrustError::Failed => {
                (StatusCode::SERVICE_UNAVAILABLE, "AUTHORITY_UNAVAILABLE", "The authority cannot answer")
            }
        };
        Self::new(status, code, title, error.to_string())
    }
}

impl From<ConfigRefused> for AdminProblem {
    fn from(refused: ConfigRefused) -> Self {
        let detail = refused.to_string();
        let problem = |status, code, title| Self::new(status, code, title, detail);
        match refused {
            ConfigRefused::Trust(error) => error.into(),
            ConfigRefused::Invalid(report) => {
                let errors = serde_json::to_value(report.mistakes()).unwrap_or_default();
                problem(StatusCode::UNPROCESSABLE_ENTITY, "CONFIG_INVALID", "Configuration not valid")
                    .with("errors", errors)
            }
            ConfigRefused::Conflict { in_force } => {
                problem(StatusCode::PRECONDITION_FAILED, "CONFIG_CONFLICT", "Another revision in force")
                    .with("revision", in_force)
            }
            ConfigRefused::Unknown(_) => {
                problem(StatusCode::NOT_FOUND, "CONFIG_REVISION_UNKNOWN", "Unknown revision")
            }
            ConfigRefused::UnknownService(name) => Self::service_unknown(name.as_str()),
            ConfigRefused::NewStart(keys) => {
                problem(StatusCode::CONFLICT, "CONFIG_NEEDS_RESTART", "New start needed").with("keys", keys)
            }
            ConfigRefused::NotApplied(_) => {
                problem(StatusCode::CONFLICT, "CONFIG_NOT_APPLIED", "Configuration not applied")
            }
            ConfigRefused::Store(error) => {
                let (status, code, title) = of_store(&error);
                problem(status, code, title)
            }
        }
    }
}

impl From<AccessError> for AdminProblem {
    fn from(error: AccessError) -> Self {
        let (status, code, title) = match &error {
            AccessError::Invalid(_) => (StatusCode::BAD_REQUEST, "VALIDATION_FAILED", "Validation failed"),
            AccessError::UnknownKey(_) => (StatusCode::NOT_FOUND, "KEY_UNKNOWN", "Unknown key"),
            AccessError::Ended(_) => (StatusCode::CONFLICT, "KEY_ENDED", "Key that has ended"),
            AccessError::Store(error) => of_store(error),
            AccessError::Damaged(_) | AccessError::Randomness | AccessError::Unfinished => STORE_FAILED,
        };
        Self::new(status, code, title, error.to_string())
    }
}

impl From<BytesRejection> for AdminProblem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::body_too_large(MAX_BODY_BYTES);
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
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut document =
            serde_json::to_value(&self.problem).expect("a problem document is plain text fields");
        if let Value::Object(keys) = &mut document {
            keys.extend(self.more);
        }
        let body = document.to_string();
        (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response()
    }
}
