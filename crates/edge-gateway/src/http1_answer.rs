//! Answers on their way to a client in HTTP/1.1.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode};
use http1::{
    Framing, Known, LAST_CHUNK, RequestHead, Version, write_chunk_size, write_decimal, write_field,
    write_status_line,
};
use observability::Refused;
use service_router::{Answer, BodyError, RequestBody, Timer};
use tokio::time::Instant;
use types::headers::REQUEST_ID;

use crate::FlowError;
use crate::answer::{After, OwnAnswer};
use crate::broken::{self, Broken, Waiting};
use crate::client::Client;
use crate::drain_signal::{Listening, Stage};
use crate::exchange::Exchange;
use crate::forward::answer_passes;
use crate::http1_client::{Http1Client, passing_trailers};
use crate::idle::IdleDeadline;
use crate::rate_limit::write_fields;
use crate::request_flow::{Flow, answer, refuse};
use crate::tunnel::{self, Ended};
use crate::worker::Worker;

/// Pieces of a body up to this size are written together with what stands before them: copying them costs less than another
/// system call.
const SMALL_PIECE: usize = 16 << 10;
/// What is collected before it is written.
const MAX_COLLECTED: usize = 64 << 10;

/// Handles one request; what becomes of the connection.
pub(crate) async fn request(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    connection: &mut Http1Client,
    (timer, draining): (&mut Timer, &mut Listening),
    head: Box<RequestHead>,
) -> After {
    connection.begin(&head);
    let mut exchange = Exchange::begin(worker, client, head);
    connection.out = worker.take_out();
    let flow = answer(&mut exchange, connection, timer, draining).await;
    let after = match flow {
        Flow::Own(own) => send_own(&mut exchange, connection, timer, own).await,
        Flow::Upstream(answer) if answer.head().status() == StatusCode::SWITCHING_PROTOCOLS => {
            switch(&mut exchange, connection, timer, *answer).await;
            After::Close
        }
        Flow::Gone => After::BreakOff,
        Flow::Upstream(answer) => send_answer(&mut exchange, connection, timer, *answer).await,
    };
    worker.give_back_out(std::mem::take(&mut connection.out));
    after
}

/// Answers a head that is none, or that never became one.
pub(crate) async fn refuse_head(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    connection: &mut Http1Client,
    timer: &mut Timer,
    error: FlowError,
) {
    let mut exchange = Exchange::begin(worker, client, Box::default());
    connection.out = worker.take_out();
    let own = refuse(&mut exchange, &error);
    send_own(&mut exchange, connection, timer, OwnAnswer { connection: After::Close, ..own }).await;
    worker.give_back_out(std::mem::take(&mut connection.out));
}

async fn send_own(
    exchange: &mut Exchange,
    connection: &mut Http1Client,
    timer: &mut Timer,
    own: OwnAnswer,
) -> After {
    let persists =
        own.connection == After::Open && may_persist(exchange, connection) && connection.skip_body();
    let after = if persists { After::Open } else { After::Close };
    let out = &mut connection.out;
    write_status_line(out, own.status);
    write_field(out, b"content-type", own.content_type.as_bytes());
    for (name, value) in &own.fields {
        write_field(out, name.as_bytes(), value.as_bytes());
    }
    write_fields(exchange, out);
    write_field(out, REQUEST_ID.as_bytes(), exchange.request_id.as_bytes());
    write_length(out, own.body.len() as u64);
    write_end_of_head(out, exchange, after);
    if *exchange.head.method() != Method::HEAD {
        out.extend_from_slice(&own.body);
        exchange.bytes = own.body.len() as u64;
    }
    let written = write_out(exchange, connection, timer).await;
    if written.is_some() { after } else { After::Close }
}

/// Writes what is at hand whole; `None` when the client is gone, or took too long.
async fn write_out(exchange: &Exchange, connection: &mut Http1Client, timer: &mut Timer) -> Option<()> {
    let deadline = Instant::now() + exchange.plan.plan.limits.idle_timeout;
    let written = poll_fn(|context| connection.poll_write_out(context));
    let in_time = timer.limit(deadline, written).await;
    if in_time.is_none() {
        exchange.worker.shard.requests_refused.add_one(Refused::IdleTimeout);
    }
    in_time?.ok()
}

