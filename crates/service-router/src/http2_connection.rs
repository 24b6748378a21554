//! Connections to a replica over HTTP/2, and the calls that they carry. The protocol itself is h2's.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use http1::{Framing, ResponseHead, Trailers};
use observability::ServiceShard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::answer::Open;
use crate::call::CallHead;
use crate::circuit::Permit;
use crate::http1_call::{MAX_GRPC_TIMEOUT, SendError};
use crate::request_body::{BodyError, RequestBody};
use crate::upload::Upload;
use crate::wire::Wire;

/// Calls that one connection carries at once: 256, where the replica takes as many.
const MAX_CALLS: u32 = 256;
/// The same while the replica has not said yet how many it takes; RFC 9113 section 6.5.2 asks for no fewer than 100.
const CALLS_BEFORE_SETTINGS: usize = 100;
/// What a replica may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What a replica may send on all streams of a connection before it is read: 16 MiB, which is what the calls may have on all
/// streams together, so that clients that do not read keep no other call waiting.
const CONNECTION_WINDOW_BYTES: u32 = MAX_CALLS * STREAM_WINDOW_BYTES;
/// The header fields of an answer.
const HEADER_LIST_BYTES: u32 = 128 << 10;
/// What waits in one stream to be sent.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// A connection that many calls share. Clones share it.
#[derive(Clone)]
pub(crate) struct Http2Connection {
    send: SendRequest<Bytes>,
    scheme: Scheme,
    shared: Rc<Shared>,
}

struct Shared {
    calls: Cell<usize>,
    /// Whether no further call may begin on it; those that have begun go on.
    retired: Cell<bool>,
    /// When a call ended last, on the clock of idle connections.
    used: Cell<u32>,
    /// How often something was read from the socket.
    reads: Cell<u64>,
    /// How often something was written to it.
    writes: Cell<u64>,
    /// Told when another call may find room.
    room: Rc<Notify>,
}

/// What a new connection begins with.
pub(crate) struct Start {
    /// Its place among those that the service may have.
    pub(crate) permit: Permit,
    /// How many calls the replica is expected to take at once, until it says so itself.
    pub(crate) calls: usize,
    /// Told when another call may find room.
    pub(crate) room: Rc<Notify>,
}

/// Why a call could not begin on a connection. Nothing was sent.
pub(crate) enum BeginError {
    /// The connection takes no further calls.
    Retired(String),
    /// The request cannot be written in HTTP/2.
    Request(String),
}

/// One call on a connection.
pub(crate) struct Http2Call {
    stage: Stage,
    sending: Option<SendStream<Bytes>>,
    chunk: Bytes,
    pub(crate) head: Box<ResponseHead>,
    trailers: Option<Box<Trailers>>,
    /// What the connection had read and written when the call began.
    began_at: (u64, u64),
    /// Last, so that the stream is gone when another call takes its place.
    place: Place,
}

enum Stage {
    Waiting(ResponseFuture),
    Answering(RecvStream),
    Ended,
}

/// A call among those of its connection.
struct Place(Rc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        self.0.room.notify_one();
    }
}

impl Http2Connection {
    /// Makes a connection of a socket, and what drives it until it ends.
    pub(crate) async fn new(
        wire: Wire,
        start: Start,
        shard: &Arc<ServiceShard>,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), String> {
        let Start { permit, calls, room } = start;
        let shared = Rc::new(Shared {
            calls: Cell::new(0),
            retired: Cell::new(false),
            used: Cell::new(0),
            reads: Cell::new(0),
            writes: Cell::new(0),
            room,
        });
        let scheme = wire.stream().scheme();
        let handshake = Builder::new()
            .initial_max_send_streams(calls)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .enable_push(false)
            .handshake(Watched { wire, shared: Rc::clone(&shared) })
            .await;
        let (send, connection) = handshake.map_err(|error| error.to_string())?;
        let (driven, open) = (Rc::clone(&shared), Open::new(shard));
        let driver = async move {
            drive(connection, &driven).await;
            driven.retired.set(true);
            drop((permit, open));
            driven.room.notify_one();
        };
        Ok((Self { send, scheme, shared }, driver))
    }

