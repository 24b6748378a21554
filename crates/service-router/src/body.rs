//! Bodies on their way through: streamed with back-pressure, never collected.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use crate::connection::Connection;
use crate::endpoint::{Endpoint, Pending};

/// Why a body could not be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The client sends more than the route allows.
    #[error("the request body is over the limit")]
    TooLarge,
    /// The client stopped sending.
    #[error("the client stopped sending")]
    Client,
    /// The replica stopped sending.
    #[error("the replica stopped sending")]
    Upstream,
    /// Nothing moved for the idle timeout.
    #[error("nothing was sent for the idle timeout")]
    Idle,
}

/// The body of a call.
pub enum RequestBody {
    /// None.
    Empty,
    /// Held in memory, so that it can be sent again; `None` once sent.
    Whole(Option<Bytes>),
    /// Passed on as it comes.
    Stream(StreamedBody),
}

/// A request body that is passed on as it comes.
pub struct StreamedBody {
    incoming: Incoming,
    remaining: u64,
    progress: Rc<Progress>,
}

/// How far a streamed request body has come; the request's timeout pauses while it moves.
pub(crate) struct Progress {
    last: Cell<Instant>,
    ended: Cell<bool>,
    /// Whether the replica would take more than the client has sent.
    starved: Cell<bool>,
}

impl Progress {
    /// Whether all of it was passed on.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether the client is who is waited for.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.starved.get()
    }

    /// When it last moved.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }
}

impl StreamedBody {
    /// Passes on at most `limit` bytes.
    pub fn new(incoming: Incoming, limit: u64) -> Self {
        let progress =
            Progress { last: Cell::new(Instant::now()), ended: Cell::default(), starved: Cell::default() };
        Self { incoming, remaining: limit, progress: Rc::new(progress) }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        self.progress.starved.set(polled.is_pending());
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        self.progress.last.set(Instant::now());
        let frame = match frame {
            None => {
                self.progress.ended.set(true);
                return Poll::Ready(None);
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Client))),
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        Poll::Ready(Some(match self.remaining.checked_sub(length) {
            Some(remaining) => {
                self.remaining = remaining;
                // A body of a known length is not asked again once it has it.
                self.progress.ended.set(self.incoming.is_end_stream());
                Ok(frame)
            }
            None => Err(BodyError::TooLarge),
        }))
    }
}

impl RequestBody {
    /// The same body once more, where it can be sent once more.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(_) => None,
        }
    }

    pub(crate) fn progress(&self) -> Option<Rc<Progress>> {
        match self {
            Self::Stream(body) => Some(Rc::clone(&body.progress)),
            Self::Empty | Self::Whole(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(body) => body.incoming.size_hint(),
        }
    }
}

/// The body of a replica's answer. When it ends the connection goes back to the pool; dropped before, it closes the
/// connection, which cancels the call.
pub struct UpstreamBody {
    incoming: Incoming,
    connection: Option<Connection>,
    /// The request's body, which may still be on its way.
    request: Option<Rc<Progress>>,
    endpoint: Rc<Endpoint>,
    idle_timeout: Duration,
    /// Runs only while nothing comes.
    idle: Option<Pin<Box<Sleep>>>,
    _pending: Pending,
}

impl UpstreamBody {
    pub(crate) fn new(
        incoming: Incoming,
        connection: Connection,
        request: Option<Rc<Progress>>,
        endpoint: Rc<Endpoint>,
        pending: Pending,
        idle_timeout: Duration,
    ) -> Self {
        let connection = Some(connection);
        Self { incoming, connection, request, endpoint, idle_timeout, idle: None, _pending: pending }
    }

    /// A replica may answer before it has the whole request; that connection still carries the rest and is of no use to
    /// others.
    fn give_back(&mut self) {
        let whole = self.request.as_ref().is_none_or(|request| request.has_ended());
        if let Some(connection) = self.connection.take().filter(|_| whole) {
            self.endpoint.give_back(connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        match Pin::new(&mut body.incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                body.idle = None;
                match frame {
                    None => {
                        body.give_back();
                        Poll::Ready(None)
                    }
                    Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                    Some(Err(_)) => {
                        body.connection = None;
                        Poll::Ready(Some(Err(BodyError::Upstream)))
                    }
                }
            }
            Poll::Pending => {
                let timeout = body.idle_timeout;
                let idle = body.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                match idle.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        body.connection = None;
                        Poll::Ready(Some(Err(BodyError::Idle)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // An answer whose end is known without asking (none, or of a length that was reached) is not asked again.
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }
}
