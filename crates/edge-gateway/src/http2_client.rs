//! A client's connection in HTTP/2. The protocol itself is h2's; each stream is a request like any other.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode, header};
use http1::{Framing, Trailers, is_grpc};
use observability::{Http2Refused, Refused};
use service_router::{BodyError, RequestBody, Timer, Wire};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::FlowError;
use crate::client::Client;
use crate::drain_signal::Stage;
use crate::exchange::Exchange;
use crate::held::Held;
use crate::http1_client::passing_trailers;
use crate::http2_answer::{Dialect, send};
use crate::request_flow::{ClientBody, Flow, answer, refuse};
use crate::worker::Worker;

/// Requests of one connection at the same time.
const MAX_STREAMS: u32 = 100;
/// What a client may send on one stream before it is passed on.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What a client may send on all streams of a connection before it is passed on.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What waits in one stream to be sent.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that a client resets before they were accepted, and that this side resets for its errors: more end the connection.
const MAX_PENDING_RESETS: usize = 50;
const MAX_ERROR_RESETS: usize = 200;
/// Streams of a connection that the client reset before they were answered: so many, and more than half of all, end it
/// (CVE-2023-44487). A client that gives up many calls and waits for more is none that floods.
const MAX_UNANSWERED_RESETS: u64 = 1000;

/// Serves a connection until either side ends it, or until it is told to drain, after which open requests are finished.
pub(crate) async fn serve(worker: Rc<Worker>, wire: Wire, client: Rc<Client>) {
    let plan = worker.plan();
    let limits = &plan.plan.limits;
    let header_list = limits.header_bytes.as_usize() + limits.url_bytes.as_usize();
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .handshake::<_, Bytes>(wire);
    let mut connection = match timeout(limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return note(&worker, &error),
        Err(_) => return worker.shard.requests_refused.add_one(Refused::HeaderTimeout),
    };
    let (mut open, mut timer, mut resets) = (JoinSet::new(), Timer::new(Instant::now()), Resets::default());
    let mut draining = client.draining.listen();
    drop(plan);
    let (mut idle_since, mut told, mut drains) = (Instant::now(), None, false);
    loop {
        let next = poll_fn(|context| {
            if let Poll::Ready(Some(ended)) = open.poll_join_next(context) {
                return Poll::Ready(Event::Ended(ended.unwrap_or(StreamEnd::Answered)));
            }
            if let Poll::Ready(accepted) = connection.poll_accept(context) {
                return Poll::Ready(Event::Accepted(accepted));
            }
            if !drains && draining.poll_reached(context, Stage::Draining) {
                return Poll::Ready(Event::Drain);
            }
            // Asked for each time: the connection may live longer than the configuration that it began with.
            let deadline = told.map_or_else(
                || idle_since + worker.plan().plan.limits.idle_timeout,
                |told: Instant| told + GOODBYE,
            );
            let idle = open.is_empty() && timer.poll_reached(context, deadline);
            if idle { Poll::Ready(Event::Idle) } else { Poll::Pending }
        });
        match next.await {
            Event::Accepted(Some(Ok((request, respond)))) => {
                let served = stream(Rc::clone(&worker), Rc::clone(&client), request, respond);
                open.spawn_local(served);
            }
            Event::Accepted(Some(Err(error))) => return note(&worker, &error),
            Event::Accepted(None) => return,
            Event::Ended(end) => {
                idle_since = Instant::now();
                resets.count(end);
                if resets.are_a_flood() {
                    return calm(&worker, connection, timer).await;
                }
            }
            Event::Drain => {
                drains = true;
                connection.graceful_shutdown();
            }
            Event::Idle if told.is_none() => {
                worker.shard.requests_refused.add_one(Refused::IdleTimeout);
                connection.graceful_shutdown();
                told = Some(Instant::now());
            }
            Event::Idle => return,
        }
    }
}

/// How long a client that was told of the end may take to close its idle connection.
const GOODBYE: Duration = Duration::from_secs(1);

