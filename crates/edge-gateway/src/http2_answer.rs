//! Answers on their way to a client in HTTP/2.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use http1::{Framing, Known, Trailers, is_grpc, may_pass_as_grpc_metadata};
use observability::Refused;
use service_router::{Answer, BodyError, Timer};
use tokio::time::Instant;
use types::headers::REQUEST_ID;

use crate::answer::OwnAnswer;
use crate::broken::{self, Broken, Waiting};
use crate::exchange::Exchange;
use crate::forward::answer_passes;
use crate::http1_client::passing_trailers;
use crate::http2_client::{Http2Body, StreamEnd};
use crate::idle::IdleDeadline;
use crate::rate_limit::put_fields;
use crate::request_flow::Flow;

/// What is handed to the stream at once.
const MAX_PIECE: usize = 32 << 10;

/// What a request looks like to whoever answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Plain,
    /// No body follows.
    Head,
    /// Errors are trailers.
    Grpc,
}

/// Sends an answer on its stream; how that ended.
pub(crate) async fn send(
    exchange: &mut Exchange,
    body: &mut Http2Body,
    timer: &mut Timer,
    flow: Flow,
    dialect: Dialect,
) -> StreamEnd {
    let begun = match flow {
        Flow::Own(own) => send_own(exchange, timer, &mut body.respond, own, dialect).await,
        Flow::Gone => None,
        Flow::Upstream(answer) => send_answer(exchange, body, timer, *answer).await,
    };
    begun.map_or(StreamEnd::Reset, |()| StreamEnd::Answered)
}

fn response(exchange: &Exchange, status: StatusCode, mut fields: HeaderMap) -> Response<()> {
    let id = HeaderValue::from_bytes(exchange.request_id.as_bytes());
    if let Ok(id) = id {
        fields.insert(REQUEST_ID, id);
    }
    put_fields(exchange, &mut |name, value| {
        let parsed = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = parsed {
            fields.insert(name, value);
        }
    });
    let mut response = Response::new(());
    (*response.status_mut(), *response.version_mut()) = (status, Version::HTTP_2);
    *response.headers_mut() = fields;
    response
}

/// `None` when the stream has ended before.
async fn send_own(
    exchange: &mut Exchange,
    timer: &mut Timer,
    respond: &mut SendResponse<Bytes>,
    own: OwnAnswer,
    dialect: Dialect,
) -> Option<()> {
    let mut fields = HeaderMap::new();
    for (name, value) in &own.fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
    if dialect == Dialect::Grpc
        && let Some((status, message)) = &own.grpc
    {
        // An answer that is trailers only (gRPC over HTTP/2, `Responses`).
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert("grpc-status", HeaderValue::from(u16::from(*status)));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(message)) {
            fields.insert("grpc-message", message);
        }
        return respond.send_response(response(exchange, StatusCode::OK, fields), true).ok().map(drop);
    }
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(own.content_type));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(own.body.len()));
    let bodiless = dialect == Dialect::Head || own.body.is_empty();
    let mut sending = respond.send_response(response(exchange, own.status, fields), bodiless).ok()?;
    if !bodiless {
        exchange.bytes = own.body.len() as u64;
        let deadline = Instant::now() + exchange.plan.plan.limits.idle_timeout;
        let mut rest = Bytes::from(own.body);
        let sent = poll_fn(|context| poll_send(context, &mut sending, &mut rest));
        if timer.limit(deadline, sent).await.is_none() {
            exchange.worker.shard.requests_refused.add_one(Refused::IdleTimeout);
        }
    }
    Some(())
}

/// Sends all of `rest` and ends the stream.
fn poll_send(
    context: &mut Context<'_>,
    sending: &mut SendStream<Bytes>,
    rest: &mut Bytes,
) -> Poll<Result<(), h2::Error>> {
    while !rest.is_empty() {
        sending.reserve_capacity(rest.len());
        let Some(capacity) = ready!(sending.poll_capacity(context)) else { return Poll::Ready(Ok(())) };
        let piece = rest.split_to(capacity?.min(rest.len()));
        sending.send_data(piece, rest.is_empty())?;
    }
    Poll::Ready(Ok(()))
}

