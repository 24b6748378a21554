//! The server: HTTP/1.1 with JSON over TLS. Without a certificate of the mesh only joining answers.

mod config;
mod connections;
mod registering;
mod state;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use appraisal::{Code, Fault};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_protocol::tls::{Admits, Clients, Identity, Peer, RootPin, channel_binding, peer, server_config};
use mesh_protocol::{
    Bytes, ChallengeAnswer, ChallengeRequest, Evidence, Handshakes, InstancesAnswer, JoinAnswer, JoinRequest,
    Refusal, SignedRevocations, Subject, WatchAnswer, notice_silence,
};
use rustls::ServerConfig;
use serde::Deserialize;
use service_registry::{Configurations, Registry};
use store::Store;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use trust::{Authority, Channel, Grants};
use types::{ReplicaId, ServiceName};

use crate::instances::{Allowed, Callable};
use crate::registrations::{Held, Registrations};
use crate::state::Namespaces;
use connections::{Connections, Joins, Limits};

/// The connections of one member: a replica has one to watch, one or two to stay registered, one to renew, some where its command
/// asks for others, and up to six for its service's state; the rest is for those of a process before it that are not known to be
/// gone.
const MAX_CONNECTIONS_OF_ONE: usize = 16;
/// The connections of all members: of each replica one to watch, one to stay registered where somebody else has started it, one
/// to renew, one where it asks for others, and those for its service's state, which it keeps only while it needs them.
const MAX_CONNECTIONS: usize = 2048;
/// Connections at the same time.
const LIMITS: Limits =
    Limits { handshakes: 256, strangers: 512, members: MAX_CONNECTIONS, of_one: MAX_CONNECTIONS_OF_ONE };
/// How long a handshake may take, and the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long somebody without a certificate may keep a connection: long enough to make evidence.
const STRANGER: Duration = Duration::from_secs(60);
/// The largest request: evidence in base64 and what stands around it.
const MAX_BODY_BYTES: usize = 128 << 10;
/// How long a watch waits for a change.
const WATCH: Duration = Duration::from_secs(20);

/// Why the mesh API cannot be served.
#[derive(Debug, Error)]
pub enum MeshApiError {
    /// The cryptographic library has no TLS 1.3.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The mesh API, ready to be served.
pub struct MeshApi {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    authority: Authority,
    /// The key that it shows, as DER SubjectPublicKeyInfo.
    spki: Arc<[u8]>,
    callable: Callable,
    registrations: Registrations,
    /// Where registrations are written down.
    store: Option<Store>,
    state: Option<Arc<Namespaces>>,
    configurations: Configurations,
    limits: Limits,
}

/// What is known of the connection that a request came over.
#[derive(Clone)]
struct Connection {
    /// Whether the other end is on this machine.
    is_local: bool,
    binding: [u8; 32],
    peer: Option<Peer>,
    /// Whether a join is being decided on it.
    joins: Joins,
    /// The lease that it keeps.
    held: Held,
}

/// What every request is answered with.
#[derive(Clone)]
struct Api {
    authority: Authority,
    spki: Arc<[u8]>,
    callable: Callable,
    registrations: Registrations,
    store: Option<Store>,
    state: Option<Arc<Namespaces>>,
    configurations: Configurations,
}

impl MeshApi {
    /// The API on a port, with the identity that it shows and the key of that.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        listener: TcpListener,
        authority: Authority,
        identity: Identity,
        spki: Vec<u8>,
    ) -> Result<Self, MeshApiError> {
        let root = RootPin::Spki(authority.root_spki().to_vec());
        let asked = authority.clone();
        let admits: Admits = Arc::new(move |peer| {
            if asked.is_revoked(&peer.id, &peer.leaf) {
                Err(format!("{} is revoked", peer.id))
            } else {
                Ok(())
            }
        });
        let domain = &authority.domain().trust_domain;
        let tls = server_config(identity, root, domain, Clients::Any, admits, &[b"http/1.1"])?;
        let callable = Callable::default();
        Ok(Self {
            listener,
            tls: Arc::new(tls),
            authority,
            spki: spki.into(),
            callable,
            registrations: Registrations::default(),
            store: None,
            state: None,
            configurations: Configurations::default(),
            limits: LIMITS,
        })
    }

    /// Tells members where the services are that they may call; without this, nobody may call anybody.
    #[must_use]
    pub fn with_calls(self, registry: Registry, allowed: Allowed) -> Self {
        Self { callable: Callable::new(registry, allowed), ..self }
    }

    /// Lets replicas register themselves that have a place there; without this, none does.
    #[must_use]
    pub fn with_registrations(self, registrations: Registrations) -> Self {
        Self { registrations, ..self }
    }

