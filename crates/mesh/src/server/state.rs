//! The shared state of services over HTTP: whose rows are meant is what the certificate of the caller says, never the request.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use mesh_protocol::{
    StateConflict, StateRangeAnswer, StateRangeRequest, StateReadAnswer, StateReadRequest, StateUsage,
    StateWriteAnswer, StateWriteRequest, Subject,
};
use store::StoreError;

use super::{Api, Connection, Refused};
use crate::state::{Namespace, Namespaces, StateFault};

/// The largest request: 256 KiB of keys and values in base64, and what stands around them.
const MAX_BODY_BYTES: usize = 512 << 10;

/// What only members are answered, and of them only replicas.
pub(super) fn routes(api: Api) -> Router<Api> {
    Router::new()
        .route("/v1/state/read", post(read))
        .route("/v1/state/range", post(range))
        .route("/v1/state/write", post(write))
        .route("/v1/state/usage", get(usage))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api, of_its_service))
}

/// Finds the namespace of whoever asks, and has it wait for its turn before its body is read.
async fn of_its_service(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(Subject::Service { service, .. }) = connection.peer.map(|peer| peer.id.subject) else {
        let detail = "only replicas of services have shared state";
        return Refused::new(StatusCode::FORBIDDEN, "REPLICA_NOT_EXPECTED", detail).into_response();
    };
    let Some(namespaces) = api.state else {
        let detail = "this mesh API serves no state";
        return Refused::new(StatusCode::SERVICE_UNAVAILABLE, "STATE_UNAVAILABLE", detail).into_response();
    };
    let room = namespaces.room(&service);
    let Ok(_in_flight) = room.acquire().await else { unreachable!("nobody closes it") };
    request.extensions_mut().insert(Namespaces::of(&namespaces, service));
    next.run(request).await
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn read(
    Extension(namespace): Extension<Namespace>,
    body: Body<StateReadRequest>,
) -> Result<Json<StateReadAnswer>, StateFault> {
    Ok(Json(StateReadAnswer { rows: namespace.read(&message(body)?.keys).await? }))
}

async fn range(
    Extension(namespace): Extension<Namespace>,
    body: Body<StateRangeRequest>,
) -> Result<Json<StateRangeAnswer>, StateFault> {
    Ok(Json(namespace.range(&message(body)?).await?))
}

async fn write(
    Extension(namespace): Extension<Namespace>,
    body: Body<StateWriteRequest>,
) -> Result<Json<StateWriteAnswer>, StateFault> {
    Ok(Json(StateWriteAnswer { revision: namespace.write(&message(body)?.writes).await? }))
}

async fn usage(Extension(namespace): Extension<Namespace>) -> Json<StateUsage> {
    Json(namespace.usage())
}

fn message<T>(body: Body<T>) -> Result<T, StateFault> {
    body.map(|Json(message)| message).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            StateFault::TooLarge(format!("a request has at most {MAX_BODY_BYTES} bytes"))
        }
        _ => StateFault::Malformed(rejection.body_text()),
    })
}

impl IntoResponse for StateFault {
    fn into_response(self) -> Response {
        let detail = self.to_string();
        let (status, code) = match self {
            Self::Conflict(present) => {
                let conflict = StateConflict { code: "STATE_CONFLICT".into(), detail, present };
                return (StatusCode::CONFLICT, Json(conflict)).into_response();
            }
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "STATE_MALFORMED"),
            Self::TooLarge(_) | Self::Store(StoreError::TooLarge(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "STATE_TOO_LARGE")
            }
            Self::Full(..) => (StatusCode::INSUFFICIENT_STORAGE, "STATE_FULL"),
            Self::Store(_) => {
                tracing::debug!(detail, "the store did not serve the state of a service");
                (StatusCode::SERVICE_UNAVAILABLE, "STATE_UNAVAILABLE")
            }
        };
        Refused::new(status, code, detail).into_response()
    }
}

/// The namespaces of a mesh API that has a store, and the count of what is in them.
pub(super) async fn keep_count(state: Option<Arc<Namespaces>>) -> std::convert::Infallible {
    match state {
        Some(namespaces) => namespaces.keep_count().await,
        None => std::future::pending().await,
    }
}