/// gRPC's `Percent-Encoded`: visible ASCII but for the percent sign stays as it is.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// `None` when the stream has ended before.
async fn send_answer(
    exchange: &mut Exchange,
    body: &mut Http2Body,
    timer: &mut Timer,
    mut answer: Answer,
) -> Option<()> {
    let head = answer.head();
    let mut fields = HeaderMap::with_capacity(head.field_count() + 2);
    for (field, name, value) in head.fields() {
        let parsed = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (true, (Ok(name), Ok(value))) = (answer_passes(exchange, field), parsed) {
            fields.append(name, value);
        }
    }
    let length = match head.framing() {
        _ if head.status() == StatusCode::NO_CONTENT => None,
        Framing::Length(0) => head.announced_length().and_then(|length| HeaderValue::from_bytes(length).ok()),
        Framing::Length(length) => Some(HeaderValue::from(length)),
        Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, length);
    }
    let bodiless = head.framing() == Framing::Length(0);
    let response = response(exchange, head.status(), fields);
    let mut sending = body.respond.send_response(response, bodiless).ok()?;
    if bodiless {
        exchange.passed(&answer);
        answer.finish();
        return Some(());
    }
    let mut idle = IdleDeadline::new(answer.at, exchange.plan.plan.limits.idle_timeout);
    let mut passing = Passing { moved: false, waiting: Waiting::ForReplica };
    let passed = poll_fn(|context| {
        let polled = passing.poll(context, exchange, body, &mut sending, &mut answer);
        if polled.is_pending() {
            if std::mem::take(&mut passing.moved) {
                idle.extend();
            }
            return idle.poll(context, timer, &answer).map(|()| Err(Broken::Idle(passing.waiting)));
        }
        polled.map_err(Broken::from)
    })
    .await;
    match passed {
        Ok(()) => {
            exchange.passed(&answer);
            answer.finish();
        }
        Err(broken) => {
            broken::note(exchange, &mut answer, broken);
            sending.send_reset(Reason::INTERNAL_ERROR);
        }
    }
    Some(())
}

/// What of a replica's trailers the client gets; none where there is nothing.
fn trailers(answer: &mut Answer) -> Option<Box<Trailers>> {
    let trailers = answer.take_trailers()?;
    let head = answer.head();
    if head.value(Known::ContentType).is_some_and(is_grpc) {
        return grpc_metadata(&trailers);
    }
    let declared: Vec<&[u8]> = head.values(Known::Trailer).collect();
    passing_trailers(&trailers, declared.into_iter())
}

/// The metadata behind an answer in gRPC.
fn grpc_metadata(trailers: &Trailers) -> Option<Box<Trailers>> {
    let mut passing = Box::<Trailers>::default();
    for (_, name, value) in trailers.fields().filter(|(_, name, _)| may_pass_as_grpc_metadata(name)) {
        passing.append(name, value);
    }
    (passing.field_count() > 0).then_some(passing)
}

/// A body on its way from a replica to a client.
struct Passing {
    /// Whether anything moved since the last look.
    moved: bool,
    waiting: Waiting,
}

impl Passing {
    /// Passes on what there is of a body; ready when it has ended.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange,
        body: &mut Http2Body,
        sending: &mut SendStream<Bytes>,
        answer: &mut Answer,
    ) -> Poll<Result<(), BodyError>> {
        const GONE: BodyError = BodyError::Gone("the client reset the stream");
        loop {
            if sending.poll_reset(context).is_ready() {
                return Poll::Ready(Err(GONE));
            }
            let more = answer.poll_data(context, body);
            self.waiting = if more.is_pending() { Waiting::for_more_of(answer) } else { Waiting::ForClient };
            if !ready!(more)? {
                let ended = match trailers(answer) {
                    Some(trailers) => sending.send_trailers(trailers.to_http2()),
                    None => sending.send_data(Bytes::new(), true),
                };
                return Poll::Ready(ended.map_err(|_| GONE));
            }
            let wanted = answer.data().len().min(MAX_PIECE);
            sending.reserve_capacity(wanted);
            let Some(Ok(capacity)) = ready!(sending.poll_capacity(context)) else {
                return Poll::Ready(Err(GONE));
            };
            let size = capacity.min(wanted);
            let piece = Bytes::copy_from_slice(&answer.data()[..size]);
            answer.consume(size);
            exchange.bytes += size as u64;
            self.moved = true;
            // The end goes with the last piece where it is known, one frame less.
            let last = answer.has_all() && answer.data().is_empty() && !answer.may_have_trailers();
            sending.send_data(piece, last).map_err(|_| GONE)?;
            if last {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
