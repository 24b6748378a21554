//! A client's socket with the time limits of whatever is waited for: the next request, the rest of a head, or that the
//! client takes what it is sent.
//!
//! The limits are looked at only while the socket is not ready, and a timer is moved only when it fires, so that a request
//! pays for none of them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Head,
    /// Nothing: a request is being handled, and has limits of its own.
    Nothing,
}

/// How far a connection is; shared by its socket and its requests.
pub(crate) struct Progress {
    waiting: Cell<Waiting>,
    since: Cell<Instant>,
    requests: Cell<u64>,
}

impl Progress {
    pub(crate) fn new() -> Rc<Self> {
        let since = Cell::new(Instant::now());
        Rc::new(Self { waiting: Cell::new(Waiting::Request), since, requests: Cell::new(0) })
    }

    /// A head is complete.
    pub(crate) fn request_begins(&self) {
        self.waiting.set(Waiting::Nothing);
        self.requests.set(self.requests.get() + 1);
    }

    /// Its answer is on its way.
    pub(crate) fn request_ends(&self, now: Instant) {
        self.waiting.set(Waiting::Request);
        self.since.set(now);
    }

    /// Whether a request ever came.
    pub(crate) fn was_used(&self) -> bool {
        self.requests.get() > 0
    }
}

/// The limits of a client's socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IoLimits {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Between two requests, and while the client takes nothing.
    pub(crate) idle: Duration,
}

/// The socket.
pub(crate) struct ClientIo {
    io: TokioIo<TcpStream>,
    progress: Rc<Progress>,
    limits: IoLimits,
    reading: Pin<Box<Sleep>>,
    /// Whether `reading` was polled since it was last moved, and so wakes the connection's task.
    armed: bool,
    /// Runs only while the client takes nothing.
    writing: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, progress: Rc<Progress>, limits: IoLimits) -> Self {
        let reading = Box::pin(sleep_until(Instant::now() + limits.idle));
        Self { io: TokioIo::new(stream), progress, limits, reading, armed: false, writing: None }
    }

    /// An error once what is waited for did not come in time.
    fn poll_read_limit(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let limit = match self.progress.waiting.get() {
            Waiting::Request => self.limits.idle,
            Waiting::Head => self.limits.head,
            Waiting::Nothing => return Poll::Pending,
        };
        let deadline = self.progress.since.get() + limit;
        if self.reading.deadline() > deadline {
            self.reading.as_mut().reset(deadline);
        } else if self.armed && !self.reading.is_elapsed() {
            // It will wake this task, which is the same for the connection's whole life.
            return Poll::Pending;
        }
        self.armed = true;
        while self.reading.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client sent nothing in time",
                )));
            }
            self.reading.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Passes a write's outcome on, or an error once the client has taken nothing for too long.
    fn limit_write<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let deadline = Instant::now() + self.limits.idle;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        match timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing in time")))
            }
        }
    }
}

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if this.progress.waiting.get() == Waiting::Request {
                    this.progress.waiting.set(Waiting::Head);
                    this.progress.since.set(Instant::now());
                }
                Poll::Ready(read)
            }
            Poll::Pending => this.poll_read_limit(context),
        }
    }
}

impl Write for ClientIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.limit_write(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.limit_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(context);
        this.limit_write(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::rt::ReadBuf;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::pause;

    use super::*;

    const LIMITS: IoLimits = IoLimits { head: Duration::from_secs(10), idle: Duration::from_secs(300) };

    async fn pair() -> (TcpStream, ClientIo, Rc<Progress>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let progress = Progress::new();
        (client.unwrap(), ClientIo::new(accepted.unwrap().0, Rc::clone(&progress), LIMITS), progress)
    }

    async fn read(io: &mut ClientIo) -> io::Result<usize> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|context| Pin::new(&mut *io).poll_read(context, buffer.unfilled())).await?;
        Ok(buffer.filled().len())
    }

    #[tokio::test]
    async fn an_idle_connection_lives_longer_than_an_unfinished_head() {
        let (mut client, mut io, progress) = pair().await;
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(read(&mut io).await.unwrap(), 8);
        pause();
        let began = Instant::now();
        assert_eq!(read(&mut io).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10, "from the first byte of the head");
        progress.request_begins();
        progress.request_ends(Instant::now());
        let began = Instant::now();
        assert_eq!(read(&mut io).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 300, "from the end of the last request");
    }
}
