//! A whole connection, read and written with nothing but the crate. The fuzz targets use it too.

use http::Method;
use http1::{
    BodyDecoder, Buffer, Framing, HeadScan, LAST_CHUNK, Limits, RequestHead, Step, Version, parse_request,
    write_chunk_size, write_decimal, write_field,
};

/// Those of the gateway, but for a shorter target.
pub(crate) const LIMITS: Limits = Limits { head_bytes: 64 << 10, fields: 100, target_bytes: 1 << 10 };

/// Names in lower case and values, in their order.
pub(crate) type FieldList = Vec<(Vec<u8>, Vec<u8>)>;

/// A request that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) origin: Vec<u8>,
    pub(crate) host: Vec<u8>,
    /// Every field as it came.
    pub(crate) all_fields: FieldList,
    /// Those that belong to the message and do not frame it.
    pub(crate) fields: FieldList,
    pub(crate) framing: Framing,
    pub(crate) persists: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: FieldList,
}

/// Where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind a message.
    Clean,
    /// In the middle of one.
    Unfinished,
    /// What follows is no message.
    Refused,
}

/// Reads messages out of the pieces of one connection.
pub(crate) struct Reader {
    buffer: Buffer,
    state: State,
    messages: Vec<Message>,
}

enum State {
    Head(HeadScan),
    Body(BodyDecoder, Box<Message>),
    Refused,
    /// The last message was the last of the connection.
    Over,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: Buffer::default(), state: State::Head(HeadScan::default()), messages: Vec::new() }
    }
}

impl Reader {
    /// Takes what comes next.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.buffer.append(piece);
        while self.step() {}
    }

    /// What was read, and where that ended.
    pub(crate) fn finish(self) -> (Vec<Message>, End) {
        let end = match self.state {
            State::Refused => End::Refused,
            State::Over => End::Clean,
            State::Head(_) if self.buffer.is_empty() => End::Clean,
            State::Head(_) | State::Body(..) => End::Unfinished,
        };
        (self.messages, end)
    }

    /// Whether there is more to do with what has come.
    fn step(&mut self) -> bool {
        match &mut self.state {
            State::Refused | State::Over => false,
            State::Head(scan) => match scan.advance(self.buffer.data(), &LIMITS) {
                Ok(None) => false,
                Ok(Some(length)) => {
                    let mut head = RequestHead::default();
                    let parsed = parse_request(&self.buffer.data()[..length], &LIMITS, &mut head);
                    self.buffer.consume(length);
                    self.state = match parsed {
                        Ok(()) => State::Body(BodyDecoder::new(head.framing()), Box::new(message(&head))),
                        Err(_) => State::Refused,
                    };
                    true
                }
                Err(_) => {
                    self.state = State::Refused;
                    false
                }
            },
            State::Body(decoder, message) => match decoder.step(&mut self.buffer) {
                Ok(Step::More) => false,
                Ok(Step::Data) => {
                    let data = decoder.data(&self.buffer);
                    message.body.extend_from_slice(data);
                    let length = data.len();
                    decoder.consume(&mut self.buffer, length);
                    true
                }
                Ok(Step::End) => {
                    if let Some(trailers) = decoder.take_trailers() {
                        message.trailers = list(trailers.fields().map(|(_, name, value)| (name, value)));
                    }
                    let next = if message.persists { State::Head(HeadScan::default()) } else { State::Over };
                    if let State::Body(_, message) = std::mem::replace(&mut self.state, next) {
                        self.messages.push(*message);
                    }
                    true
                }
                Err(_) => {
                    self.state = State::Refused;
                    false
                }
            },
        }
    }
}

fn list<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> FieldList {
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

pub(crate) fn message(head: &RequestHead) -> Message {
    let frames = [&b"host"[..], b"content-length"];
    let own = head.fields().filter(|(field, ..)| !field.hop_by_hop).map(|(_, name, value)| (name, value));
    Message {
        method: head.method().clone(),
        version: head.version(),
        origin: head.origin().to_vec(),
        host: head.host().to_vec(),
        all_fields: list(head.fields().map(|(_, name, value)| (name, value))),
        fields: list(own.filter(|(name, _)| !frames.contains(&&name.to_ascii_lowercase()[..]))),
        framing: head.framing(),
        persists: head.persists(),
        body: Vec::new(),
        trailers: Vec::new(),
    }
}

/// Reads one connection that comes in one piece.
pub(crate) fn read(bytes: &[u8]) -> (Vec<Message>, End) {
    let mut reader = Reader::default();
    reader.feed(bytes);
    reader.finish()
}

/// Writes a message as the gateway sends it on: from what it means, and not from how it came.
pub(crate) fn write(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(message.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&message.origin);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, b"host", &message.host);
    for (name, value) in &message.fields {
        write_field(out, name, value);
    }
    match message.framing {
        Framing::Length(0) => out.extend_from_slice(b"\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(&message.body);
        }
        Framing::Chunked | Framing::UntilClose => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for piece in message.body.chunks(7) {
                write_chunk_size(out, piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            if message.trailers.is_empty() {
                out.extend_from_slice(LAST_CHUNK);
                return;
            }
            out.extend_from_slice(b"0\r\n");
            for (name, value) in &message.trailers {
                write_field(out, name, value);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Panics unless all messages, sent on, are read as the same messages.
pub(crate) fn assert_means_the_same_sent_on(messages: &[Message]) {
    let mut out = Vec::new();
    for message in messages {
        write(message, &mut out);
    }
    let (again, end) = read(&out);
    assert_eq!(end, End::Clean, "sent on as {}", out.escape_ascii());
    assert_eq!(again.len(), messages.len(), "sent on as {}", out.escape_ascii());
    for (message, again) in messages.iter().zip(again) {
        let meaning = |message: &Message| {
            let Message { method, origin, host, fields, framing, body, trailers, .. } = message.clone();
            (method, origin, host, fields, framing, body, trailers)
        };
        assert_eq!(meaning(&again), meaning(message), "sent on as {}", out.escape_ascii());
    }
}
