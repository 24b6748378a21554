//! Calls of the command to other services: `Host` names the service, and one of its instances answers. The authority says which
//! there are and whether this service may call them; each instance judges that again by itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use mesh_protocol::{MeshInstance, MeshSide};
use sdk::{Body, MeshError, Outgoing, Problem, Protocol, Tunnels, distrusted};
use tokio::time::{Instant, timeout};
use types::{ServiceName, VersionRequirement};

use super::forward::{Passing, answered, failed};
use super::guarded::Guarded;
use super::headers::{self, Reserved};
use super::upstream::{Connected, SendError, Upstream};

/// How long the authority's word on a service is gone by before it is asked again.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is gone by while the authority cannot be reached.
const STALE: Duration = Duration::from_secs(60);
/// How long the authority may take.
const ASK: Duration = Duration::from_secs(5);
/// How often a call is begun: once more where the first instance takes no connection.
const TRIES: usize = 2;
/// The header by which a command says which version is to answer.
const VERSION_HEADER: &str = "service-version";

/// The mesh as a caller sees it.
pub(super) trait Mesh: Send + Sync + 'static {
    /// The instances of a service that may serve now.
    fn instances(
        &self,
        service: &ServiceName,
    ) -> impl Future<Output = Result<Vec<MeshInstance>, MeshError>> + Send;

    /// A connection to an instance.
    fn connect(&self, instance: &MeshInstance) -> impl Future<Output = Result<Connected, String>> + Send;
}

impl Mesh for Outgoing {
    async fn instances(&self, service: &ServiceName) -> Result<Vec<MeshInstance>, MeshError> {
        let answer = timeout(ASK, Self::instances(self, service)).await;
        answer.unwrap_or_else(|_| Err(MeshError::Retryable("the authority did not answer within 5 s".into())))
    }

    async fn connect(&self, instance: &MeshInstance) -> Result<Connected, String> {
        let (stream, peer) = Self::connect(self, instance).await.map_err(|error| error.to_string())?;
        // A connection that speaks something else by then is driven by nobody here, so it watches by itself.
        let stream = Guarded::new(stream, Box::pin(distrusted(peer.clone(), self.trusted())));
        Ok(Connected { stream: Box::new(stream), until: Box::pin(distrusted(peer, self.trusted())) })
    }
}

/// Calls to other services.
pub(super) struct Calls<M> {
    mesh: Arc<M>,
    /// Those that this service may call.
    services: Mutex<BTreeMap<ServiceName, Arc<Callee>>>,
}

/// A service that is called.
#[derive(Default)]
struct Callee(tokio::sync::Mutex<Known>);

/// What is known of it.
#[derive(Default)]
struct Known {
    /// When the authority said so; none where that is not to be gone by any more without asking.
    said: Option<Instant>,
    /// When it said so the last time.
    said_last: Option<Instant>,
    instances: Vec<(MeshInstance, Arc<Upstream>)>,
    next: usize,
    /// How many calls there were that named no version while they were divided.
    divided: u64,
}

impl<M: Mesh> Calls<M> {
    pub(super) fn new(mesh: Arc<M>) -> Self {
        Self { mesh, services: Mutex::default() }
    }

    /// Calls whom the request names.
    pub(super) async fn call(
        &self,
        request: Request<Incoming>,
        tunnels: &Tunnels,
    ) -> Result<Response<Body>, Problem> {
        let (service, wanted) = (service(&request)?, wanted(&request)?);
        let passing = Passing::new(request, Reserved::Stripped, Protocol::Http1)?;
        let (mut request, upgrade) = passing.split();
        let mut tried = Vec::new();
        for _ in 0..TRIES {
            let (instance, upstream) = self.choose(&service, wanted.as_ref(), &tried).await?;
            match upstream.send(request).await {
                Ok(response) => return answered(response, upgrade, tunnels),
                Err(SendError::NotConnected(reason, again)) => {
                    tracing::warn!(%service, reason, "an instance of another service takes no connection");
                    self.doubt(&service).await;
                    tried.push(instance);
                    request = *again;
                }
                Err(SendError::Failed(error)) => {
                    tracing::warn!(%service, %error, "a call to another service failed");
                    return Err(failed(format!("{service} ended the connection before it answered")));
                }
            }
        }
        Err(unavailable(format!("no instance of {service} that was tried takes a connection")))
    }

    /// The next instance in turn of those that are wanted, one that was not tried where there is one.
    async fn choose(
        &self,
        service: &ServiceName,
        wanted: Option<&VersionRequirement>,
        tried: &[String],
    ) -> Result<(String, Arc<Upstream>), Problem> {
        let callee = self.callee(service);
        let mut known = callee.0.lock().await;
        if known.said.is_none_or(|said| said.elapsed() >= FRESH) {
            self.ask(service, &callee, &mut known).await?;
        }
        let (count, start) = (known.instances.len(), known.next);
        let side = if wanted.is_none() { known.next_side() } else { None };
        let fits = |instance: &MeshInstance| match wanted {
            Some(wanted) => wanted.fits(&instance.version, &instance.version_id),
            None => instance.part.is_none_or(|part| part.percent > 0),
        };
        let in_turn = || {
            let places = (0..count).map(|step| (start + step) % count);
            places.filter(|place| fits(&known.instances[*place].0))
        };
        let is_new = |place: &usize| !tried.contains(&known.instances[*place].0.spiffe);
        let is_of_side = |place: &usize| known.instances[*place].0.part.map(|part| part.side) == side;
        let of_side = in_turn().find(|place| is_new(place) && (side.is_none() || is_of_side(place)));
        let Some(place) = of_side.or_else(|| in_turn().find(is_new)).or_else(|| in_turn().next()) else {
            let of_version = if wanted.is_some() { " of the version that was asked for" } else { "" };
            return Err(unavailable(format!("no instance of {service}{of_version} is selectable")));
        };
        known.next = (place + 1) % count;
        let (instance, upstream) = &known.instances[place];
        Ok((instance.spiffe.clone(), Arc::clone(upstream)))
    }

