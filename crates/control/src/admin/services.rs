//! The catalogue: which services there are, where their instances are, and what becomes of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use types::ServiceName;

use super::AdminState;
use crate::catalogue::{Services, Watch};
use crate::problem::AdminProblem;
use crate::server::told;

/// How long a stream is silent at most: a comment shows that it is there, and finds out whether its reader is.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Says that the admin API is to end, and streams with it.
#[derive(Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// With `watch`, what is asked for is a stream from that revision on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceQuery {
    watch: Option<String>,
}

/// What is wanted of the instances, as it stands in the request.
struct Wanted {
    service: Option<ServiceName>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/services/{name}/instances", get(instances_of))
        .route("/v1/instances", get(instances))
}

async fn services(State(state): State<AdminState>) -> Json<Services> {
    Json(state.catalogue.services())
}

async fn instances(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, AdminProblem> {
    Wanted { service: None, query, headers }.answer(&state, stopping)
}

async fn instances_of(
    State(state): State<AdminState>,
    Extension(stopping): Extension<Stopping>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<InstanceQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, AdminProblem> {
    let Ok(Path(name)) = path else {
        return Err(AdminProblem::service_unknown("of a name that is not UTF-8"));
    };
    let service = name.parse().ok().filter(|service| state.catalogue.has(service));
    let service = Some(service.ok_or_else(|| AdminProblem::service_unknown(&name))?);
    Wanted { service, query, headers }.answer(&state, stopping)
}

impl Wanted {
    fn answer(self, state: &AdminState, stopping: Stopping) -> Result<Response, AdminProblem> {
        let Self { service, query, headers } = self;
        let Query(query) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
        let Some(watch) = query.watch else {
            return Ok(Json(state.catalogue.instances(service.as_ref())).into_response());
        };
        // A reader whose stream broke off asks for the same again, and says here how far it came.
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let watch = state.catalogue.watch(service, last.unwrap_or(&watch));
        let place = state.catalogue.place().ok_or_else(AdminProblem::watchers_full)?;
        let stream = Stream { watch, stopping, silent_until: Instant::now() + HEARTBEAT, _place: place };
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, Body::new(Events(Box::pin(stream.next())))).into_response())
    }
}

struct Stream {
    watch: Watch,
    stopping: Stopping,
    silent_until: Instant,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// What is written next, and what comes behind it.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let bytes = tokio::select! {
            biased;
            event = self.watch.next() => event.encode(),
            () = told(&mut self.stopping.0) => return None,
            () = sleep_until(self.silent_until) => Bytes::from_static(b": still here\n\n"),
        };
        self.silent_until = Instant::now() + HEARTBEAT;
        Some((bytes, self))
    }
}

/// What comes next, and the rest of the stream; nothing once it has ended.
type Next = Option<(Bytes, Stream)>;

/// The body of a stream: what is written next is made only when the connection has room for it.
struct Events(Pin<Box<dyn Future<Output = Next> + Send>>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = ready!(self.0.as_mut().poll(context));
        Poll::Ready(next.map(|(bytes, stream)| {
            self.0 = Box::pin(stream.next());
            Ok(Frame::data(bytes))
        }))
    }
}

#[cfg(test)]
mod tests;