    /// Writes registrations down there; without this, there are none.
    #[must_use]
    pub fn with_store(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Keeps the shared state of services there; without this, they have none.
    #[must_use]
    pub fn with_state(self, store: Store) -> Self {
        Self { state: Some(Arc::new(Namespaces::new(store))), ..self }
    }

    /// Tells members what their services are to work with; without this, nobody is told.
    #[must_use]
    pub fn with_configurations(self, configurations: Configurations) -> Self {
        Self { configurations, ..self }
    }

    /// Serves until it is told to end.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let Self { listener, tls, authority, spki, callable, .. } = self;
        let (registrations, store, state) = (self.registrations, self.store, self.state);
        let (configurations, limits) = (self.configurations, self.limits);
        let counting = state::keep_count(state.clone());
        tokio::pin!(counting);
        let api = Api { authority, spki, callable, registrations, store, state, configurations };
        let (acceptor, router) = (TlsAcceptor::from(tls), router(api));
        let mut handshakes = Handshakes::new(limits.handshakes);
        let mut connections = Connections::new(limits);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => handshakes.begin(handshake(stream, from.ip(), acceptor.clone())),
                    Err(error) => {
                        tracing::warn!(%error, "the mesh API could not accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                (stream, connection) = handshakes.next() => {
                    let peer = connection.peer.as_ref().map(|peer| peer.id.clone());
                    let joins = connection.joins.clone();
                    connections.begin(peer, joins, answer(stream, connection, router.clone()));
                }
                never = connections.clear() => match never {},
                never = &mut counting => match never {},
                // Whoever waits for an answer tries again, or ends with this process.
                () = &mut shutdown => return,
            }
        }
    }
}

/// A connection, once it is known who is at the other end, or that this is not said.
async fn handshake(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
) -> Option<(TlsStream<TcpStream>, Connection)> {
    let _delayed = stream.set_nodelay(true);
    let _noticed_later = notice_silence(&stream).is_err();
    let local = stream.local_addr().ok()?.ip();
    let is_local = address.is_loopback() || local == address;
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake with the mesh API failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("a handshake with the mesh API took too long");
            return None;
        }
    };
    let tls = stream.get_ref().1;
    let (binding, peer) = (channel_binding(tls).ok()?, peer(tls.peer_certificates()));
    Some((stream, Connection { is_local, binding, peer, joins: Joins::default(), held: Held::default() }))
}

async fn answer(stream: TlsStream<TcpStream>, connection: Connection, router: Router) {
    let is_stranger = connection.peer.is_none();
    // Members come again with the certificate that they have by then.
    let lifetime = connection.peer.as_ref().map_or(STRANGER, Peer::remaining);
    let router = router.layer(Extension(connection));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if is_stranger { Some(HANDSHAKE) } else { None })
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = timeout(lifetime, served).await {
        tracing::debug!(%error, "a connection to the mesh API ended with an error");
    }
}

fn router(api: Api) -> Router {
    let members = Router::new()
        .route("/v1/watch", get(watch))
        .route("/v1/services/{name}/instances", get(instances))
        .merge(state::routes(api.clone()))
        .merge(config::routes())
        .merge(registering::routes())
        .fallback(unknown);
    let members = members.layer(middleware::from_fn_with_state(api.clone(), only_members));
    Router::new()
        .route("/v1/join/challenge", post(challenge))
        .route("/v1/join", post(join))
        .merge(members)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api)
}

/// A refusal as it is answered.
struct Refused(StatusCode, Refusal);

impl Refused {
    fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(status, Refusal { code: code.to_owned(), detail: detail.into() })
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let status =
            if fault.is_retryable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
        Self::new(status, fault.code.as_str(), fault.detail)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

async fn only_members(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let Some(peer) = connection.peer else {
        let detail = "without a certificate of the mesh only /v1/join answers";
        return Refused::new(StatusCode::FORBIDDEN, "CERTIFICATE_REQUIRED", detail).into_response();
    };
    if api.authority.is_revoked(&peer.id, &peer.leaf) {
        let detail = format!("{} is revoked", peer.id);
        return Refused::from(Fault::new(Code::Revoked, detail)).into_response();
    }
    if api.authority.has_ended(&peer) {
        let detail = format!("the identity of {} ended with the manifest before", peer.id);
        return Refused::new(StatusCode::FORBIDDEN, "CERTIFICATE_REQUIRED", detail).into_response();
    }
    next.run(request).await
}

async fn unknown() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "the mesh API has no such path")
}

impl Api {
    /// Whether whoever comes with a ticket would take nobody's place.
    fn is_free(&self, connection: &Connection, service: &str, instance: &str) -> Result<(), Refused> {
        let service = service.parse().ok();
        let replica = service.and_then(|service| ReplicaId::of_instance(service, instance).ok());
        let taken = replica.filter(|replica| self.registrations.present(replica).is_some());
        match taken.filter(|_| connection.peer.is_none()) {
            None => Ok(()),
            Some(replica) => {
                let detail = format!("{replica} runs already; stop it where it was started");
                Err(Refused::new(StatusCode::FORBIDDEN, "REPLICA_TAKEN", detail))
            }
        }
    }

