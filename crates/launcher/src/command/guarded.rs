//! A connection that fails once it may not be used any more, whoever uses it by then.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read and written until something happens.
pub(super) struct Guarded<S> {
    stream: S,
    /// None once it has.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, until: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self { stream, until: Some(until) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(until) = &mut self.until {
            if until.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.until = None;
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "who is there is no longer trusted"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_it_is_woken_when_it_may_not_be_used_any_more() {
        let (mut near, far) = tokio::io::duplex(64);
        let (happens, happened) = oneshot::channel::<()>();
        let until = Box::pin(async {
            let _told = happened.await.is_ok();
        });
        let mut guarded = Guarded::new(far, until);
        near.write_all(b"x").await.unwrap();
        assert_eq!(guarded.read_u8().await.unwrap(), b'x');
        let waiting = tokio::spawn(async move {
            let failed = guarded.read_u8().await.unwrap_err().kind();
            (failed, guarded.write_u8(1).await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        happens.send(()).unwrap();
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(waiting.await.unwrap(), (aborted, aborted));
    }
}
