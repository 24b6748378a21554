//! The end points.

mod attestation;
mod audit;
mod config_status;
mod configuration;
mod events;
mod explain;
mod keys;
mod lifecycle;
mod logs;
mod rollout;
mod secrets;
mod services;
mod stream;
mod tickets;

pub use attestation::{RevocationAnswer, RevocationRequest};
pub use audit::{AuditInfo, AuditPlace};
pub(crate) use config_status::word as config_word;
pub use config_status::{ConfigStatus, ReplicaConfigStatus, ServiceConfigStatus};
pub use configuration::{
    ConfigAnswer, ConfigChange, ConfigChanged, ConfigDesk, ConfigRefused, ConfigRevision, ConfigWanted,
    RollbackRequest, SharedConfigDesk,
};
pub use lifecycle::ScaleRequest;
pub use secrets::{
    SealKeyAnswer, SealKeyRequest, SecretInfo, SecretRemoved, SecretRotated, SecretSet, SecretVersion,
};
pub(crate) use stream::{HEARTBEAT, Stopping};
pub use tickets::{TicketOffice, TicketRefused, TicketRequest};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{ApiKeys, NewKey, NewRotation};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use observability::{Exposition, Metrics};
use serde::{Deserialize, Serialize};
use service_lifecycle::{FleetHandle, Fleets};
use service_registry::{Configurations, Registry};
use tokio::sync::{mpsc, watch};
use trust::Authority;

use crate::auth::AdminToken;
use crate::catalogue::Catalogue;
use crate::events::EventLog;
use crate::explain::Explainer;
use crate::health::HealthReport;
use crate::logs::Logs;
use crate::metrics_page;
use crate::problem::AdminProblem;
use crate::rollout::brief;
use crate::status::{LimitsStatus, NodeStatus, Status};
use crate::store_state::StoreView;
use crate::why::Why;

/// The largest body of a request, in bytes; the longest key that can be asked for has a fifth of it.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;

/// The request of `POST /v1/keys`.
pub type NewKeyRequest = NewKey;

/// The answer of `POST /v1/keys`: the only time that the key is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// The id, by which it is listed, rotated and revoked.
    pub id: String,
    /// The key; none where its requests are signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
}

/// The request of `POST /v1/keys/{id}/rotate`.
pub type NewRotationRequest = NewRotation;

/// The answer of `POST /v1/keys/{id}/rotate`: the only time that the new secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotatedKey {
    /// The id, as before.
    pub id: String,
    /// The key with its new secret; none where its requests are signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// From when on the old secret is refused.
    pub previous_ends_at: Option<Timestamp>,
}

/// What the end points read and ask for.
#[derive(Clone)]
pub struct AdminState {
    /// The replicas.
    pub registry: Registry,
    /// The same as others see them.
    pub catalogue: Catalogue,
    /// What has happened to them.
    pub events: EventLog,
    /// What the replicas have written last.
    pub logs: Logs,
    /// What each service is to work with, and what its replicas have made of it.
    pub configurations: Configurations,
    /// How what replicas may use is enforced.
    pub limits: watch::Receiver<LimitsStatus>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The keys.
    pub keys: Arc<ApiKeys>,
    /// Who is admitted, what is revoked, and the secrets.
    pub authority: Authority,
    /// The revisions of the configuration.
    pub configuration: SharedConfigDesk,
    /// Launch tickets for replicas that somebody else starts.
    pub tickets: TicketOffice,
    /// The replicas that are looked after here.
    pub fleets: Fleets,
    /// What becomes of a request by the plan that is in force.
    pub explain: Explainer,
    /// Where all of that is kept.
    pub store: StoreView,
    /// Set once the gateway drains.
    pub draining: Arc<AtomicBool>,
    /// Where clients connect.
    pub gateway: SocketAddr,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// Asks for a shutdown.
    pub shutdown: mpsc::Sender<()>,
}

/// Who asks for something, as the audit trail names them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actor(&'static str);

/// Health and metrics: read-only, without secrets.
fn public_routes() -> Router<AdminState> {
    Router::new()
        .route("/health", get(health))
        .route("/health/detailed", get(health_detailed))
        .route("/metrics", get(metrics))
}

fn private_routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/replicas/{service}/{ordinal}/why", get(why))
        .route("/v1/shutdown", post(shut_down))
        .merge(keys::routes())
        .merge(attestation::routes())
        .merge(secrets::routes())
        .merge(audit::routes())
        .merge(config_status::routes())
        .merge(tickets::routes())
        .merge(services::routes())
        .merge(logs::routes())
        .merge(events::routes())
        .merge(explain::routes())
        .merge(lifecycle::routes())
        .merge(rollout::routes())
        .merge(configuration::routes())
}

