//! Where a body ends: by its length, by its chunks, or by the end of the connection (RFC 9112 section 6).

use crate::buffer::Buffer;
use crate::chunked::read_chunk_line;
use crate::error::BodyFault;
use crate::trailers::{Trailers, read_trailers};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; 0 where there is no body.
    Length(u64),
    /// In chunks, whose number is not known before.
    Chunked,
    /// Everything until the connection ends; only answers can have that.
    UntilClose,
}

/// What can be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Data is at hand, see [`BodyDecoder::data`].
    Data,
    /// More must be read first.
    More,
    /// The body is complete.
    End,
}

/// Reads one body out of a buffer that the connection fills.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Data at the start of the buffer that was not consumed yet.
    ready: usize,
    /// How many bytes may still stand around chunks.
    around_chunks: u64,
    trailers: Option<Box<Trailers>>,
}

/// What may stand around the chunks of a body beside what their data allows: 16 KiB.
const AROUND_CHUNKS_BYTES: u64 = 16 << 10;
/// What each byte of data allows more: enough for chunks of one byte, which take 5, and not for long extensions of many
/// small ones.
const AROUND_EACH_BYTE: u64 = 8;

/// What stands behind each chunk.
const CHUNK_END: &[u8] = b"\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are left that were not announced to be ready.
    Length(u64),
    /// The line before a chunk comes.
    ChunkLine,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk comes.
    ChunkEnd,
    Trailers,
    UntilClose,
    Ended,
}

impl BodyDecoder {
    /// A body that was not begun.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, ready: 0, around_chunks: AROUND_CHUNKS_BYTES, trailers: None }
    }

    /// Looks at what is in the buffer. Framing is consumed; data is left for whoever wants it.
    ///
    /// # Errors
    /// Framing that is malformed. Nothing can be read any more then.
    pub fn step(&mut self, buffer: &mut Buffer) -> Result<Step, BodyFault> {
        loop {
            if self.ready > 0 {
                return Ok(Step::Data);
            }
            let input = buffer.data();
            let available = input.len() as u64;
            match self.state {
                State::Ended => return Ok(Step::End),
                State::Length(_) | State::Chunk(_) | State::UntilClose if available == 0 => {
                    return Ok(Step::More);
                }
                State::Length(left) => {
                    let taken = left.min(available);
                    self.state = if left == taken { State::Ended } else { State::Length(left - taken) };
                    self.ready = taken as usize;
                }
                State::Chunk(left) => {
                    let taken = left.min(available);
                    self.state = if left == taken { State::ChunkEnd } else { State::Chunk(left - taken) };
                    self.ready = taken as usize;
                }
                State::UntilClose => self.ready = input.len(),
                State::ChunkLine => match read_chunk_line(input)? {
                    None => return Ok(Step::More),
                    Some((size, line)) => {
                        buffer.consume(line);
                        let allowed =
                            self.around_chunks.saturating_add(size.saturating_mul(AROUND_EACH_BYTE));
                        let left = allowed.checked_sub(line as u64 + CHUNK_END.len() as u64);
                        self.around_chunks = left.ok_or(BodyFault(
                            "its chunks have too little in them for what stands around them",
                        ))?;
                        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    }
                },
                State::ChunkEnd => match input {
                    [b'\r', b'\n', ..] => {
                        buffer.consume(CHUNK_END.len());
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => return Ok(Step::More),
                    _ => return Err(BodyFault("a chunk is longer than its size says")),
                },
                State::Trailers => match read_trailers(input)? {
                    None => return Ok(Step::More),
                    Some((trailers, length)) => {
                        buffer.consume(length);
                        self.trailers = (trailers.field_count() > 0).then(|| trailers.into());
                        self.state = State::Ended;
                    }
                },
            }
        }
    }

    /// The data at hand after [`Step::Data`].
    pub fn data<'a>(&self, buffer: &'a Buffer) -> &'a [u8] {
        &buffer.data()[..self.ready]
    }

    /// So many bytes of the data were used.
    pub fn consume(&mut self, buffer: &mut Buffer, bytes: usize) {
        let bytes = bytes.min(self.ready);
        buffer.consume(bytes);
        self.ready -= bytes;
    }

    /// The connection ended. Whatever is still in the buffer stays readable.
    ///
    /// # Errors
    /// The body is not complete.
    pub fn close(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::Ended => Ok(()),
            State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(BodyFault("the connection ended before the body did")),
        }
    }

    /// Whether all of it was consumed.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended && self.ready == 0
    }

    /// Whether nothing more has to be read, although data may be at hand.
    pub fn has_all(&self) -> bool {
        self.state == State::Ended
    }

    /// The trailers, once the body has ended.
    pub fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        self.trailers.take()
    }
}

#[cfg(test)]
mod tests;