/// Ends a connection that floods, and all of its streams.
async fn calm(worker: &Worker, mut connection: Connection<Wire, Bytes>, mut timer: Timer) {
    worker.shard.http2_refused.add_one(Http2Refused::Flood);
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let closed = poll_fn(|context| connection.poll_closed(context));
    let _closed_or_too_late = timer.limit(Instant::now() + GOODBYE, closed).await;
}

/// A request, and where its answer goes.
type Opened = (Request<RecvStream>, SendResponse<Bytes>);

#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would be an allocation for each request"
)]
enum Event {
    Accepted(Option<Result<Opened, h2::Error>>),
    /// A stream ended.
    Ended(StreamEnd),
    Drain,
    Idle,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// With an answer, or with a part of one.
    Answered,
    /// The client took it back before.
    Reset,
}

/// The streams of a connection that have ended. h2 counts those alone that are reset before they were accepted.
#[derive(Debug, Default)]
struct Resets {
    ended: u64,
    reset: u64,
}

impl Resets {
    fn count(&mut self, end: StreamEnd) {
        self.ended += 1;
        self.reset += u64::from(end == StreamEnd::Reset);
    }

    fn are_a_flood(&self) -> bool {
        self.reset >= MAX_UNANSWERED_RESETS && self.reset > self.ended / 2
    }
}

/// Counts a connection that h2 ended. Which flood it was h2 does not say, and nothing at all of single streams it refuses.
fn note(worker: &Worker, error: &h2::Error) {
    match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) if error.is_library() => {
            worker.shard.http2_refused.add_one(Http2Refused::Flood);
        }
        Some(_) if error.is_library() => worker.shard.http2_refused.add_one(Http2Refused::Protocol),
        // The client's word, or the network's.
        _ => {}
    }
    tracing::debug!(%error, "a client's HTTP/2 connection ended with an error");
}