/// The API on the data directory's socket.
pub(crate) fn on_socket(state: AdminState) -> Router {
    let private = private_routes().layer(Extension(Actor("admin socket")));
    finish(public_routes().merge(private), state)
}

/// The API on the admin port.
pub(crate) fn on_port(state: AdminState, token: AdminToken) -> Router {
    let guard = middleware::from_fn_with_state(token, require_token);
    let private = private_routes().layer(Extension(Actor("admin token"))).route_layer(guard.clone());
    let loopback = state.admin.ip().is_loopback();
    let public = if loopback { public_routes() } else { public_routes().route_layer(guard) };
    let routes = finish(public.merge(private), state);
    if loopback { routes.layer(middleware::from_fn(require_local_host)) } else { routes }
}

/// On a loopback port the only names are addresses and `localhost`. Any other name was made to point here by somebody else's
/// page (DNS rebinding), and an origin that is not this very port is a page of somebody else's too.
async fn require_local_host(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    let detail = "the admin port is called by its address or as localhost, and by no page of another origin";
    AdminProblem::new(StatusCode::FORBIDDEN, "HOST_NOT_ALLOWED", "Host not allowed", detail).into_response()
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, after)| port(after)).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let local = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    local && text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"))
}

fn finish(routes: Router<AdminState>, state: AdminState) -> Router {
    routes
        .fallback(async || {
            AdminProblem::new(
                StatusCode::NOT_FOUND,
                "ROUTE_NOT_FOUND",
                "Unknown path",
                "the admin API has no such path",
            )
        })
        .method_not_allowed_fallback(async || AdminProblem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

async fn require_token(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.allows(authorization) {
        return next.run(request).await;
    }
    let detail = "the admin port needs the token in run/admin.token of the data directory, as `Authorization: Bearer …`";
    let problem =
        AdminProblem::new(StatusCode::UNAUTHORIZED, "AUTH_REQUIRED", "Authentication required", detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

impl AdminState {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn report(&self) -> HealthReport {
        HealthReport::new(self.registry.snapshot(), self.is_draining(), self.store.state())
    }

    fn metrics_page(&self) -> String {
        let (snapshot, store) = (self.registry.snapshot(), self.store.state());
        let revision = self.configuration.revision_in_force();
        let dropped = self.logs.dropped_bytes();
        metrics_page::render(&self.metrics, &snapshot, &store, revision, &dropped, Timestamp::now())
    }
}

async fn health(State(state): State<AdminState>) -> Response {
    let report = state.report();
    (status_of(&report), Json(report.brief())).into_response()
}

async fn health_detailed(State(state): State<AdminState>) -> Response {
    let report = state.report();
    (status_of(&report), Json(report.detailed())).into_response()
}

fn status_of(report: &HealthReport) -> StatusCode {
    StatusCode::from_u16(report.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let page = state.metrics_page();
    ([(header::CONTENT_TYPE, Exposition::MEDIA_TYPE)], page).into_response()
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    let snapshot = state.registry.snapshot();
    let transition = state.authority.transition_of_mesh();
    let nodes = NodeStatus::of(&state.registry.nodes().borrow(), transition, &snapshot);
    let (draining, store) = (state.is_draining(), state.store.state());
    let mut status = Status::new(&snapshot, draining, store, nodes, state.gateway, state.admin);
    for (service, shown) in snapshot.services.iter().zip(&mut status.services) {
        let rollouts = state.fleets.of(&service.name).map(FleetHandle::rollouts);
        shown.rollout = rollouts.and_then(|rollouts| rollouts.on_its_way).as_ref().map(brief);
    }
    let limits = state.limits.borrow().clone();
    Json(Status { limits, ..status })
}

async fn why(
    State(state): State<AdminState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Why>, AdminProblem> {
    let Ok(Path((service, ordinal))) = path else {
        return Err(AdminProblem::replica_unknown("of a name that is not UTF-8"));
    };
    let id = format!("{service}/{ordinal}");
    let snapshot = state.registry.snapshot();
    let replica = id.parse().ok().and_then(|id| snapshot.replica(&id));
    let replica = replica.ok_or_else(|| AdminProblem::replica_unknown(&id))?;
    Ok(Json(Why::new(replica, state.configurations.of_replica(&replica.id))))
}

async fn shut_down(State(state): State<AdminState>) -> StatusCode {
    // A full queue means that a shutdown was asked for already.
    let _asked_for_already = state.shutdown.try_send(()).is_err();
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests;
