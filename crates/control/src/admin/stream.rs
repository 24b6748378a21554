//! Answers that go on: event by event (the HTML standard, server-sent events), each made when the reader can take it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::server::told;

/// How long a stream is silent at most: a comment shows that it is there, and finds out whether its reader is.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Says that the admin API is to end, and streams with it.
#[derive(Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// Has something to tell now and then. Whoever gives up waiting has lost nothing.
pub(super) trait Tells: Send + 'static {
    /// The bytes of what is told next.
    fn next(&mut self) -> impl Future<Output = Bytes> + Send;
}

/// A stream of it, to the end of the admin API.
pub(super) fn answer(tells: impl Tells, stopping: Stopping, place: OwnedSemaphorePermit) -> Response {
    let stream = Stream { tells, stopping, silent_until: Instant::now() + HEARTBEAT, _place: place };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(Events(Box::pin(stream.next())))).into_response()
}

struct Stream<T> {
    tells: T,
    stopping: Stopping,
    silent_until: Instant,
    _place: OwnedSemaphorePermit,
}

impl<T: Tells> Stream<T> {
    /// What is written next, and what comes behind it.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let bytes = tokio::select! {
            biased;
            bytes = self.tells.next() => bytes,
            () = told(&mut self.stopping.0) => return None,
            () = sleep_until(self.silent_until) => Bytes::from_static(b": still here\n\n"),
        };
        self.silent_until = Instant::now() + HEARTBEAT;
        Some((bytes, self))
    }
}

/// What comes next, and the rest of the stream; nothing once it has ended.
type Next<T> = Option<(Bytes, Stream<T>)>;

/// The body of a stream: what is written next is made only when the connection has room for it.
struct Events<T>(Pin<Box<dyn Future<Output = Next<T>> + Send>>);

impl<T: Tells> hyper::body::Body for Events<T> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = ready!(self.0.as_mut().poll(context));
        Poll::Ready(next.map(|(bytes, stream)| {
            self.0 = Box::pin(stream.next());
            Ok(Frame::data(bytes))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::extract::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::server::connection;

    /// Always has something to tell.
    struct Talks;

    impl Tells for Talks {
        async fn next(&mut self) -> Bytes {
            Bytes::from_static(&[b'.'; 1024])
        }
    }

    /// Says how many places are left of one while a stream of it is open whose reader behaves like this.
    async fn with_reader(reads: impl AsyncFnOnce(&mut tokio::io::DuplexStream)) -> usize {
        let (stop, stopping) = watch::channel(false);
        let places = Arc::new(Semaphore::new(1));
        let free = Arc::clone(&places);
        let talk = move |Extension(stopping): Extension<Stopping>| {
            let place = Arc::clone(&places).try_acquire_owned().unwrap();
            async move { answer(Talks, stopping, place) }
        };
        let router = Router::new().route("/", get(talk)).layer(Extension(Stopping(stopping.clone())));
        let (mut reader, theirs) = duplex(4096);
        let serving = tokio::spawn(connection(theirs, router, stopping));
        reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        reads(&mut reader).await;
        let left = free.available_permits();
        stop.send_replace(true);
        drop(reader);
        serving.await.unwrap();
        left
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_gives_its_place_back_and_one_that_is_read_slowly_goes_on() {
        let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes));
        assert_eq!(with_reader(async |_| minutes(4).await).await, 0);
        assert_eq!(with_reader(async |_| minutes(6).await).await, 1);
        let slowly = async |reader: &mut tokio::io::DuplexStream| {
            for _ in 0..5 {
                minutes(4).await;
                reader.read_exact(&mut [0; 4096]).await.unwrap();
            }
        };
        assert_eq!(with_reader(slowly).await, 0);
    }
}
