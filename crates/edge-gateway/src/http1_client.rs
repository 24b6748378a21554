//! A client's connection in HTTP/1.1: its requests come in, answers go out. What a request leads to is not decided here.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http1::{
    BodyDecoder, BufferPool, Framing, HeadScan, RequestFault, RequestHead, Step, Trailers,
    may_pass_as_trailer, parse_request,
};
use observability::Refused;
use service_router::{BodyError, RequestBody, Timer, Wire};
use tokio::time::Instant;

use crate::answer::After;
use crate::client::Client;
use crate::drain_signal::{Listening, Stage};
use crate::held::Held;
use crate::http1_answer::{refuse_head, request};
use crate::request_flow::ClientBody;
use crate::worker::Worker;
use crate::{FlowError, http2_client, linger};

/// What HTTP/2 begins with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read ahead of a client whose answer is on its way.
const READ_AHEAD_BYTES: usize = BufferPool::SMALL_BYTES;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection.
pub(crate) struct Http1Client {
    pub(crate) wire: Wire,
    /// Bytes on their way to the client.
    pub(crate) out: Vec<u8>,
    /// How much of `out` is written.
    pub(crate) out_at: usize,
    decoder: BodyDecoder,
    framing: Framing,
    /// What the client may still send of a body, and what it might at first.
    remaining: u64,
    limit: u64,
    expectation: Expectation,
    /// The body, where it was read whole.
    held: Option<Box<Held>>,
    /// The names of the trailers that were declared.
    declared: Vec<u8>,
    /// Requests so far.
    pub(crate) requests: u64,
    /// When the last one ended.
    idle_since: Instant,
}

/// Whether the client waits to be told that its body is wanted (RFC 9110 section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    /// It waits, and this much of the word is written.
    Waits(usize),
}

/// What comes next on a connection.
pub(crate) enum Next {
    Request(Box<RequestHead>),
    /// A head that is refused.
    Refused(RequestFault),
    /// A head that did not come in time.
    Late,
    /// No head came for as long as a connection may idle.
    Idle,
    /// The client speaks HTTP/2.
    Http2,
    /// Nothing more.
    Closed,
}

impl Http1Client {
    pub(crate) fn new(wire: Wire, now: Instant) -> Self {
        Self {
            wire,
            out: Vec::new(),
            out_at: 0,
            decoder: BodyDecoder::new(Framing::Length(0)),
            framing: Framing::Length(0),
            remaining: 0,
            limit: 0,
            expectation: Expectation::None,
            held: None,
            declared: Vec::new(),
            requests: 0,
            idle_since: now,
        }
    }