fn may_persist(exchange: &Exchange, connection: &Http1Client) -> bool {
    exchange.head.persists()
        && !exchange.client.draining.has_reached(Stage::Draining)
        && !connection.waits_to_continue()
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn write_end_of_head(out: &mut Vec<u8>, exchange: &Exchange, after: After) {
    if after != After::Open {
        out.extend_from_slice(b"connection: close\r\n");
    } else if exchange.head.version() == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a replica's answer; how its body is delimited for the client, and whether the connection persists.
fn write_head(exchange: &Exchange, connection: &mut Http1Client, answer: &Answer) -> (Framing, After) {
    let head = answer.head();
    let bodiless = head.framing() == Framing::Length(0);
    let framing = match head.framing() {
        Framing::Length(length) => Framing::Length(length),
        Framing::Chunked | Framing::UntilClose if exchange.head.version() >= Version::Http11 => {
            Framing::Chunked
        }
        Framing::Chunked | Framing::UntilClose => Framing::UntilClose,
    };
    // What has come of a body that is still on its way to the replica belongs to the replica.
    let whole = connection.body_has_ended();
    let persists = may_persist(exchange, connection) && whole && framing != Framing::UntilClose;
    let after = if persists { After::Open } else { After::Close };
    let out = &mut connection.out;
    write_status_line(out, head.status());
    for (field, name, value) in head.fields() {
        if answer_passes(exchange, field) {
            write_field(out, name, value);
        }
    }
    write_fields(exchange, out);
    write_field(out, REQUEST_ID.as_bytes(), exchange.request_id.as_bytes());
    match framing {
        Framing::Length(length) if !bodiless => write_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // An answer to HEAD, or that nothing has changed, says how long the body would be; one without content must not say
        // anything of it (RFC 9110 section 8.6).
        _ => match head.announced_length() {
            _ if head.status() == StatusCode::NO_CONTENT => {}
            Some(length) => write_field(out, b"content-length", length),
            None if head.status() == StatusCode::NOT_MODIFIED => {}
            None if *exchange.head.method() == Method::HEAD || framing == Framing::UntilClose => {}
            None => write_length(out, 0),
        },
    }
    write_end_of_head(out, exchange, after);
    (framing, after)
}

/// Passes a replica's answer on.
async fn send_answer(
    exchange: &mut Exchange,
    connection: &mut Http1Client,
    timer: &mut Timer,
    mut answer: Answer,
) -> After {
    let (framing, after) = write_head(exchange, connection, &answer);
    let mut passing = Passing { framing, ended: false, moved: false, waiting: Waiting::ForReplica };
    let mut idle = IdleDeadline::new(answer.at, exchange.plan.plan.limits.idle_timeout);
    let passed = poll_fn(|context| {
        let polled = passing.poll(context, exchange, connection, &mut answer);
        if polled.is_pending() {
            // Once all of the answer is here, there is no call any more that could be ended.
            if !passing.ended && connection.poll_gone(context).is_ready() {
                return Poll::Ready(Err(BodyError::Gone("the client went away").into()));
            }
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
            if connection.body_has_ended() { after } else { After::Close }
        }
        Err(broken) => {
            broken::note(exchange, &mut answer, broken);
            After::BreakOff
        }
    }
}

/// A body on its way from a replica to a client.
struct Passing {
    framing: Framing,
    ended: bool,
    /// Whether anything moved since the last look.
    moved: bool,
    waiting: Waiting,
}

impl Passing {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange,
        connection: &mut Http1Client,
        answer: &mut Answer,
    ) -> Poll<Result<(), BodyError>> {
        let gone = |_| BodyError::Gone("the client went away");
        loop {
            self.waiting = Waiting::ForClient;
            let mut starved = false;
            if !self.ended && connection.out.len() >= MAX_COLLECTED {
                if let Err(error) = answer.send_on(context, connection) {
                    return as_far_as_it_goes(context, connection, error);
                }
            } else if !self.ended {
                match answer.poll_data(context, connection) {
                    Poll::Pending => starved = true,
                    Poll::Ready(Err(error)) => return as_far_as_it_goes(context, connection, error),
                    Poll::Ready(Ok(false)) => self.end(connection, answer),
                    Poll::Ready(Ok(true)) => {
                        let length = answer.data().len();
                        if length <= SMALL_PIECE || self.framing == Framing::Chunked {
                            exchange.bytes += length as u64;
                            self.collect(connection, answer);
                            self.moved = true;
                            // The end, or more that is there already, goes with it.
                            if answer.has_all() || connection.out.len() < SMALL_PIECE {
                                continue;
                            }
                        } else {
                            let written = ready!(write_large(context, connection, answer)).map_err(gone)?;
                            exchange.bytes += written as u64;
                            self.moved = true;
                            continue;
                        }
                    }
                }
            }
            let (before, something) = (connection.out_at, connection.out_at < connection.out.len());
            let written = connection.poll_write_out(context).map_err(gone)?;
            // Where there is nothing to write, nothing moves.
            self.moved |= something && written.is_ready() || connection.out_at > before;
            ready!(written);
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if starved {
                self.waiting = Waiting::for_more_of(answer);
                return Poll::Pending;
            }
        }
    }

    fn collect(&self, connection: &mut Http1Client, answer: &mut Answer) {
        let data = answer.data();
        let length = data.len();
        if self.framing == Framing::Chunked {
            write_chunk_size(&mut connection.out, length);
            connection.out.extend_from_slice(data);
            connection.out.extend_from_slice(b"\r\n");
        } else {
            connection.out.extend_from_slice(data);
        }
        answer.consume(length);
    }

    fn end(&mut self, connection: &mut Http1Client, answer: &mut Answer) {
        self.ended = true;
        if self.framing != Framing::Chunked {
            return;
        }
        let trailers = answer.take_trailers();
        let declared = answer.head().values(Known::Trailer);
        let passing = trailers
            .and_then(|trailers| passing_trailers(&trailers, declared.collect::<Vec<_>>().into_iter()));
        match passing {
            None => connection.out.extend_from_slice(LAST_CHUNK),
            Some(trailers) => {
                connection.out.extend_from_slice(b"0\r\n");
                for (_, name, value) in trailers.fields() {
                    write_field(&mut connection.out, name, value);
                }
                connection.out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Breaks an answer off. What has come of it is the client's, as far as it takes it at once.
fn as_far_as_it_goes(
    context: &mut Context<'_>,
    connection: &mut Http1Client,
    error: BodyError,
) -> Poll<Result<(), BodyError>> {
    let _written = connection.poll_write_out(context);
    Poll::Ready(Err(error))
}

/// Writes a large piece as it lies in the replica's buffer, behind what is to be written before it.
fn write_large(
    context: &mut Context<'_>,
    connection: &mut Http1Client,
    answer: &mut Answer,
) -> Poll<std::io::Result<usize>> {
    let before = connection.out.len() - connection.out_at;
    let written = if before == 0 {
        ready!(connection.wire.poll_write(context, answer.data()))?
    } else {
        let out = &connection.out[connection.out_at..];
        ready!(connection.wire.poll_write_both(context, out, answer.data()))?
    };
    let of_out = written.min(before);
    connection.out_at += of_out;
    if connection.out_at == connection.out.len() {
        connection.out.clear();
        connection.out_at = 0;
    }
    answer.consume(written - of_out);
    Poll::Ready(Ok(written - of_out))
}

/// Both sides change the protocol: the head is passed on, and then bytes in both directions.
async fn switch(exchange: &mut Exchange, connection: &mut Http1Client, timer: &mut Timer, answer: Answer) {
    let out = &mut connection.out;
    write_status_line(out, StatusCode::SWITCHING_PROTOCOLS);
    for (field, name, value) in answer.head().fields() {
        if answer_passes(exchange, field) {
            write_field(out, name, value);
        }
    }
    write_fields(exchange, out);
    write_field(out, REQUEST_ID.as_bytes(), exchange.request_id.as_bytes());
    out.extend_from_slice(b"connection: upgrade\r\n");
    if let Some(protocol) = answer.head().value(Known::Upgrade) {
        write_field(out, b"upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
    if write_out(exchange, connection, timer).await.is_none() {
        return;
    }
    let Some((mut upstream, _counted)) = answer.into_tunnel() else { return };
    let idle = exchange.plan.plan.limits.idle_timeout;
    let (bytes, ended) = tunnel::run(&mut connection.wire, &mut upstream, timer, idle).await;
    exchange.bytes = bytes;
    if ended == Ended::Idle {
        exchange.worker.shard.requests_refused.add_one(Refused::IdleTimeout);
    }
}
