//! The socket of a connection into the mesh. It is read and written by the worker whose connection it is, and ended by
//! whoever ends the peer, on any thread.
//!
//! The end goes through the kernel, which wakes the worker as it does when the other side ends a connection: nothing has to
//! be waited for, and nothing costs a call anything but one look at a flag that lies beside the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use service_registry::MeshConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::wire::{poll_send, receive};

/// The socket, as the one who uses it holds it.
#[derive(Debug)]
pub struct MeshSocket(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: TcpStream,
    cut: AtomicBool,
}

impl MeshSocket {
    /// A socket that can be ended by others.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared { stream, cut: AtomicBool::new(false) }))
    }

    /// What ends it.
    pub(crate) fn end(&self) -> Weak<dyn MeshConnection> {
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        shared
    }

    /// The socket, unless it was ended; what came before the end is of no use any more.
    fn stream(&self) -> io::Result<&TcpStream> {
        if self.0.cut.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its identity has ended"));
        }
        Ok(&self.0.stream)
    }
}

impl MeshConnection for Shared {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        let _ended_already = shutdown(&self.stream, Shutdown::Both).is_err();
    }
}

impl AsyncRead for MeshSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let stream = self.stream()?;
            ready!(stream.poll_read_ready(context))?;
            if let Some(bytes) = receive(stream, room.initialize_unfilled())? {
                room.advance(bytes);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for MeshSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(self.stream()?, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream()?;
        if let [only] = pieces {
            return poll_send(stream, context, only);
        }
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match shutdown(&self.0.stream, Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
