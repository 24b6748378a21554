//! One HTTP/1.1 connection to a replica, and the call that it carries.
//!
//! It is polled by the task of the client's connection, and by nobody while it idles.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode};
use http1::{
    BodyDecoder, Framing, HeadScan, LAST_CHUNK, Limits, ResponseHead, Step, parse_response, write_chunk_size,
    write_decimal, write_field,
};

use observability::ServiceShard;

use crate::answer::Open;
use crate::call::CallHead;
use crate::circuit::Permit;
use crate::request_body::{BodyError, RequestBody};
use crate::upload::Upload;
use crate::wire::Wire;

/// Limits of an answer's head: 128 KiB, 128 lines.
const HEAD: Limits = Limits { head_bytes: 128 << 10, fields: 128, target_bytes: 1024 };
/// Pieces of a body up to this size are written together with what stands before them: copying them costs less than another
/// system call.
const SMALL_PIECE: usize = 16 << 10;
/// Interim answers that are skipped before one that counts.
const MAX_INTERIM: u32 = 16;

/// A connection. What a call needs is kept for the next one.
#[derive(Debug)]
pub(crate) struct Http1Connection {
    wire: Wire,
    /// Whether it has carried a call before.
    pub(crate) reused: bool,
    out: Vec<u8>,
    /// How much of `out` is written.
    out_at: usize,
    /// Whether the kernel took anything of this call.
    written: bool,
    sending: Sending,
    scan: HeadScan,
    interim: u32,
    pub(crate) head: ResponseHead,
    decoder: BodyDecoder,
    /// Its place among those that the service may have.
    permit: Permit,
    open: Open,
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

impl Http1Connection {
    pub(crate) fn new(wire: Wire, permit: Permit, shard: &Arc<ServiceShard>) -> Self {
        Self {
            wire,
            reused: false,
            out: Vec::new(),
            out_at: 0,
            written: false,
            sending: Sending::Done,
            scan: HeadScan::default(),
            interim: 0,
            head: ResponseHead::default(),
            decoder: BodyDecoder::new(Framing::Length(0)),
            permit,
            open: Open::new(shard),
        }
    }

    /// Whether it can still be used, as far as is known.
    pub(crate) fn is_open(&mut self) -> bool {
        self.wire.is_quiet()
    }

    /// Whether the kernel took anything of the call.
    pub(crate) fn was_written(&self) -> bool {
        self.written
    }

    /// Puts the head of a call in front of everything.
    pub(crate) fn begin(&mut self, head: &impl CallHead, framing: Framing, time_left_ms: u64) {
        self.out.clear();
        (self.out_at, self.written, self.interim) = (0, false, 0);
        self.scan = HeadScan::default();
        self.sending = if framing == Framing::Length(0) { Sending::Done } else { Sending::Body };
        write_head(&mut self.out, head, framing, time_left_ms);
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
        if let Sending::Broken(reason) = &self.sending
            && !self.written
        {
            return Poll::Ready(Err(SendError::NotSent(reason.clone())));
        }
        loop {
            let found = self.scan.advance(self.wire.input().data(), &HEAD);
            if let Some(length) = found.map_err(|fault| SendError::Protocol(fault.to_string()))? {
                let input = self.wire.input();
                let parsed = parse_response(&input.data()[..length], method, &HEAD, &mut self.head);
                input.consume(length);
                parsed.map_err(|fault| SendError::Protocol(fault.to_string()))?;
                self.scan = HeadScan::default();
                if self.is_interim() {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Poll::Ready(Err(SendError::Protocol("it sent only interim answers".into())));
                    }
                    continue;
                }
                self.decoder = BodyDecoder::new(self.head.framing());
                return Poll::Ready(Ok(()));
            }
            match ready!(self.wire.poll_fill(context)) {
                Ok(0) => return Poll::Ready(Err(self.closed("it closed the connection".into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.closed(error.to_string()))),
            }
        }
    }