    /// How many calls the replica takes on a connection, as far as one of these has heard.
    pub(crate) fn calls_expected<'a>(connections: impl Iterator<Item = &'a Self>) -> usize {
        let allowed = connections.map(|connection| connection.send.current_max_send_streams()).min();
        allowed.map_or(CALLS_BEFORE_SETTINGS, |allowed| allowed.min(MAX_CALLS as usize))
    }

    /// Whether another call can begin at once, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        let most = self.send.current_max_send_streams().min(MAX_CALLS as usize);
        self.is_open() && self.shared.calls.get() < most
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.get()
    }

    /// Whether further calls may begin on it.
    pub(crate) fn is_open(&self) -> bool {
        !self.shared.retired.get()
    }

    /// Whether it may go: it is closed, or nobody used it since the look before the last.
    pub(crate) fn is_idle_or_closed(&self, now: u32) -> bool {
        if self.shared.calls.get() > 0 {
            self.shared.used.set(now);
        }
        !self.is_open() || now.saturating_sub(self.shared.used.get()) >= 2
    }

    /// Begins a call. A connection that takes no more is handed to no other call either.
    pub(crate) fn begin(
        &self,
        head: &impl CallHead,
        upload: &Upload,
        time_left_ms: u64,
        now: u32,
    ) -> Result<Http2Call, BeginError> {
        let request = request(head, self.scheme.clone(), upload.framing(), time_left_ms)
            .map_err(|error| BeginError::Request(error.to_string()))?;
        let mut send = self.send.clone();
        // What is asked for is whether the other side, or the numbering of streams, has ended the connection for new calls:
        // how many streams there may be is counted here, so it never waits.
        if let Poll::Ready(Err(error)) = send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.shared.retired.set(true);
            return Err(BeginError::Retired(error.to_string()));
        }
        let began_at = (self.shared.reads.get(), self.shared.writes.get());
        let (response, sending) = send
            .send_request(request, upload.is_empty())
            .map_err(|error| BeginError::Request(error.to_string()))?;
        self.shared.calls.set(self.shared.calls.get() + 1);
        self.shared.used.set(now);
        Ok(Http2Call {
            stage: Stage::Waiting(response),
            sending: (!upload.is_empty()).then_some(sending),
            chunk: Bytes::new(),
            head: Box::default(),
            trailers: None,
            began_at,
            place: Place(Rc::clone(&self.shared)),
        })
    }
}

/// Runs a connection, and tells waiting calls when the replica takes more than before.
async fn drive(mut connection: Connection<Watched>, shared: &Shared) {
    let mut most = connection.max_concurrent_send_streams();
    let ended = poll_fn(|context| {
        let polled = Pin::new(&mut connection).poll(context);
        let before = std::mem::replace(&mut most, connection.max_concurrent_send_streams());
        if most > before {
            shared.room.notify_one();
        }
        polled
    });
    let _how_it_ended_is_told_to_its_calls = ended.await.is_err();
}

/// The socket of a connection, and a note of what moves on it.
struct Watched {
    wire: Wire,
    shared: Rc<Shared>,
}

impl Watched {
    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = written {
            self.shared.writes.set(self.shared.writes.get() + 1);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        let before = room.filled().len();
        let polled = Pin::new(&mut watched.wire).poll_read(context, room);
        if room.filled().len() > before {
            watched.shared.reads.set(watched.shared.reads.get() + 1);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        // By the trait's method, since the socket's own takes nothing for an error.
        let written = AsyncWrite::poll_write(Pin::new(&mut watched.wire), context, bytes);
        watched.note_written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let written = Pin::new(&mut watched.wire).poll_write_vectored(context, pieces);
        watched.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().wire), context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.get_mut().wire), context)
    }
}