    /// Waits for the next request. `draining` is heard only while nothing of one has come.
    pub(crate) async fn next(
        &mut self,
        worker: &Worker,
        timer: &mut Timer,
        draining: &mut Listening,
    ) -> Next {
        let (mut scan, mut began) = (HeadScan::default(), None);
        let mut last_chance = None;
        std::future::poll_fn(|context| {
            loop {
                if !self.wire.peek().is_empty()
                    && let Some(next) = self.look(worker, &mut scan)
                {
                    return Poll::Ready(next);
                }
                match self.wire.poll_fill(context) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
                    Poll::Pending => break,
                }
            }
            if began.is_none() && !self.wire.peek().is_empty() {
                began = Some(Instant::now());
            }
            // Asked for each time, so that a connection that idles keeps no configuration that was replaced.
            let plan = worker.plan();
            let limits = &plan.plan.limits;
            let deadline = match began {
                Some(began) => began + limits.header_timeout,
                None => last_chance.unwrap_or(self.idle_since + limits.idle_timeout),
            };
            if timer.poll_reached(context, deadline) {
                return Poll::Ready(match (began, last_chance) {
                    (Some(_), _) => Next::Late,
                    (None, None) => Next::Idle,
                    (None, Some(_)) => Next::Closed,
                });
            }
            if began.is_none() && last_chance.is_none() {
                let said = draining.poll_reached(context, Stage::Draining);
                let kept = match self.requests {
                    // Its first request may be on its way.
                    0 => draining.idle().max(FIRST_REQUEST),
                    _ => draining.idle(),
                };
                if said && kept.is_zero() {
                    return Poll::Ready(Next::Closed);
                }
                if said {
                    last_chance = Some(Instant::now() + kept);
                    context.waker().wake_by_ref();
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whether a head, or the beginning of HTTP/2, is whole.
    fn look(&mut self, worker: &Worker, scan: &mut HeadScan) -> Option<Next> {
        let plan = worker.plan();
        let data = self.wire.peek().data();
        if self.requests == 0 && data.starts_with(&HTTP2_PREFACE[..data.len().min(HTTP2_PREFACE.len())]) {
            return (data.len() >= HTTP2_PREFACE.len()).then_some(Next::Http2);
        }
        match scan.advance(data, &plan.head_limits) {
            Ok(None) => None,
            Ok(Some(length)) => {
                let mut head = worker.take_head();
                let parsed = parse_request(&data[..length], &plan.head_limits, &mut head);
                self.wire.input().consume(length);
                Some(match parsed {
                    Ok(()) => Next::Request(head),
                    Err(fault) => Next::Refused(fault),
                })
            }
            Err(fault) => Some(Next::Refused(fault)),
        }
    }

    /// A request's head has come: what follows is its body.
    pub(crate) fn begin(&mut self, head: &RequestHead) {
        self.requests += 1;
        self.framing = head.framing();
        self.decoder = BodyDecoder::new(self.framing);
        (self.limit, self.remaining) = (0, 0);
        self.held = None;
        self.declared.clear();
        if self.framing != Framing::Length(0) {
            let waits = head.has(http1::Known::Expect) && head.version() >= http1::Version::Http11;
            self.expectation = if waits { Expectation::Waits(0) } else { Expectation::None };
            for value in head.values(http1::Known::Trailer) {
                self.declared.extend_from_slice(value);
                self.declared.push(b',');
            }
        }
    }

    /// Whether the client waits for a word before it sends its body, and did not get it.
    pub(crate) fn waits_to_continue(&self) -> bool {
        self.expectation != Expectation::None
    }

    /// Whether what follows on the connection is another request.
    pub(crate) fn body_has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Uses up what of a body has come already and that nobody reads; whether it has ended with that.
    pub(crate) fn skip_body(&mut self) -> bool {
        loop {
            match self.decoder.step(self.wire.input()) {
                Ok(Step::Data) => {
                    let ready = self.decoder.data(self.wire.peek()).len();
                    self.decoder.consume(self.wire.input(), ready);
                }
                Ok(Step::End) => return true,
                Ok(Step::More) | Err(_) => return false,
            }
        }
    }

    /// A request is over: the connection idles from now on.
    pub(crate) fn end(&mut self, now: Instant) {
        self.idle_since = now;
        self.expectation = Expectation::None;
        self.held = None;
        self.wire.release();
    }

    /// Writes what is on its way to the client.
    pub(crate) fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.out_at < self.out.len() {
            self.out_at += ready!(self.wire.poll_write(context, &self.out[self.out_at..]))?;
        }
        self.out.clear();
        self.out_at = 0;
        self.wire.poll_flush(context)
    }

    fn poll_say_continue(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while let Expectation::Waits(written) = self.expectation {
            if written == CONTINUE.len() {
                ready!(self.wire.poll_flush(context))?;
                self.expectation = Expectation::None;
                break;
            }
            let more = ready!(self.wire.poll_write(context, &CONTINUE[written..]))?;
            self.expectation = Expectation::Waits(written + more);
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a connection that never carried a request is waited for once the gateway drains.
const FIRST_REQUEST: std::time::Duration = std::time::Duration::from_secs(1);

impl RequestBody for Http1Client {
    fn framing(&self) -> Framing {
        self.held.as_ref().map_or(self.framing, |held| held.framing())
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        if let Some(held) = &self.held {
            return Poll::Ready(Ok(!held.rest().is_empty()));
        }
        let gone = BodyError::Gone("the client went away");
        if self.expectation != Expectation::None && ready!(self.poll_say_continue(context)).is_err() {
            return Poll::Ready(Err(gone));
        }
        loop {
            match self.decoder.step(self.wire.input()) {
                Err(fault) => return Poll::Ready(Err(BodyError::Client(fault.0))),
                Ok(Step::End) => return Poll::Ready(Ok(false)),
                Ok(Step::Data) => {
                    let ready = self.decoder.data(self.wire.peek()).len() as u64;
                    if ready > self.remaining {
                        return Poll::Ready(Err(BodyError::TooLarge(self.limit)));
                    }
                    return Poll::Ready(Ok(true));
                }
                Ok(Step::More) => match ready!(self.wire.poll_fill(context)) {
                    Ok(1..) => {}
                    Ok(0) => {
                        return Poll::Ready(Err(BodyError::Gone("the connection ended before the body did")));
                    }
                    Err(_) => return Poll::Ready(Err(gone)),
                },
            }
        }
    }

    fn data(&self) -> &[u8] {
        match &self.held {
            Some(held) => held.rest(),
            None => self.decoder.data(self.wire.peek()),
        }
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            return held.consume(bytes);
        }
        self.remaining = self.remaining.saturating_sub(bytes as u64);
        self.decoder.consume(self.wire.input(), bytes);
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The end can stand behind the next request, which stays in the buffer for its turn. A client that sends more than
        // that ahead is not watched any more, since nothing bounds what would have to be kept.
        while self.wire.peek().data().len() < READ_AHEAD_BYTES {
            match ready!(self.wire.poll_fill(context)) {
                Ok(1..) => {}
                // A client that ends its sending alone cannot be told from one that went away, and few would want the
                // answer then: as for nginx and Envoy, it is gone.
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        if let Some(held) = &mut self.held {
            return held.take_trailers();
        }
        let trailers = self.decoder.take_trailers()?;
        passing_trailers(&trailers, [&self.declared[..]].into_iter())
    }
}

/// The trailers that may be passed on; none where none may.
pub(crate) fn passing_trailers<'a>(
    trailers: &Trailers,
    declared: impl Iterator<Item = &'a [u8]> + Clone,
) -> Option<Box<Trailers>> {
    let mut passing = Trailers::default();
    for (_, name, value) in trailers.fields() {
        if may_pass_as_trailer(name, declared.clone()) {
            passing.append(name, value);
        }
    }
    (passing.field_count() > 0).then(|| Box::new(passing))
}

impl ClientBody for Http1Client {
    fn set_limit(&mut self, bytes: u64) {
        (self.limit, self.remaining) = (bytes, bytes);
    }

    fn held(&mut self) -> &mut Option<Box<Held>> {
        &mut self.held
    }
}

/// Serves a connection until either side ends it, or until it is told to drain, after which the open request is finished.
pub(crate) async fn serve(worker: Rc<Worker>, wire: Wire, client: Rc<Client>) {
    let now = Instant::now();
    let (mut connection, mut timer) = (Http1Client::new(wire, now), Timer::new(now));
    let mut draining = client.draining.listen();
    loop {
        match connection.next(&worker, &mut timer, &mut draining).await {
            Next::Closed => return,
            Next::Idle => return worker.shard.requests_refused.add_one(Refused::IdleTimeout),
            Next::Http2 => {
                return Box::pin(http2_client::serve(worker, connection.wire, client)).await;
            }
            Next::Request(head) => {
                // Boxed, since the state of a request is large and the connection's is all that an idle one costs.
                let handled = request(&worker, &client, &mut connection, (&mut timer, &mut draining), head);
                match Box::pin(handled).await {
                    After::Open => connection.end(client.last_ended.get()),
                    After::Close => break,
                    After::BreakOff => return linger::break_off(connection),
                }
            }
            Next::Refused(fault) => {
                let error = FlowError::of_head(fault, &worker.plan().plan.limits);
                break Box::pin(refuse_head(&worker, &client, &mut connection, &mut timer, error)).await;
            }
            Next::Late => {
                let error = FlowError::HeadTimeout;
                break Box::pin(refuse_head(&worker, &client, &mut connection, &mut timer, error)).await;
            }
        }
    }
    Box::pin(linger::close(connection, timer)).await;
}
