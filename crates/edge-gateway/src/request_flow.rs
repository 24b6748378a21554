//! The request flow, step by step in the seed's order. This file is the order; each step has a file of its own.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use service_router::{Answer, Call, Replay, RequestBody, StreamedBody};
use tokio::time::{Instant, timeout};
use types::headers::REQUEST_ID;

use crate::FlowError;
use crate::authenticate::{authenticate, authorize};
use crate::body::GatewayBody;
use crate::connection::Client;
use crate::exchange::Exchange;
use crate::forward::{request_headers, response_headers};
use crate::route::{OwnPage, Route, Target};
use crate::validate::{validate_head, validate_length};
use crate::worker::Worker;

/// Bodies up to this size are held, so that a call that may be repeated can be sent again.
const REPLAY_BYTES: u64 = 64 << 10;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a request leads to: an answer, always.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<GatewayBody> {
    let (parts, incoming) = request.into_parts();
    let draining = client.draining.clone();
    let mut exchange = Box::new(Exchange::begin(&worker, parts.method.clone(), parts.uri.clone(), client));
    let mut response = match request_flow(&worker, &mut exchange, parts, incoming).await {
        Ok(Flow::Upstream(answer)) => {
            let Answer { response, replica, attempts, first_byte } = *answer;
            let (mut head, body) = response.into_parts();
            response_headers(&mut head.headers, &exchange.request_id);
            (exchange.replica, exchange.attempts) = (Some(replica), attempts);
            exchange.first_byte = Some(first_byte);
            exchange.answered(head.status);
            Response::from_parts(head, GatewayBody::upstream(body, exchange))
        }
        Ok(Flow::Own(response)) => {
            exchange.own_page();
            finish(response, exchange)
        }
        Err(error) => {
            exchange.code = Some(error.kind().1);
            exchange.error = error.internal_detail().map(str::to_owned);
            let response = error.into_response(exchange.id());
            finish(response, exchange)
        }
    };
    if draining.was_said() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// How a request is answered.
enum Flow {
    Upstream(Box<Answer>),
    Own(Response<Bytes>),
}

async fn request_flow(
    worker: &Rc<Worker>,
    exchange: &mut Exchange,
    mut parts: Parts,
    incoming: Incoming,
) -> Result<Flow, FlowError> {
    let plan = &*worker.plan;
    validate_head(&parts, &plan.limits)?;
    let route = match plan.routes.find(&parts.method, parts.uri.path())? {
        Target::Route(route) => route,
        Target::Own(page) => return Ok(Flow::Own(own_answer(page))),
    };
    exchange.matched(route);
    worker.admit()?;
    exchange.caller =
        authenticate(&parts.headers, route, &worker.keys.current(), &exchange.client, exchange.time)?;
    authorize(exchange.caller.as_deref(), route)?;
    let length = validate_length(&parts, route)?;

    let replay = replay(&parts.method, &parts.headers);
    request_headers(
        &mut parts.headers,
        &exchange.client.address,
        &exchange.request_id,
        exchange.caller.as_deref(),
    );
    let body = request_body(incoming, length, replay, route).await?;
    parts.headers.remove(header::TRANSFER_ENCODING);
    let call = Call {
        // A body that was held has taken the client's time, which is not the replica's.
        began: if matches!(body, RequestBody::Whole(_)) { Instant::now() } else { exchange.began },
        uri: upstream_uri(&parts.uri, route)?,
        replay: if matches!(body, RequestBody::Stream(_)) { Replay::Unsafe } else { replay },
        method: parts.method,
        headers: parts.headers,
        body,
        timeout: route.timeout,
        idle_timeout: plan.limits.idle_timeout,
    };
    match worker.router.execute(route.service, call).await {
        Ok(answer) => Ok(Flow::Upstream(Box::new(answer))),
        Err(failure) => {
            (exchange.replica, exchange.attempts) = (failure.replica, failure.attempts);
            Err(match FlowError::from(failure.error) {
                FlowError::BodyTooLarge(_) => FlowError::BodyTooLarge(route.body_limit),
                error => error,
            })
        }
    }
}

/// Whether executing a call twice is harmless: the idempotent methods (RFC 9110 section 9.2.2), and any call whose client
/// says so with a key.
fn replay(method: &Method, headers: &HeaderMap) -> Replay {
    let idempotent = method.is_idempotent() || headers.contains_key(IDEMPOTENCY_KEY);
    if idempotent { Replay::Safe } else { Replay::Unsafe }
}

/// Small bodies of calls that may be repeated are held; everything else is passed on as it comes.
async fn request_body(
    incoming: Incoming,
    length: Option<u64>,
    replay: Replay,
    route: &Route,
) -> Result<RequestBody, FlowError> {
    use hyper::body::Body;
    if incoming.is_end_stream() {
        return Ok(RequestBody::Empty);
    }
    match length {
        Some(0) => Ok(RequestBody::Empty),
        Some(length) if replay == Replay::Safe && length <= REPLAY_BYTES => {
            // Boxed, since few requests come here and a timer would make the state of all of them larger.
            let collected = Box::pin(timeout(route.timeout, incoming.collect())).await;
            let collected =
                collected.map_err(|_| FlowError::RequestTimeout)?.map_err(|_| FlowError::BodyIncomplete)?;
            Ok(RequestBody::Whole(Some(collected.to_bytes())))
        }
        _ => Ok(RequestBody::Stream(StreamedBody::new(incoming, route.body_limit))),
    }
}

/// The target in origin form, without the route's prefix.
fn upstream_uri(uri: &Uri, route: &Route) -> Result<Uri, FlowError> {
    let target = uri.path_and_query().ok_or(FlowError::Malformed("it has no path"))?;
    let stripped = route.strip_prefix.as_deref().and_then(|prefix| target.as_str().strip_prefix(prefix));
    let malformed = |_| FlowError::Malformed("its URL cannot be passed on");
    match stripped {
        None if uri.authority().is_none() => Ok(uri.clone()),
        None => Uri::try_from(target.as_str()).map_err(malformed),
        Some(rest) if rest.starts_with('/') => Uri::try_from(rest).map_err(malformed),
        Some(rest) => Uri::try_from(format!("/{rest}")).map_err(malformed),
    }
}

fn own_answer(page: &OwnPage) -> Response<Bytes> {
    let answer = (page.answer)();
    let mut response = Response::new(Bytes::from(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn finish(response: Response<Bytes>, mut exchange: Box<Exchange>) -> Response<GatewayBody> {
    let (mut head, bytes) = response.into_parts();
    head.headers.insert(HeaderName::from_static(REQUEST_ID), exchange.request_id.clone());
    exchange.answered(head.status);
    Response::from_parts(head, GatewayBody::own(bytes, exchange))
}
