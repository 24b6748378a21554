//! One call over a connection of HTTP/1.1: its head and body are sent, and the answer to it is read.
//!
//! It is polled by the task of the client's connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode};
use http1::{
    BodyDecoder, Framing, HeadScan, LAST_CHUNK, Limits, ResponseHead, Step, parse_response, write_chunk_size,
    write_decimal, write_field,
};

use crate::call::CallHead;
use crate::http1_connection::Http1Connection;
use crate::request_body::{BodyError, RequestBody};
use crate::upload::Upload;

/// Limits of an answer's head: 128 KiB, 128 lines.
const HEAD: Limits = Limits { head_bytes: 128 << 10, fields: 128, target_bytes: 1024 };
/// Pieces of a body up to this size are written together with what stands before them: copying them costs less than another
/// system call.
const SMALL_PIECE: usize = 16 << 10;
/// Interim answers that are skipped before one that counts.
const MAX_INTERIM: u32 = 16;

/// Messages of a worker that no call has at the moment: 256 of them.
const KEPT: usize = 256;
/// What a kept message takes for either head at the most: 16 KiB.
const KEPT_BYTES: usize = 16 << 10;

/// A call, which has the connection for itself.
#[derive(Debug)]
pub(crate) struct Http1Call {
    connection: Box<Http1Connection>,
    message: Box<Message>,
    messages: Rc<Messages>,
}

/// What a call needs room for, and how far it is.
#[derive(Debug)]
struct Message {
    /// To be sent.
    out: Vec<u8>,
    /// How much of that is written.
    out_at: usize,
    /// Whether the kernel took anything of this call.
    written: bool,
    sending: Sending,
    scan: HeadScan,
    interim: u32,
    /// Of the answer.
    head: ResponseHead,
    decoder: BodyDecoder,
}

/// The messages of one worker that no call has at the moment. The next call has the room of the one that ended last,
/// whichever connections they have: that room is in the core's caches, where that of a connection which idled is not.
#[derive(Debug, Default)]
pub(crate) struct Messages(
    #[expect(clippy::vec_box, reason = "a call keeps its box over all that it does, and moves often")]
    RefCell<Vec<Box<Message>>>,
);

impl Messages {
    fn take(&self) -> Box<Message> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back(&self, message: Box<Message>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT && message.out.capacity().max(message.head.capacity()) <= KEPT_BYTES {
            kept.push(message);
        }
    }
}

impl Message {
    /// Another call begins, with a body of this kind.
    fn begin(&mut self, framing: Framing) {
        self.out.clear();
        (self.out_at, self.written, self.interim) = (0, false, 0);
        self.sending = if framing == Framing::Length(0) { Sending::Done } else { Sending::Body };
        (self.scan, self.decoder) = (HeadScan::default(), BodyDecoder::new(Framing::Length(0)));
    }
}

