//! Forwards the requests of one connection: streamed both ways, trailers included, with nothing read that need not be.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_protocol::Subject;
use sdk::{Body, Caller, Problem, Protocol, Tunnels};
use tokio::io::copy_bidirectional;
use types::headers::REQUEST_ID;

use super::headers::{self, Length, Reserved};
use super::trailers::filtered;
use super::upstream::{SendError, Upstream};

/// Answers the requests of a caller with the command's answers.
pub(super) struct Forward {
    upstream: Arc<Upstream>,
    tunnels: Tunnels,
    reserved: Reserved,
}

/// A request on its way, and what it takes to answer it.
pub(super) struct Passing {
    pub(super) request: Request<Body>,
    upgrade: Option<OnUpgrade>,
}

impl Forward {
    pub(super) fn to_the_command(caller: Caller, upstream: Arc<Upstream>) -> Self {
        let reserved = match caller.peer.id.subject {
            Subject::Gateway(_) => Reserved::Passed,
            Subject::Service { .. } | Subject::Authority(_) => Reserved::Stripped,
        };
        Self::new(upstream, caller.tunnels, reserved)
    }

    pub(super) fn new(upstream: Arc<Upstream>, tunnels: Tunnels, reserved: Reserved) -> Self {
        Self { upstream, tunnels, reserved }
    }
}

impl Service<Request<Incoming>> for Forward {
    type Response = Response<Body>;
    /// Ends the connection by HTTP/1 and the request's stream by HTTP/2, with nothing answered: nothing of the request was
    /// executed, and whoever sent it sees that from it.
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, h2::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (upstream, tunnels, reserved) = (Arc::clone(&self.upstream), self.tunnels.clone(), self.reserved);
        Box::pin(async move {
            let id = request.headers().get(REQUEST_ID).cloned();
            let answered = forward(&upstream, &tunnels, reserved, request).await;
            match answered {
                Ok(response) => Ok(response),
                Err(Unanswered::Problem(problem)) => Ok(problem.answer(id.as_ref())),
                Err(Unanswered::NotSent) => Err(h2::Reason::REFUSED_STREAM.into()),
            }
        })
    }
}

/// Why the command has answered nothing.
enum Unanswered {
    Problem(Problem),
    /// Nothing of the request was sent to it, so that another replica may execute it.
    NotSent,
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn forward(
    upstream: &Arc<Upstream>,
    tunnels: &Tunnels,
    reserved: Reserved,
    request: Request<Incoming>,
) -> Result<Response<Body>, Unanswered> {
    let Passing { request, upgrade } = Passing::new(request, reserved, upstream.protocol())?;
    let response = upstream.send(request).await.map_err(|error| {
        tracing::warn!(%error, "the command did not answer a request");
        match error {
            SendError::NotConnected(..) => Unanswered::NotSent,
            SendError::Failed(_) => {
                failed("the command behind this replica ended the connection before it answered").into()
            }
        }
    })?;
    Ok(answered(response, upgrade, tunnels)?)
}

impl Passing {
    pub(super) fn new(
        mut request: Request<Incoming>,
        reserved: Reserved,
        protocol: Protocol,
    ) -> Result<Self, Problem> {
        if *request.method() == Method::CONNECT {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "Method not allowed",
                "a replica is no proxy",
            ));
        }
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let wanted = headers::upgrade(&parts).filter(|_| protocol == Protocol::Http1);
        let upgrade = wanted.is_some().then_some(on_upgrade);
        headers::request(&mut parts, reserved, protocol, wanted, Length::of(&body));
        Ok(Self { request: Request::from_parts(parts, filtered(body, reserved)), upgrade })
    }

    /// The request, and what is left for its answer.
    pub(super) fn split(self) -> (Request<Body>, Option<OnUpgrade>) {
        (self.request, self.upgrade)
    }
}

/// An answer as the caller gets it. Where the protocol changes, both connections become one tunnel.
pub(super) fn answered(
    mut response: Response<Body>,
    upgrade: Option<OnUpgrade>,
    tunnels: &Tunnels,
) -> Result<Response<Body>, Problem> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = response.into_parts();
        headers::response(&mut parts);
        return Ok(Response::from_parts(parts, filtered(body, Reserved::Passed)));
    }
    let Some(caller) = upgrade else {
        return Err(failed(
            "what answers behind this replica changed to a protocol that it was not asked for",
        ));
    };
    let behind = hyper::upgrade::on(&mut response);
    tunnels.open(tunnel(caller, behind));
    let chosen = response.headers().get(UPGRADE).cloned();
    let (mut parts, _nothing) = response.into_parts();
    headers::response(&mut parts);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(chosen) = chosen {
        parts.headers.insert(UPGRADE, chosen);
    }
    Ok(Response::from_parts(parts, Body::empty()))
}

async fn tunnel(caller: OnUpgrade, behind: OnUpgrade) {
    let (Ok(caller), Ok(behind)) = tokio::join!(caller, behind) else { return };
    let copied = copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(behind)).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a connection of another protocol ended with an error");
    }
}

pub(super) fn failed(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", "Upstream failed", detail)
}

#[cfg(test)]
mod tests;
