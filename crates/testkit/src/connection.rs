//! One side of an HTTP/1.1 connection that hides nothing: the tests are the client of the gateway with it, and their
//! servers are what stands behind the gateway.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

use crate::{Answer, LIMIT};

/// A connection over TCP or TLS.
pub struct Connection<S> {
    stream: BufReader<S>,
}

/// The first line of a message and its fields, names in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Connection<TcpStream> {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true).expect("setting an option");
        stream.set_read_timeout(Some(LIMIT)).expect("setting an option");
        Self::over(stream)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl<S: Read + Write> Connection<S> {
    /// A connection over a stream of which nothing was read.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The machine's.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Reads some bytes, 0 at the end.
    ///
    /// # Errors
    /// The machine's.
    pub fn some(&mut self, room: &mut [u8]) -> Result<usize> {
        self.stream.read(room)
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// The machine's.
    pub fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        self.stream.read_exact(&mut read)?;
        Ok(read)
    }

    /// Reads everything until the other side ends.
    ///
    /// # Errors
    /// The machine's, a reset above all.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let mut read = Vec::new();
        self.stream.read_to_end(&mut read)?;
        Ok(read)
    }

    /// Reads the head of an answer, interim ones too.
    ///
    /// # Errors
    /// The machine's, and what is no head.
    pub fn answer_head(&mut self) -> Result<Answer> {
        let head = self.head()?;
        let status = head.line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&head.line))?;
        Ok(Answer { status, headers: head.headers, body: Vec::new(), trailers: Vec::new() })
    }

    /// Reads a whole final answer to a request of any method but HEAD.
    ///
    /// # Errors
    /// The machine's, and an answer that is not whole.
    pub fn answer(&mut self) -> Result<Answer> {
        let mut answer = self.answer_head()?;
        while answer.status < 200 {
            answer = self.answer_head()?;
        }
        match framing(&answer.headers, Framing::UntilClose)? {
            _ if matches!(answer.status, 204 | 304) => {}
            Framing::Length(length) => {
                answer.body = self.exactly(usize::try_from(length).expect("a size"))?;
            }
            Framing::UntilClose => answer.body = self.rest()?,
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    answer.body.extend_from_slice(&chunk);
                }
                answer.trailers = self.fields()?;
            }
        }
        Ok(answer)
    }

    /// Reads one chunk; `None` at the last, after which the trailers stand.
    ///
    /// # Errors
    /// The machine's, and what is no chunk.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| broken(&line))?;
        if size == 0 {
            return Ok(None);
        }
        let chunk = self.exactly(size)?;
        let end = self.exactly(2)?;
        if end == b"\r\n" { Ok(Some(chunk)) } else { Err(broken("the end of a chunk")) }
    }

    /// Reads fields until the empty line.
    ///
    /// # Errors
    /// The machine's, and what is no field.
    pub fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) fn head(&mut self) -> Result<Head> {
        Ok(Head { line: self.line()?, headers: self.fields()? })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(broken(&line)),
        }
    }
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// How the body behind these fields is delimited, and what it is where they say nothing.
pub(crate) fn framing(headers: &[(String, String)], otherwise: Framing) -> Result<Framing> {
    let value = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    match (value("content-length"), value("transfer-encoding")) {
        (None, None) => Ok(otherwise),
        (Some(length), None) => length.parse().map(Framing::Length).map_err(|_| broken(length)),
        (None, Some("chunked")) => Ok(Framing::Chunked),
        both => Err(broken(&format!("{both:?}"))),
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