    fn channel(&self, connection: Connection) -> Channel<'_> {
        Channel { binding: connection.binding, authority_spki: &self.spki, peer: connection.peer }
    }
}

fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refused> {
    body.map(|Json(message)| message).map_err(|rejection| {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Code::EvidenceTooLarge
        } else {
            Code::EvidenceMalformed
        };
        Fault::new(code, rejection.body_text()).into()
    })
}

async fn challenge(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<ChallengeRequest>, JsonRejection>,
) -> Result<Json<ChallengeAnswer>, Refused> {
    let request = read(body)?;
    api.is_free(&connection, &request.service, &request.instance)?;
    Ok(Json(api.authority.challenge(&api.channel(connection), &request).await?))
}

async fn join(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<JoinRequest>, JsonRejection>,
) -> Result<Json<JoinAnswer>, Refused> {
    let request = read(body)?;
    if connection.peer.is_none()
        && let Ok((_, claims)) = Evidence::decode_join(&request.evidence.0)
    {
        api.is_free(&connection, &claims.service, &claims.instance)?;
    }
    let _deciding = connection.joins.begin();
    Ok(Json(api.authority.join(&api.channel(connection), &request).await?))
}

/// Where a service is, for those that it allows to call it.
async fn instances(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    Path(name): Path<String>,
) -> Result<Json<InstancesAnswer>, Refused> {
    let refused = |detail: String| Refused::new(StatusCode::FORBIDDEN, "MESH_NOT_ALLOWED", detail);
    let service: ServiceName =
        name.parse().map_err(|_| refused("there is no service of that name".into()))?;
    let caller = connection.peer.ok_or_else(|| refused("only members call others".into()))?;
    let instances = api.callable.instances(&caller.id, &service).map_err(refused)?;
    Ok(Json(InstancesAnswer { instances }))
}

/// Which replica asks.
fn replica(connection: &Connection) -> Result<(ReplicaId, &Peer), Refused> {
    let found = connection.peer.as_ref().and_then(|peer| match &peer.id.subject {
        Subject::Service { service, instance } => {
            Some((ReplicaId::of_instance(service.clone(), instance).ok()?, peer))
        }
        Subject::Gateway(_) | Subject::Authority(_) => None,
    });
    found.ok_or_else(|| {
        Refused::new(StatusCode::FORBIDDEN, "REPLICA_NOT_EXPECTED", "only replicas are answered here")
    })
}

#[derive(Deserialize)]
struct Known {
    epoch: Option<u64>,
    /// T_n, unpadded base64url.
    tn: Option<Bytes>,
    granted: Option<Bytes>,
    /// The number of the service's configuration.
    config: Option<u64>,
}

/// What is revoked, which transition is in force, whether the caller is given other secrets, and which configuration it is to work
/// with: at once where the caller does not know it yet, else when it changes, or again after a while.
async fn watch(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    Query(known): Query<Known>,
) -> Result<Json<WatchAnswer>, Refused> {
    let (mut revocations, mut grants) = (api.authority.revocations(), api.authority.grants());
    let service = connection.peer.and_then(|peer| match peer.id.subject {
        Subject::Service { service, .. } => Some(service),
        Subject::Gateway(_) | Subject::Authority(_) => None,
    });
    let granted = |grants: &Arc<Grants>| Some(Bytes(grants.get(service.as_ref()?)?.to_vec()));
    let is_news = |list: &Arc<SignedRevocations>| {
        let other_transition = known.tn.as_ref().is_some_and(|tn| *tn != list.revocations.t_n);
        known.epoch != Some(list.revocations.epoch) || other_transition
    };
    let gives_others = |grants: &Arc<Grants>| known.granted.is_some() && known.granted != granted(grants);
    let wanted = || config::wanted(&api.authority, &api.configurations, service.as_ref()?);
    // Another one comes with another transition, so nothing but that is waited for.
    let wants_another = wanted().zip(known.config).is_some_and(|(wanted, known)| wanted.revision != known);
    let news = async {
        tokio::select! {
            _ = revocations.wait_for(is_news) => {}
            _ = grants.wait_for(gives_others) => {}
            () = std::future::ready(()), if wants_another => {}
        }
    };
    let _nothing_new_in_time = timeout(WATCH, news).await.is_err();
    let granted = granted(&grants.borrow());
    let revocations = revocations.borrow().as_ref().clone();
    // After the list: the configuration is as new as the transition there, or newer.
    let config = wanted().as_ref().map(config::told);
    let authority = Some(api.authority.own_workload(&revocations.revocations.t_n)?);
    Ok(Json(WatchAnswer { revocations, granted, config, authority }))
}

#[cfg(test)]
mod tests;