    /// Asks the authority. Where it cannot be reached, what it said before holds for a while.
    async fn ask(
        &self,
        service: &ServiceName,
        callee: &Arc<Callee>,
        known: &mut Known,
    ) -> Result<(), Problem> {
        let said = self.mesh.instances(service).await;
        let now = Instant::now();
        match said {
            Ok(instances) => {
                known.take(&self.mesh, instances, now);
                self.services().insert(service.clone(), Arc::clone(callee));
                Ok(())
            }
            Err(MeshError::Refused(refusal)) => {
                *known = Known::default();
                self.services().remove(service);
                Err(not_allowed(service, &refusal.detail))
            }
            Err(error @ (MeshError::Retryable(_) | MeshError::NotTheAuthority(_))) => {
                tracing::warn!(%service, %error, "the authority could not be asked for the instances of a service");
                if known.said_last.is_some_and(|said| now.duration_since(said) < STALE) {
                    // It is asked again by the next call after a while, not by every one.
                    known.said = Some(now);
                    return Ok(());
                }
                Err(unavailable(format!(
                    "the instances of {service} are not known: the authority is not reached"
                )))
            }
        }
    }

    /// What is known of a service may have changed.
    async fn doubt(&self, service: &ServiceName) {
        let known = self.services().get(service).cloned();
        if let Some(callee) = known {
            callee.0.lock().await.said = None;
        }
    }

    /// One that the authority has not spoken of is not kept, since the command may name anybody.
    fn callee(&self, service: &ServiceName) -> Arc<Callee> {
        self.services().get(service).cloned().unwrap_or_default()
    }

    fn services(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServiceName, Arc<Callee>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whose turn it is while calls are divided: of a hundred that follow each other, each side has as many as its part says.
    fn next_side(&mut self) -> Option<MeshSide> {
        let parts = self.instances.iter().filter_map(|(instance, _)| instance.part);
        let of_target = parts.map(|part| match part.side {
            MeshSide::Target => part.percent,
            MeshSide::Stable => 100_u8.saturating_sub(part.percent),
        });
        let percent = u64::from(of_target.max()?);
        let had = |calls: u64| calls * percent / 100;
        let call = self.divided % 100;
        self.divided += 1;
        Some(if had(call + 1) > had(call) { MeshSide::Target } else { MeshSide::Stable })
    }

    /// Those that stay keep their connections.
    fn take<M: Mesh>(&mut self, mesh: &Arc<M>, instances: Vec<MeshInstance>, now: Instant) {
        let mut before = std::mem::take(&mut self.instances);
        let kept = |instance: MeshInstance| {
            let who = |instance: &MeshInstance| {
                (instance.address, instance.spiffe.clone(), instance.leaves.clone())
            };
            let place = before.iter().position(|(known, _)| who(known) == who(&instance));
            let upstream = place.map(|place| before.swap_remove(place).1);
            (instance.clone(), upstream.unwrap_or_else(|| upstream_of(mesh, instance)))
        };
        self.instances = instances.into_iter().map(kept).collect();
        (self.said, self.said_last) = (Some(now), Some(now));
    }
}

fn upstream_of<M: Mesh>(mesh: &Arc<M>, instance: MeshInstance) -> Arc<Upstream> {
    let mesh = Arc::clone(mesh);
    let connector = Box::new(move || {
        let (mesh, instance) = (Arc::clone(&mesh), instance.clone());
        let connected: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { mesh.connect(&instance).await });
        connected
    });
    Arc::new(Upstream::new(Protocol::Http1, connector))
}

/// Whom the request is for.
fn service(request: &Request<Incoming>) -> Result<ServiceName, Problem> {
    let host = headers::host(request.uri(), request.headers());
    let named = host.and_then(|host| host.host().to_ascii_lowercase().parse().ok());
    named.ok_or_else(|| {
        let detail = "Host names the service that is called, as in http://vrf/v1/random";
        Problem::new(StatusCode::BAD_REQUEST, "REQUEST_MALFORMED", "Malformed request", detail)
    })
}

/// Which versions of it may answer; any where the request does not say.
fn wanted(request: &Request<Incoming>) -> Result<Option<VersionRequirement>, Problem> {
    let Some(value) = request.headers().get(VERSION_HEADER) else { return Ok(None) };
    let wanted = value.to_str().ok().and_then(VersionRequirement::parse);
    wanted.map(Some).ok_or_else(|| {
        let detail =
            "Service-Version is a version such as 1.2.0, what it is known by, or a range such as ^1.2";
        Problem::new(StatusCode::BAD_REQUEST, "REQUEST_MALFORMED", "Malformed request", detail)
    })
}

fn not_allowed(service: &ServiceName, detail: &str) -> Problem {
    tracing::warn!(%service, detail, "a call to another service is not allowed");
    Problem::new(StatusCode::FORBIDDEN, "MESH_NOT_ALLOWED", "Call not allowed", detail)
}

fn unavailable(detail: String) -> Problem {
    let title = "No replica can be selected";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NO_REPLICA_SELECTABLE", title, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

#[cfg(test)]
mod tests;
