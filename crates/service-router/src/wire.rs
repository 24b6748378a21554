//! A socket with what was read from it and not yet used. It has a buffer only while something is in it, so that a connection
//! that idles costs next to nothing.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::uri::Scheme;
use http1::{Buffer, BufferPool};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::mesh_socket::MeshSocket;

/// A connection as it is, or under TLS.
#[derive(Debug)]
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS, as either side.
    Tls(Box<TlsStream<TcpStream>>),
    /// Under TLS, to a replica whose identity was found; it ends with that.
    Mesh(Box<TlsStream<MeshSocket>>),
}

impl Stream {
    /// How what is asked over it is named (RFC 9110 section 4.2).
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Plain(_) => Scheme::HTTP,
            Self::Tls(_) | Self::Mesh(_) => Scheme::HTTPS,
        }
    }
}

/// A socket and its read buffer.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    input: Buffer,
    pool: Rc<BufferPool>,
    /// Whether the last read left no room: much is coming, and a larger buffer saves system calls.
    was_full: bool,
}

impl Wire {
    /// A socket of which nothing was read.
    pub fn new(stream: Stream, pool: Rc<BufferPool>) -> Self {
        Self { stream, input: Buffer::default(), pool, was_full: false }
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What was read and not yet used.
    pub fn input(&mut self) -> &mut Buffer {
        &mut self.input
    }

    /// What was read and not yet used.
    pub fn peek(&self) -> &Buffer {
        &self.input
    }

    /// Reads more; 0 when the other side has ended its sending.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if let Stream::Plain(stream) = &self.stream {
                // Most often nothing is there yet, and then no buffer is needed either.
                match stream.poll_read_ready(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.nothing_yet(),
                }
            }
            self.make_room();
            let room = self.input.space();
            let size = room.len();
            let read = match &mut self.stream {
                Stream::Plain(stream) => match receive(stream, room)? {
                    Some(read) => read,
                    // It was not ready after all.
                    None => continue,
                },
                secured => {
                    let mut room = ReadBuf::new(room);
                    match Pin::new(secured).poll_read(context, &mut room)? {
                        Poll::Ready(()) => room.filled().len(),
                        Poll::Pending => return self.nothing_yet(),
                    }
                }
            };
            self.was_full = read == size;
            self.input.filled(read);
            return Poll::Ready(Ok(read));
        }
    }

    fn nothing_yet(&mut self) -> Poll<io::Result<usize>> {
        self.was_full = false;
        self.release();
        Poll::Pending
    }

    fn make_room(&mut self) {
        if self.input.capacity() == 0 {
            self.input = self.pool.take();
        }
        let grows = self.was_full && self.input.capacity() <= BufferPool::SMALL_BYTES;
        if self.input.space().is_empty() || grows {
            self.pool.enlarge(&mut self.input);
        }
    }

    /// Gives the buffer back where nothing is in it.
    pub fn release(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.pool.give_back(std::mem::take(&mut self.input));
        }
    }

    /// Writes; at least one byte unless there are none.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => poll_send(stream, context, bytes),
            secured => Pin::new(secured).poll_write(context, bytes),
        };
        written.map(written_something)
    }

    /// Writes two pieces in one system call.
    pub fn poll_write_both(
        &mut self,
        context: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pieces = [io::IoSlice::new(first), io::IoSlice::new(second)];
        Pin::new(&mut self.stream).poll_write_vectored(context, &pieces).map(written_something)
    }

    /// Under TLS, sends what was only encrypted so far.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            secured => Pin::new(secured).poll_flush(context),
        }
    }

    /// Ends the sending, so that the other side sees the end of what was sent.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Whether nothing has happened on a connection that nobody waits for: no end, and no bytes that nobody asked for.
    /// Without a system call while nothing has.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if !self.input.is_empty() {
            return false;
        }
        let mut byte = [0];
        match &mut self.stream {
            Stream::Plain(stream) => {
                matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            secured => {
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(secured).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}

/// Receives by the system call itself: the C library's is a cancellation point, which costs more than all of the rest on this
/// side of it. As tokio's own reading does, it takes a short read as a sign that nothing more is there. `None` when there
/// was nothing.
pub(crate) fn receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<Option<usize>> {
    let mut received = None;
    let tried = stream.try_io(Interest::READABLE, || {
        let (_, bytes) = rustix::net::recv(stream, &mut *room, RecvFlags::empty())?;
        received = Some(bytes);
        if bytes > 0 && bytes < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match tried {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(received),
    }
}

/// The same for sending.
pub(crate) fn poll_send(
    stream: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let mut sent = None;
        let tried = stream.try_io(Interest::WRITABLE, || {
            let taken = rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?;
            sent = Some(taken);
            if taken > 0 && taken < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (sent, tried) {
            (Some(taken), _) => return Poll::Ready(Ok(taken)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            (None, _) => {}
        }
    }
}

/// A socket that takes nothing of something will never take it.
fn written_something(written: io::Result<usize>) -> io::Result<usize> {
    written.and_then(|written| if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.input.is_empty() {
            wire.release();
            return Pin::new(&mut wire.stream).poll_read(context, room);
        }
        let taken = wire.input.data().len().min(room.remaining());
        room.put_slice(&wire.input.data()[..taken]);
        wire.input.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.stream, Stream::Plain(_))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, room),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, room),
            Self::Mesh(stream) => Pin::new(stream).poll_read(context, room),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Mesh(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Mesh(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Mesh(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Mesh(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
