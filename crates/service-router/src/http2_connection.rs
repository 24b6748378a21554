//! Connections to a replica over HTTP/2, and the calls that they carry. The protocol itself is h2's.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use http1::{Framing, ResponseHead, Trailers};
use observability::ServiceShard;

use crate::answer::Open;
use crate::call::CallHead;
use crate::circuit::Permit;
use crate::http1_connection::{MAX_GRPC_TIMEOUT, SendError};
use crate::request_body::{BodyError, RequestBody};
use crate::upload::Upload;
use crate::wire::Wire;

/// What a replica may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What a replica may send on all streams of a connection before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The header fields of an answer.
const HEADER_LIST_BYTES: u32 = 128 << 10;
/// What waits in one stream to be sent.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// A connection that many calls share. Clones share it.
#[derive(Clone)]
pub(crate) struct Http2Connection {
    send: SendRequest<Bytes>,
    shared: Rc<Shared>,
}

struct Shared {
    calls: Cell<usize>,
    closed: Cell<bool>,
    /// When a call ended last, on the clock of idle connections.
    used: Cell<u32>,
}

/// One call on a connection.
pub(crate) struct Http2Call {
    stage: Stage,
    sending: Option<SendStream<Bytes>>,
    chunk: Bytes,
    pub(crate) head: Box<ResponseHead>,
    trailers: Option<Box<Trailers>>,
    #[expect(dead_code, reason = "held for its drop")]
    place: Place,
}

enum Stage {
    /// The connection may have as many streams as it may.
    Opening(SendRequest<Bytes>, Box<Request<()>>),
    Waiting(ResponseFuture),
    Answering(RecvStream),
    Ended,
}

/// A call among those of its connection.
struct Place(Rc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
    }
}

impl Http2Connection {
    /// Makes a connection of a socket. A task of this worker drives it until it ends.
    pub(crate) async fn new(wire: Wire, permit: Permit, shard: &Arc<ServiceShard>) -> Result<Self, String> {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .enable_push(false)
            .handshake(wire)
            .await;
        let (send, connection) = handshake.map_err(|error| error.to_string())?;
        let shared = Rc::new(Shared { calls: Cell::new(0), closed: Cell::new(false), used: Cell::new(0) });
        let (closing, open) = (Rc::clone(&shared), Open::new(shard));
        tokio::task::spawn_local(async move {
            let _how_it_ended_is_told_to_its_calls = connection.await.is_err();
            closing.closed.set(true);
            drop((permit, open));
        });
        Ok(Self { send, shared })
    }

    /// Whether another call can begin at once.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open() && self.shared.calls.get() < self.send.current_max_send_streams()
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.get()
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.shared.closed.get()
    }

    /// Whether it may go: it is closed, or nobody used it since the look before the last.
    pub(crate) fn is_idle_or_closed(&self, now: u32) -> bool {
        if self.shared.calls.get() > 0 {
            self.shared.used.set(now);
        }
        !self.is_open() || now.saturating_sub(self.shared.used.get()) >= 2
    }

    /// Begins a call.
    pub(crate) fn begin(
        &self,
        head: &impl CallHead,
        upload: &Upload,
        time_left_ms: u64,
        now: u32,
    ) -> Result<Http2Call, String> {
        let request = request(head, upload.framing(), time_left_ms).map_err(|error| error.to_string())?;
        self.shared.calls.set(self.shared.calls.get() + 1);
        self.shared.used.set(now);
        Ok(Http2Call {
            stage: Stage::Opening(self.send.clone(), Box::new(request)),
            sending: None,
            chunk: Bytes::new(),
            head: Box::default(),
            trailers: None,
            place: Place(Rc::clone(&self.shared)),
        })
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
        if let Stage::Opening(send, request) = &mut self.stage {
            ready!(send.poll_ready(context)).map_err(|error| SendError::NotSent(error.to_string()))?;
            let request = std::mem::take(&mut **request);
            let (response, sending) = send
                .send_request(request, upload.is_empty())
                .map_err(|error| SendError::NotSent(error.to_string()))?;
            self.sending = (!upload.is_empty()).then_some(sending);
            self.stage = Stage::Waiting(response);
        }
        if let Poll::Ready(Err(error)) = self.poll_send(context, upload, body) {
            return Poll::Ready(Err(SendError::Body(error)));
        }
        let Stage::Waiting(response) = &mut self.stage else {
            return Poll::Ready(Err(SendError::Protocol("it answered twice".into())));
        };
        let response =
            ready!(std::pin::Pin::new(response).poll(context)).map_err(|error| self.failed(&error))?;
        let (parts, recv) = response.into_parts();
        let length = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let framing = match length.and_then(|text| text.parse().ok()) {
            _ if recv.is_end_stream() || *method == Method::HEAD => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let set = self.head.set_http2(parts.status, &parts.headers, framing);
        set.map_err(|fault| SendError::Protocol(fault.to_string()))?;
        self.stage = Stage::Answering(recv);
        Poll::Ready(Ok(()))
    }

    /// A stream that the replica did not begin to process can be sent again (RFC 9113 section 8.7).
    fn failed(&self, error: &h2::Error) -> SendError {
        let unprocessed = error.reason() == Some(Reason::REFUSED_STREAM)
            || error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        if unprocessed { SendError::NotSent(error.to_string()) } else { SendError::Reset(error.to_string()) }
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

    /// Looks for data of the answer's body, and goes on sending the request's: true when [`Self::data`] has some.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<bool, BodyError>> {
        if let Poll::Ready(Err(error)) = self.poll_send(context, upload, body) {
            return Poll::Ready(Err(error));
        }
        loop {
            if !self.chunk.is_empty() {
                return Poll::Ready(Ok(true));
            }
            let Stage::Answering(recv) = &mut self.stage else { return Poll::Ready(Ok(false)) };
            match ready!(recv.poll_data(context)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Upstream(error.to_string()))),
                None => {
                    let trailers = ready!(recv.poll_trailers(context));
                    let trailers = trailers.map_err(|error| BodyError::Upstream(error.to_string()))?;
                    self.trailers = trailers.map(|fields| Box::new(Trailers::of_http2(&fields)));
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

    /// Whether anything of the call may have reached the replica.
    pub(crate) fn was_written(&self) -> bool {
        !matches!(self.stage, Stage::Opening(..))
    }
}

fn request(head: &impl CallHead, framing: Framing, time_left_ms: u64) -> Result<Request<()>, http::Error> {
    let (path, query) = head.target();
    let origin = [path, query].concat();
    let uri = Uri::builder().scheme("http").authority(head.host()).path_and_query(origin).build()?;
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
