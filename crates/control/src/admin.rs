//! The end points.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{ApiKeys, KeyRecord, NewKey};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use jiff::Timestamp;
use observability::{Exposition, Metrics};
use serde::{Deserialize, Serialize};
use service_registry::Registry;
use tokio::sync::mpsc;

use crate::auth::AdminToken;
use crate::health::HealthReport;
use crate::metrics_page;
use crate::problem::AdminProblem;
use crate::status::Status;
use crate::why::Why;

/// The largest body of a request, in bytes; the longest key that can be asked for has a fifth of it.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;

/// The request of `POST /v1/keys`.
pub type NewKeyRequest = NewKey;

/// The answer of `POST /v1/keys`: the only time that the key is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// The id, by which it is listed and revoked.
    pub id: String,
    /// The key.
    pub key: String,
}

/// What the end points read and ask for.
#[derive(Clone)]
pub struct AdminState {
    /// The replicas.
    pub registry: Registry,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The keys.
    pub keys: Arc<ApiKeys>,
    /// Set once the gateway drains.
    pub draining: Arc<AtomicBool>,
    /// Where clients connect.
    pub gateway: SocketAddr,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// Asks for a shutdown.
    pub shutdown: mpsc::Sender<()>,
}

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
        .route("/v1/keys", post(create_key).get(list_keys))
        .route("/v1/keys/{id}", delete(revoke_key))
        .route("/v1/shutdown", post(shut_down))
}

/// The API on the data directory's socket.
pub(crate) fn on_socket(state: AdminState) -> Router {
    finish(public_routes().merge(private_routes()), state)
}

/// The API on the admin port.
pub(crate) fn on_port(state: AdminState, token: AdminToken) -> Router {
    let guard = middleware::from_fn_with_state(token, require_token);
    let private = private_routes().route_layer(guard.clone());
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
        .method_not_allowed_fallback(async || {
            let detail = "this path does not take that method; the Allow header names those that it takes";
            AdminProblem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "Method not allowed",
                detail,
            )
        })
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
}

async fn health(State(state): State<AdminState>) -> Response {
    let report = HealthReport::new(state.registry.snapshot(), state.is_draining());
    (status_of(&report), Json(report.brief())).into_response()
}

async fn health_detailed(State(state): State<AdminState>) -> Response {
    let report = HealthReport::new(state.registry.snapshot(), state.is_draining());
    (status_of(&report), Json(report.detailed())).into_response()
}