/// Handles one request.
async fn stream(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> StreamEnd {
    let (parts, receiving) = request.into_parts();
    let mut body = Http2Body::new(receiving, respond, &parts.headers);
    let plan = worker.plan();
    let mut head = worker.take_head();
    let origin = parts.uri.path_and_query().map_or("", |origin| origin.as_str());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    // What HTTP/1.1 calls by its length HTTP/2 ends by a flag, so a length that is missing is no error.
    let set =
        head.set_http2(&parts.method, authority, origin, &parts.headers, body.framing, &plan.head_limits);
    let kind = parts.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let dialect = match kind {
        _ if parts.method == Method::HEAD => Dialect::Head,
        Some(kind) if is_grpc(kind) => Dialect::Grpc,
        _ => Dialect::Plain,
    };
    let mut exchange = Exchange::begin(&worker, &client, head);
    let mut timer = worker.take_timer(exchange.began);
    let flow = match set {
        Ok(()) => answer(&mut exchange, &mut body, &mut timer, &mut client.draining.listen()).await,
        // Frames say where each request ends, so one that means nothing ends its stream alone.
        Err(fault) => {
            let error = FlowError::of_head(fault, &plan.plan.limits);
            Flow::Own(refuse(&mut exchange, &error))
        }
    };
    let end = send(&mut exchange, &mut body, &mut timer, flow, dialect).await;
    worker.give_back_timer(timer);
    end
}

/// The body of a request on its stream.
pub(crate) struct Http2Body {
    receiving: RecvStream,
    /// Where the answer goes; it also knows when the client does not want it any more.
    pub(crate) respond: SendResponse<Bytes>,
    chunk: Bytes,
    framing: Framing,
    remaining: u64,
    limit: u64,
    /// Whether the client waits to be told that its body is wanted (RFC 9110 section 10.1.1).
    waits: bool,
    declared: Vec<Vec<u8>>,
    trailers: Option<Box<Trailers>>,
    ended: bool,
    /// The body, where it was read whole.
    held: Option<Box<Held>>,
}

impl Http2Body {
    fn new(receiving: RecvStream, respond: SendResponse<Bytes>, fields: &http::HeaderMap) -> Self {
        let length = fields.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let framing = match length {
            _ if receiving.is_end_stream() => Framing::Length(0),
            // A length of zero before the end of the stream has come may be a lie, which h2 finds when data follows.
            Some(length @ 1..) => Framing::Length(length),
            Some(0) | None => Framing::Chunked,
        };
        let declared =
            fields.get_all(header::TRAILER).iter().map(|value| value.as_bytes().to_vec()).collect();
        let ended = receiving.is_end_stream();
        Self {
            receiving,
            respond,
            chunk: Bytes::new(),
            framing,
            remaining: 0,
            limit: 0,
            waits: !ended && fields.contains_key(header::EXPECT),
            declared,
            trailers: None,
            ended,
            held: None,
        }
    }
}

/// Why a body did not come whole: h2 itself ends a stream that is longer or shorter than was announced.
fn body_error(error: &h2::Error) -> BodyError {
    if error.is_library() {
        BodyError::Client("the client broke the protocol")
    } else {
        BodyError::Gone("the client reset the stream")
    }
}

impl RequestBody for Http2Body {
    fn framing(&self) -> Framing {
        self.held.as_ref().map_or(self.framing, |held| held.framing())
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        if let Some(held) = &self.held {
            return Poll::Ready(Ok(!held.rest().is_empty()));
        }
        while self.chunk.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(false));
            }
            if std::mem::take(&mut self.waits) {
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                self.respond.send_informational(go_on).map_err(|error| body_error(&error))?;
            }
            match ready!(self.receiving.poll_data(context)) {
                Some(chunk) => {
                    let chunk = chunk.map_err(|error| body_error(&error))?;
                    if chunk.len() as u64 > self.remaining {
                        return Poll::Ready(Err(BodyError::TooLarge(self.limit)));
                    }
                    self.chunk = chunk;
                }
                None => {
                    let trailers = ready!(self.receiving.poll_trailers(context));
                    let trailers = trailers.map_err(|error| body_error(&error))?;
                    let trailers = trailers.map(|fields| Trailers::of_http2(&fields)).transpose();
                    let trailers = trailers.map_err(|fault| BodyError::Client(fault.0))?;
                    let declared = self.declared.iter().map(Vec::as_slice);
                    self.trailers = trailers.and_then(|trailers| passing_trailers(&trailers, declared));
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    fn data(&self) -> &[u8] {
        match &self.held {
            Some(held) => held.rest(),
            None => &self.chunk,
        }
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            return held.consume(bytes);
        }
        let taken = self.chunk.split_to(bytes.min(self.chunk.len())).len();
        self.remaining = self.remaining.saturating_sub(taken as u64);
        let _the_stream_has_ended = self.receiving.flow_control().release_capacity(taken).is_err();
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(context).map(|_| ())
    }

    fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        if let Some(held) = &mut self.held {
            return held.take_trailers();
        }
        self.trailers.take()
    }
}

impl ClientBody for Http2Body {
    fn set_limit(&mut self, bytes: u64) {
        (self.limit, self.remaining) = (bytes, bytes);
    }

    fn held(&mut self) -> &mut Option<Box<Held>> {
        &mut self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_a_flood_when_they_are_many_and_most_of_all() {
        let mut resets = Resets::default();
        let mut count = |end, times| {
            (0..times).for_each(|_| resets.count(end));
            resets.are_a_flood()
        };
        assert!(!count(StreamEnd::Answered, 1500));
        assert!(!count(StreamEnd::Reset, 1500), "half of all");
        assert!(count(StreamEnd::Reset, 2));
        let mut resets = Resets::default();
        for number in 1..=MAX_UNANSWERED_RESETS {
            resets.count(StreamEnd::Reset);
            assert_eq!(resets.are_a_flood(), number == MAX_UNANSWERED_RESETS, "{number}");
        }
    }
}
