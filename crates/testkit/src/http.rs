//! A small HTTP/1.1 client that hides nothing: what is written is written as it stands, and the answer is kept whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::LIMIT;

/// One connection that is kept.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Request {
    head: String,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers as they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What stands behind the body, names in lower case.
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// A request with a Host and nothing else.
    pub fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n"), body: Vec::new() }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets an API key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        let length = self.body.len().to_string();
        self.header("content-type", "application/json").header("content-length", &length)
    }

    /// Sets a body of that media type.
    #[must_use]
    pub fn text(mut self, media_type: &str, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("content-type", media_type).header("content-length", &body.len().to_string())
    }

    /// Sends it over a connection of its own.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub fn send(self, address: SocketAddr) -> Answer {
        Client::connect(address).and_then(|mut client| client.send(&self)).expect("a whole answer")
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The machine's.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The machine's, and an answer that ends too early.
    pub fn send(&mut self, request: &Request) -> std::io::Result<Answer> {
        self.write(format!("{}\r\n", request.head).as_bytes())?;
        self.write(&request.body)?;
        // The answer to HEAD announces a body that does not come.
        if request.head.starts_with("HEAD ") { self.read_head() } else { self.read() }
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The machine's.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer, final ones only.
    ///
    /// # Errors
    /// The machine's, and an answer that ends too early or is not HTTP/1.1.
    pub fn read(&mut self) -> std::io::Result<Answer> {
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let mut answer = self.read_head()?;
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| broken("a chunk size"))?;
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk)?;
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return Ok(answer);
                }
            }
        }
        let length = answer.header("content-length").map_or(Ok(0), str::parse);
        answer.body = vec![0; length.map_err(|_| broken("content-length"))?];
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn read_head(&mut self) -> std::io::Result<Answer> {
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| broken(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if status == 100 {
            return self.read_head();
        }
        Ok(Answer { status, headers, body: Vec::new(), trailers: Vec::new() })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Answer {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first trailer of a name.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status and code of an error answer; panics when it is no problem document with a request id.
    ///
    /// # Panics
    /// When the answer is not what every error answer must be.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["requestId"].as_str(), self.header("x-request-id"), "{problem}");
        (self.status, problem["code"].as_str().expect("a problem has a code").to_owned())
    }
}