    fn is_interim(&self) -> bool {
        self.head.status().is_informational() && self.head.status() != StatusCode::SWITCHING_PROTOCOLS
    }

    fn closed(&self, reason: String) -> SendError {
        if self.written { SendError::Reset(reason) } else { SendError::NotSent(reason) }
    }

    /// Sends what there is to send. Ready when all is sent or nothing more is taken; an error only from the body.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), BodyError>> {
        loop {
            if self.sending == Sending::Body {
                self.take_small_piece(context, upload, body)?;
            }
            if let Err(error) = ready!(self.poll_write_out(context)) {
                self.sending = Sending::Broken(error.to_string());
            }
            if self.sending != Sending::Body {
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
            match ready!(self.wire.poll_write(context, upload.data(body))) {
                Ok(written) => upload.consume(body, written),
                Err(error) => self.sending = Sending::Broken(error.to_string()),
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
        if self.out_at > 0 || self.out.is_empty() || self.out.len() > SMALL_PIECE {
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
            write_chunk_size(&mut self.out, length);
            self.out.extend_from_slice(data);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.out.extend_from_slice(data);
        }
        upload.consume(body, length);
        if upload.has_ended() && upload.framing() != Framing::Chunked {
            self.sending = Sending::Done;
        }
    }

    fn end_body(&mut self, upload: &Upload) {
        self.sending = Sending::Done;
        if upload.framing() != Framing::Chunked {
            return;
        }
        match upload.trailers() {
            None => self.out.extend_from_slice(LAST_CHUNK),
            Some(trailers) => {
                self.out.extend_from_slice(b"0\r\n");
                for (_, name, value) in trailers.fields() {
                    write_field(&mut self.out, name, value);
                }
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.out_at < self.out.len() {
            self.out_at += ready!(self.wire.poll_write(context, &self.out[self.out_at..]))?;
            self.written = true;
        }
        if !self.out.is_empty() {
            self.out.clear();
            self.out_at = 0;
        }
        self.wire.poll_flush(context)
    }

    /// Looks for data of the answer's body, and goes on sending the request's: true when [`Self::data`] has some.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<bool, BodyError>> {
        if !matches!(self.sending, Sending::Broken(_))
            && let Poll::Ready(Err(error)) = self.poll_send(context, upload, body)
        {
            return Poll::Ready(Err(error));
        }
        let broken = |why: String| BodyError::Upstream(why);
        loop {
            match self.decoder.step(self.wire.input()).map_err(|fault| broken(fault.to_string()))? {
                Step::Data => return Poll::Ready(Ok(true)),
                Step::End => return Poll::Ready(Ok(false)),
                Step::More => match ready!(self.wire.poll_fill(context)) {
                    Ok(0) => self.decoder.close().map_err(|fault| broken(fault.to_string()))?,
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(broken(error.to_string()))),
                },
            }
        }
    }

    /// The data at hand.
    pub(crate) fn data(&self) -> &[u8] {
        self.decoder.data(self.wire.peek())
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.decoder.consume(self.wire.input(), bytes);
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Box<http1::Trailers>> {
        self.decoder.take_trailers()
    }

    /// Whether the data at hand is the last of the answer.
    pub(crate) fn has_all(&self) -> bool {
        self.decoder.has_all()
    }

    /// Whether the next call may use it: everything was sent and read, and nothing was left over that nobody asked for.
    pub(crate) fn is_reusable(&mut self) -> bool {
        let done = self.sending == Sending::Done && self.out.is_empty() && self.decoder.has_ended();
        let reusable = done && self.head.persists() && self.wire.input().is_empty();
        if reusable {
            self.wire.release();
        }
        reusable
    }

    /// The socket itself, once both sides speak another protocol.
    pub(crate) fn into_wire(self) -> (Wire, Permit, Open) {
        (self.wire, self.permit, self.open)
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
