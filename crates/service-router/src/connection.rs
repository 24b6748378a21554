//! One HTTP/1.1 connection to a replica. This file and [`crate::body`] are all that knows which HTTP library is used.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use observability::{ServiceIndex, WorkerShard};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::RequestBody;
use crate::body::BodyError;
use crate::limit::Limit;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Header lines of an answer.
const MAX_HEADERS: usize = 128;
/// The read buffer's limit, and with it the limit of an answer's head.
const MAX_BUFFER_BYTES: usize = 128 << 10;

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    /// Whether it has carried a call before.
    pub(crate) reused: bool,
    /// The time limit of the call that it carries. It stays with the connection, since moving a timer that runs costs a
    /// fraction of starting one, and a timer inside of a call's future would align all of it to cache lines.
    timer: Pin<Box<Sleep>>,
}

/// Why a call over a connection failed.
pub(crate) enum SendError {
    /// Not a byte was written; here is the request back.
    NotSent(Box<Request<RequestBody>>),
    /// The connection ended before the answer's head, after something was written.
    Reset(String),
    /// The request's body failed.
    Body(BodyError),
    /// No head of an answer within the limit.
    TimedOut,
}

impl Connection {
    /// Connects to a replica. The gauge of open connections follows the connection's own task, not its handle.
    pub(crate) async fn open(
        address: SocketAddr,
        shard: Rc<WorkerShardOfService>,
    ) -> Result<Self, io::Error> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s"))??;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            // Most messages are small, and gathering head and body costs the kernel more than copying them together.
            .writev(false)
            .max_buf_size(MAX_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            shard.gauge().add_one();
            let _how_it_ended_is_told_to_the_call = connection.await;
            shard.gauge().take_one();
        });
        Ok(Self { sender, reused: false, timer: Box::pin(sleep_until(Instant::now())) })
    }

    /// Whether it can still be used, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer, until the limit is reached.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        limit: Limit<'_>,
    ) -> Result<Response<Incoming>, SendError> {
        let Self { sender, timer, .. } = self;
        match limit.run(timer.as_mut(), exchange(sender, request)).await {
            Some(exchanged) => exchanged,
            None => Err(SendError::TimedOut),
        }
    }
}

async fn exchange(
    sender: &mut SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, SendError> {
    if sender.ready().await.is_err() {
        return Err(SendError::NotSent(Box::new(request)));
    }
    sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        Some(request) => SendError::NotSent(Box::new(request)),
        None => {
            let error = error.into_error();
            body_error(&error).map_or_else(|| SendError::Reset(error.to_string()), SendError::Body)
        }
    })
}

/// Whether a connection failed for want of room on this machine: descriptors, ports or memory. That says nothing of whom it
/// was to lead to.
pub(crate) fn is_local(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    wants.iter().any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}

/// The request's body reports its failures through the library, which wraps them.
fn body_error(error: &hyper::Error) -> Option<BodyError> {
    std::error::Error::source(error)?.downcast_ref::<BodyError>().copied()
}

/// Where the connections of one service are counted.
pub(crate) struct WorkerShardOfService {
    pub(crate) shard: std::sync::Arc<WorkerShard>,
    pub(crate) service: ServiceIndex,
}

impl WorkerShardOfService {
    fn gauge(&self) -> &observability::Gauge {
        &self.shard.service(self.service).connections
    }
}