impl Http2Call {
    /// Sends, and waits for the head of the answer.
    pub(crate) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        method: &Method,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), SendError>> {
        if let Poll::Ready(Err(error)) = self.poll_send(context, upload, body) {
            return Poll::Ready(Err(SendError::Body(error)));
        }
        let Stage::Waiting(response) = &mut self.stage else {
            return Poll::Ready(Err(SendError::Protocol("it answered twice".into())));
        };
        let response = ready!(Pin::new(response).poll(context)).map_err(|error| self.failed(&error))?;
        let (parts, recv) = response.into_parts();
        let length = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced = match length.and_then(|text| text.parse().ok()) {
            _ if recv.is_end_stream() => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let set = self.head.set_http2(method, parts.status, &parts.headers, announced);
        set.map_err(|fault| SendError::Protocol(fault.to_string()))?;
        self.stage = Stage::Answering(recv);
        Poll::Ready(Ok(()))
    }

    /// What an error before the answer means. A stream that the replica did not begin to process was certainly not executed
    /// (RFC 9113 section 8.7), and nor was one of which nothing was written.
    fn failed(&self, error: &h2::Error) -> SendError {
        let (text, remote) = (error.to_string(), error.is_remote());
        if error.is_reset() {
            let refused = remote && error.reason() == Some(Reason::REFUSED_STREAM);
            return if refused { SendError::Declined(text) } else { SendError::StreamReset(text) };
        }
        let Shared { retired, writes, .. } = &*self.place.0;
        retired.set(true);
        if error.is_go_away() && remote && error.reason() == Some(Reason::NO_ERROR) {
            SendError::Declined(text)
        } else if writes.get() == self.began_at.1 {
            SendError::NotSent(text)
        } else {
            SendError::Reset(text)
        }
    }

    /// The call took too long. A connection on which nothing came since it began may have lost its other side, so no further
    /// call begins on it.
    pub(crate) fn timed_out(&self) {
        let Shared { retired, reads, .. } = &*self.place.0;
        if reads.get() == self.began_at.0 {
            retired.set(true);
        }
    }

    /// Sends what there is to send; an error only from the body.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), BodyError>> {
        loop {
            let Some(sending) = &mut self.sending else { return Poll::Ready(Ok(())) };
            if !ready!(upload.poll_data(context, body))? {
                let _ended_already = match upload.trailers() {
                    Some(trailers) => sending.send_trailers(trailers.to_http2()),
                    None => sending.send_data(Bytes::new(), true),
                };
                self.sending = None;
                return Poll::Ready(Ok(()));
            }
            let wanted = upload.data(body).len().min(SEND_BUFFER_BYTES);
            sending.reserve_capacity(wanted);
            let Some(Ok(capacity)) = ready!(sending.poll_capacity(context)) else {
                // The replica takes no more; its answer says why.
                self.sending = None;
                return Poll::Ready(Ok(()));
            };
            let size = capacity.min(wanted);
            let piece = Bytes::copy_from_slice(&upload.data(body)[..size]);
            upload.consume(body, size);
            if sending.send_data(piece, false).is_err() {
                self.sending = None;
            }
        }
    }

    /// Goes on sending the request's body while the answer passes; an error only from the body.
    pub(crate) fn send_on(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Result<(), BodyError> {
        match self.poll_send(context, upload, body) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Looks for data of the answer's body, and goes on sending the request's: true when [`Self::data`] has some.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<bool, BodyError>> {
        self.send_on(context, upload, body)?;
        loop {
            if !self.chunk.is_empty() {
                return Poll::Ready(Ok(true));
            }
            let Stage::Answering(recv) = &mut self.stage else { return Poll::Ready(Ok(false)) };
            match ready!(recv.poll_data(context)) {
                // What has no body for the client would be read as the beginning of its next answer.
                Some(Ok(chunk)) if !chunk.is_empty() && self.head.framing() == Framing::Length(0) => {
                    return Poll::Ready(Err(BodyError::Upstream(
                        "it sent a body where there is none".into(),
                    )));
                }
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Upstream(error.to_string()))),
                None => {
                    let trailers = ready!(recv.poll_trailers(context));
                    let trailers = trailers.map_err(|error| BodyError::Upstream(error.to_string()))?;
                    let trailers = trailers.map(|fields| Trailers::of_http2(&fields)).transpose();
                    let trailers = trailers.map_err(|fault| BodyError::Upstream(fault.to_string()))?;
                    self.trailers = trailers.map(Box::new);
                    self.stage = Stage::Ended;
                }
            }
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.chunk
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        drop(self.chunk.split_to(bytes.min(self.chunk.len())));
        if let Stage::Answering(recv) = &mut self.stage {
            let _the_stream_has_ended = recv.flow_control().release_capacity(bytes).is_err();
        }
    }

    pub(crate) fn has_all(&self) -> bool {
        match &self.stage {
            Stage::Answering(recv) => recv.is_end_stream(),
            _ => true,
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        self.trailers.take()
    }
}

fn request(
    head: &impl CallHead,
    scheme: Scheme,
    framing: Framing,
    time_left_ms: u64,
) -> Result<Request<()>, http::Error> {
    let (path, query) = head.target();
    let origin = [path, query].concat();
    let uri = Uri::builder().scheme(scheme).authority(head.host()).path_and_query(origin).build()?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) =
        (head.method().clone(), uri, Version::HTTP_2);
    let fields = request.headers_mut();
    head.each_field(&mut |name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    });
    fields.insert(http::header::TE, HeaderValue::from_static("trailers"));
    fields.insert("x-request-timeout", HeaderValue::try_from(format!("{time_left_ms}ms"))?);
    if head.has_grpc_timeout() {
        let timeout = format!("{}m", time_left_ms.min(MAX_GRPC_TIMEOUT));
        fields.insert("grpc-timeout", HeaderValue::try_from(timeout)?);
    }
    if let Framing::Length(length @ 1..) = framing {
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(request)
}