impl Default for Message {
    fn default() -> Self {
        Self {
            out: Vec::new(),
            out_at: 0,
            written: false,
            sending: Sending::Done,
            scan: HeadScan::default(),
            interim: 0,
            head: ResponseHead::default(),
            decoder: BodyDecoder::new(Framing::Length(0)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sending {
    Body,
    Done,
    /// The replica takes no more; it may have answered all the same.
    Broken(String),
}

/// Why a call over a connection failed before the head of the answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Not a byte was written.
    NotSent(String),
    /// The replica says that it did not begin to process it.
    Declined(String),
    /// The connection ended after something was written.
    Reset(String),
    /// The replica ended the call alone; the connection goes on.
    StreamReset(String),
    /// What came is no answer.
    Protocol(String),
    /// The request's body failed.
    Body(BodyError),
    /// The client has gone away.
    Cancelled,
}

impl Http1Call {
    /// Puts a call in front of a connection.
    pub(crate) fn new(
        connection: Box<Http1Connection>,
        messages: &Rc<Messages>,
        head: &impl CallHead,
        framing: Framing,
        time_left_ms: u64,
    ) -> Self {
        let mut message = messages.take();
        message.begin(framing);
        write_head(&mut message.out, head, framing, time_left_ms);
        Self { connection, message, messages: Rc::clone(messages) }
    }

    /// The head of the answer, once it has come.
    pub(crate) fn head(&self) -> &ResponseHead {
        &self.message.head
    }

    /// Whether the kernel took anything of the call.
    pub(crate) fn was_written(&self) -> bool {
        self.message.written
    }

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
        if let Sending::Broken(reason) = &self.message.sending
            && !self.message.written
        {
            return Poll::Ready(Err(SendError::NotSent(reason.clone())));
        }
        loop {
            let found = self.message.scan.advance(self.connection.wire.input().data(), &HEAD);
            if let Some(length) = found.map_err(|fault| SendError::Protocol(fault.to_string()))? {
                let input = self.connection.wire.input();
                let parsed = parse_response(&input.data()[..length], method, &HEAD, &mut self.message.head);
                input.consume(length);
                parsed.map_err(|fault| SendError::Protocol(fault.to_string()))?;
                self.message.scan = HeadScan::default();
                if self.is_interim() {
                    self.message.interim += 1;
                    if self.message.interim > MAX_INTERIM {
                        return Poll::Ready(Err(SendError::Protocol("it sent only interim answers".into())));
                    }
                    continue;
                }
                self.message.decoder = BodyDecoder::new(self.message.head.framing());
                return Poll::Ready(Ok(()));
            }
            match ready!(self.connection.wire.poll_fill(context)) {
                Ok(0) => return Poll::Ready(Err(self.closed("it closed the connection".into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.closed(error.to_string()))),
            }
        }
    }

    fn is_interim(&self) -> bool {
        self.message.head.status().is_informational()
            && self.message.head.status() != StatusCode::SWITCHING_PROTOCOLS
    }

    fn closed(&self, reason: String) -> SendError {
        if self.message.written { SendError::Reset(reason) } else { SendError::NotSent(reason) }
    }

    /// Sends what there is to send. Ready when all is sent or nothing more is taken; an error only from the body.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), BodyError>> {
        loop {
            if self.message.sending == Sending::Body {
                self.take_small_piece(context, upload, body)?;
            }
            if let Err(error) = ready!(self.poll_write_out(context)) {
                self.message.sending = Sending::Broken(error.to_string());
            }
            if self.message.sending != Sending::Body {
                return Poll::Ready(Ok(()));
            }
            if !ready!(upload.poll_data(context, body))? {
                self.end_body(upload);
                continue;
            }
            if upload.data(body).len() <= SMALL_PIECE || upload.framing() == Framing::Chunked {
                self.take_piece(upload, body);
                continue;
            }
            match ready!(self.connection.wire.poll_write(context, upload.data(body))) {
                Ok(written) => upload.consume(body, written),
                Err(error) => self.message.sending = Sending::Broken(error.to_string()),
            }
        }
    }

    /// A small body leaves in one piece with the head.
    fn take_small_piece(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Result<(), BodyError> {
        if self.message.out_at > 0 || self.message.out.is_empty() || self.message.out.len() > SMALL_PIECE {
            return Ok(());
        }
        match upload.poll_data(context, body) {
            Poll::Ready(Ok(true)) if upload.data(body).len() <= SMALL_PIECE => self.take_piece(upload, body),
            Poll::Ready(Ok(false)) => self.end_body(upload),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(true)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn take_piece(&mut self, upload: &mut Upload, body: &mut impl RequestBody) {
        let data = upload.data(body);
        let length = data.len();
        if upload.framing() == Framing::Chunked {
            write_chunk_size(&mut self.message.out, length);
            self.message.out.extend_from_slice(data);
            self.message.out.extend_from_slice(b"\r\n");
        } else {
            self.message.out.extend_from_slice(data);
        }
        upload.consume(body, length);
        if upload.has_ended() && upload.framing() != Framing::Chunked {
            self.message.sending = Sending::Done;
        }
    }

    fn end_body(&mut self, upload: &Upload) {
        self.message.sending = Sending::Done;
        if upload.framing() != Framing::Chunked {
            return;
        }
        match upload.trailers() {
            None => self.message.out.extend_from_slice(LAST_CHUNK),
            Some(trailers) => {
                self.message.out.extend_from_slice(b"0\r\n");
                for (_, name, value) in trailers.fields() {
                    write_field(&mut self.message.out, name, value);
                }
                self.message.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.message.out_at < self.message.out.len() {
            self.message.out_at +=
                ready!(self.connection.wire.poll_write(context, &self.message.out[self.message.out_at..]))?;
            self.message.written = true;
        }
        if !self.message.out.is_empty() {
            self.message.out.clear();
            self.message.out_at = 0;
        }
        self.connection.wire.poll_flush(context)
    }

    /// Goes on sending the request's body while the answer passes; an error only from the body.
    pub(crate) fn send_on(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Result<(), BodyError> {
        if matches!(self.message.sending, Sending::Broken(_)) {
            return Ok(());
        }
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
        let broken = |why: String| BodyError::Upstream(why);
        loop {
            match self
                .message
                .decoder
                .step(self.connection.wire.input())
                .map_err(|fault| broken(fault.to_string()))?
            {
                Step::Data => return Poll::Ready(Ok(true)),
                Step::End => return Poll::Ready(Ok(false)),
                Step::More => match ready!(self.connection.wire.poll_fill(context)) {
                    Ok(0) => self.message.decoder.close().map_err(|fault| broken(fault.to_string()))?,
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(broken(error.to_string()))),
                },
            }
        }
    }

    /// The data at hand.
    pub(crate) fn data(&self) -> &[u8] {
        self.message.decoder.data(self.connection.wire.peek())
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.message.decoder.consume(self.connection.wire.input(), bytes);
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Box<http1::Trailers>> {
        self.message.decoder.take_trailers()
    }

    /// Whether the data at hand is the last of the answer.
    pub(crate) fn has_all(&self) -> bool {
        self.message.decoder.has_all()
    }

    /// Ends the call. The connection is for the next one when everything was sent and read, and nothing was left over that
    /// nobody asked for.
    pub(crate) fn end(self) -> Option<Box<Http1Connection>> {
        let Self { mut connection, message, messages } = self;
        let done = message.sending == Sending::Done && message.out.is_empty() && message.decoder.has_ended();
        let reusable = done && message.head.persists();
        messages.give_back(message);
        (reusable && connection.rest()).then_some(connection)
    }

    /// The connection itself, once both sides speak another protocol.
    pub(crate) fn into_connection(self) -> Box<Http1Connection> {
        self.connection
    }
}

fn write_head(out: &mut Vec<u8>, head: &impl CallHead, framing: Framing, time_left_ms: u64) {
    let (path, query) = head.target();
    out.extend_from_slice(head.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path);
    out.extend_from_slice(query);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, b"host", head.host());
    head.write_fields(out);
    out.extend_from_slice(b"x-request-timeout: ");
    write_decimal(out, time_left_ms);
    out.extend_from_slice(b"ms\r\n");
    if head.has_grpc_timeout() {
        out.extend_from_slice(b"grpc-timeout: ");
        write_decimal(out, time_left_ms.min(MAX_GRPC_TIMEOUT));
        out.extend_from_slice(b"m\r\n");
    }
    match framing {
        // A method that usually has a body says that it has none (RFC 9110 section 8.6).
        Framing::Length(0) if matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::Length(0) => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked | Framing::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(upgrade) = head.upgrade() {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_field(out, b"upgrade", upgrade.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// gRPC's timeouts have at most eight digits.
pub(crate) const MAX_GRPC_TIMEOUT: u64 = 99_999_999;