fn status_of(report: &HealthReport) -> StatusCode {
    StatusCode::from_u16(report.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let page = metrics_page::render(&state.metrics, &state.registry.snapshot(), Timestamp::now());
    ([(header::CONTENT_TYPE, Exposition::MEDIA_TYPE)], page).into_response()
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    Json(Status::new(&state.registry.snapshot(), state.is_draining(), state.gateway, state.admin))
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
    replica.map(|replica| Json(Why::new(replica))).ok_or_else(|| AdminProblem::replica_unknown(&id))
}

async fn create_key(
    State(state): State<AdminState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<CreatedKey>), AdminProblem> {
    let new: NewKey = serde_json::from_slice(&body?).map_err(|error| {
        AdminProblem::new(
            StatusCode::BAD_REQUEST,
            "VALIDATION_FAILED",
            "Validation failed",
            error.to_string(),
        )
    })?;
    let (record, key) = state.keys.create(new, Timestamp::now()).await?;
    tracing::info!(key = record.id, name = record.name, "an API key was created");
    Ok((StatusCode::CREATED, Json(CreatedKey { id: record.id, key: key.expose().to_owned() })))
}

async fn list_keys(State(state): State<AdminState>) -> Json<Vec<KeyRecord>> {
    Json(state.keys.list().await)
}

async fn revoke_key(
    State(state): State<AdminState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyRecord>, AdminProblem> {
    let Path(id) = id?;
    let record = state.keys.revoke(&id, Timestamp::now()).await?;
    tracing::info!(key = record.id, name = record.name, "an API key was revoked");
    Ok(Json(record))
}

async fn shut_down(State(state): State<AdminState>) -> StatusCode {
    // A full queue means that a shutdown was asked for already.
    let _asked_for_already = state.shutdown.try_send(()).is_err();
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use expect_test::expect;
    use hyper::body::Frame;
    use service_registry::Service;
    use tower::ServiceExt;

    use super::*;
    use crate::health::tests::service;

    async fn state(folder: &tempfile::TempDir, admin: &str) -> AdminState {
        let store = store::Store::open(&folder.path().join("store.redb")).unwrap();
        let pepper = zeroize::Zeroizing::new(vec![1; 32]);
        let tiers = access::Tiers::built_in();
        let keys = ApiKeys::open(store, &pepper, access::KeyKind::Test, tiers).await.unwrap();
        AdminState {
            registry: Registry::new(vec![Service::clone(&service("vrf", "r", true))]),
            metrics: Arc::new(Metrics::new(1)),
            keys: Arc::new(keys),
            draining: Arc::default(),
            gateway: "127.0.0.1:8080".parse().unwrap(),
            admin: admin.parse().unwrap(),
            shutdown: mpsc::channel(1).0,
        }
    }

    async fn ask(router: &Router, method: &str, path: &str, token: Option<&str>) -> StatusCode {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:7070");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn the_port_wants_the_token_for_all_but_health_and_metrics_on_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
        for open in ["/health", "/health/detailed", "/metrics"] {
            assert_eq!(ask(&router, "GET", open, None).await, StatusCode::OK, "{open}");
        }
        for (method, path) in [
            ("GET", "/v1/status"),
            ("GET", "/v1/replicas/vrf/0/why"),
            ("POST", "/v1/keys"),
            ("GET", "/v1/keys"),
            ("DELETE", "/v1/keys/x"),
            ("POST", "/v1/shutdown"),
        ] {
            for token in [None, Some("Bearer wrong"), Some("token"), Some("Bearer ")] {
                assert_eq!(
                    ask(&router, method, path, token).await,
                    StatusCode::UNAUTHORIZED,
                    "{method} {path} {token:?}"
                );
            }
        }
        assert_eq!(ask(&router, "GET", "/v1/status", Some("Bearer token")).await, StatusCode::OK);
        assert_eq!(ask(&router, "GET", "/nowhere", None).await, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_port_that_others_can_reach_wants_the_token_for_everything() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_port(state(&folder, "0.0.0.0:7070").await, AdminToken::of_test());
        assert_eq!(ask(&router, "GET", "/metrics", None).await, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&router, "GET", "/metrics", Some("Bearer token")).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_page_of_somebody_else_cannot_ask_a_loopback_port() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
        for (host, origin, expected) in [
            ("localhost:7070", None, StatusCode::OK),
            ("[::1]:7070", None, StatusCode::OK),
            ("127.0.0.1:7070", Some("http://127.0.0.1:7070"), StatusCode::OK),
            ("evil.example:7070", None, StatusCode::FORBIDDEN),
            ("localhost.evil.example", None, StatusCode::FORBIDDEN),
            ("127.0.0.1:7070", Some("http://evil.example"), StatusCode::FORBIDDEN),
            ("127.0.0.1:7070", Some("null"), StatusCode::FORBIDDEN),
        ] {
            let mut request = Request::builder().uri("/health").header("host", host);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), expected, "{host} {origin:?}");
        }
    }

    #[tokio::test]
    async fn the_socket_wants_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_socket(state(&folder, "127.0.0.1:7070").await);
        assert_eq!(ask(&router, "GET", "/v1/status", None).await, StatusCode::OK);
        assert_eq!(ask(&router, "GET", "/v1/replicas/vrf/0/why", None).await, StatusCode::OK);
        assert_eq!(ask(&router, "POST", "/v1/keys", None).await, StatusCode::BAD_REQUEST);
        assert_eq!(ask(&router, "DELETE", "/v1/keys/none", None).await, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_key_is_made_of_a_tier_and_a_tier_that_is_not_defined_is_named_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_socket(state(&folder, "127.0.0.1:7070").await);
        let create = async |tier: &str| {
            let body = format!(r#"{{"name":"n","scopes":["a"]{tier}}}"#);
            let request = Request::builder().method("POST").uri("/v1/keys").body(Body::from(body));
            text(router.clone().oneshot(request.unwrap()).await.unwrap()).await
        };
        assert_eq!(create(r#","tier":"developer""#).await.0, StatusCode::CREATED);
        assert_eq!(create("").await.0, StatusCode::CREATED);
        let (status, problem) = create(r#","tier":"gold""#).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(problem.contains("there are developer, free, production, unlimited"), "{problem}");
        let request = Request::builder().uri("/v1/keys").body(Body::empty()).unwrap();
        let (_, listed) = text(router.clone().oneshot(request).await.unwrap()).await;
        let listed: Vec<KeyRecord> = serde_json::from_str(&listed).unwrap();
        let tiers: Vec<_> = listed.iter().map(|key| key.tier.as_str()).collect();
        assert_eq!(tiers, ["developer", "unlimited"]);
    }

    #[tokio::test]
    async fn every_error_is_a_problem_document_with_a_code() {
        let folder = tempfile::tempdir().unwrap();
        let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
        let mut seen = String::new();
        for (method, path, body) in [
            ("GET", "/nowhere", Body::empty()),
            ("PUT", "/v1/keys", Body::empty()),
            ("POST", "/health", Body::empty()),
            ("GET", "/v1/replicas/vrf/1/why", Body::empty()),
            ("GET", "/v1/replicas/vrf/00/why", Body::empty()),
            ("GET", "/v1/replicas/%ff/0/why", Body::empty()),
            ("DELETE", "/v1/keys/%ff", Body::empty()),
            ("DELETE", "/v1/keys/none", Body::empty()),
            ("POST", "/v1/keys", Body::from("{")),
            ("POST", "/v1/keys", Body::from(vec![b' '; MAX_BODY_BYTES + 1])),
            ("POST", "/v1/keys", Body::new(Unfinished)),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "127.0.0.1:7070")
                .header("authorization", "Bearer token")
                .header("content-type", "text/plain");
            let answer = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
            assert_eq!(answer.headers()["content-type"], types::Problem::MEDIA_TYPE, "{method} {path}");
            let (status, body) = text(answer).await;
            let problem: types::Problem = serde_json::from_str(&body).unwrap();
            assert_eq!(status.as_u16(), problem.status);
            seen.push_str(&format!(
                "{method} {path}: {} {}: {}\n",
                problem.status, problem.code, problem.detail
            ));
        }
        expect![[r#"
            GET /nowhere: 404 ROUTE_NOT_FOUND: the admin API has no such path
            PUT /v1/keys: 405 METHOD_NOT_ALLOWED: this path does not take that method; the Allow header names those that it takes
            POST /health: 405 METHOD_NOT_ALLOWED: this path does not take that method; the Allow header names those that it takes
            GET /v1/replicas/vrf/1/why: 404 REPLICA_UNKNOWN: there is no replica vrf/1; `serviceos status` shows those that there are
            GET /v1/replicas/vrf/00/why: 404 REPLICA_UNKNOWN: there is no replica vrf/00; `serviceos status` shows those that there are
            GET /v1/replicas/%ff/0/why: 404 REPLICA_UNKNOWN: there is no replica of a name that is not UTF-8; `serviceos status` shows those that there are
            DELETE /v1/keys/%ff: 404 KEY_UNKNOWN: no API key has an id that is not UTF-8
            DELETE /v1/keys/none: 404 KEY_UNKNOWN: there is no key none; `serviceos keys list` shows them
            POST /v1/keys: 400 VALIDATION_FAILED: EOF while parsing an object at line 1 column 1
            POST /v1/keys: 413 BODY_TOO_LARGE: the body has more than 16384 bytes
            POST /v1/keys: 400 VALIDATION_FAILED: the body did not come to its end
        "#]].assert_eq(&seen);
    }

    /// A body that breaks off.
    struct Unfinished;

    impl hyper::body::Body for Unfinished {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
            Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
        }
    }

    async fn text(response: Response) -> (StatusCode, String) {
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
