//! A small HTTP/1.1 client: one request at a time on a kept connection. It understands announced lengths only.

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// A GET that is sent again and again.
pub(crate) fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n").into_bytes()
}

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Sends `request` and reads the whole answer: its status.
    ///
    /// # Errors
    ///
    /// The connection breaks, or the answer has no announced length.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        Ok(self.ask(request).await?.status)
    }

    /// The same, and how large the answer was.
    ///
    /// # Errors
    ///
    /// As [`Self::exchange`].
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let answer = loop {
            if filled == self.buffer.len() {
                bail!("the head of the answer is too long");
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("the connection was closed without an answer");
            }
            filled += read;
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
        };
        let length = answer.head_bytes + answer.body_bytes;
        let mut left = length.checked_sub(filled).context("more was answered than was asked for")?;
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the answer ended early");
            }
            left = left.checked_sub(read).context("more was answered than was asked for")?;
        }
        Ok(answer)
    }
}

/// What an answer's head says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head_bytes: usize,
    pub(crate) body_bytes: usize,
}

/// None until the head is whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.context("an answer without a status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without an announced length")?;
    let body_bytes = std::str::from_utf8(length.value)?.parse()?;
    Ok(Some(Answer { status, head_bytes, body_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_before_the_next_request() {
        let answers: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let mock = tokio::io::join(answers, Vec::new());
        let mut connection = Connection::new(mock);
        let answer = connection.ask(&get("/", "k")).await.unwrap();
        assert_eq!((answer.status, answer.body_bytes), (200, 2));
        assert!(connection.exchange(b"again").await.is_err());
    }
}
