//! Connections to whatever answers in the end, the command or a replica of another service, and requests over them.
//!
//! A connection by HTTP/1.1 has one request at a time and is kept for the next; one by HTTP/2 has all of them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sdk::{Body, Protocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections that wait for a request.
const MAX_IDLE: usize = 256;
/// How long a connection may have waited to be used again. Servers close theirs after a while, the hastiest after two
/// seconds, and a request that meets the close is lost.
const FRESH: Duration = Duration::from_secs(1);
/// What an answer's head may be.
const MAX_HEADERS: usize = 1024;
const MAX_HEAD_BYTES: usize = 1 << 20;
const MAX_HTTP2_HEAD_BYTES: u32 = 1 << 20;

/// What a connection is read from and written to.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The bytes of a connection.
pub(super) type Stream = Box<dyn Io>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A connection, and until when it may be used.
pub(super) struct Connected {
    pub(super) stream: Stream,
    pub(super) until: Boxed<()>,
}

/// Makes a connection, or says why there is none.
pub(super) type Connector = Box<dyn Fn() -> Boxed<Result<Connected, String>> + Send + Sync>;

/// Where requests go.
pub(super) struct Upstream {
    protocol: Protocol,
    connector: Connector,
    /// The longest idle first.
    idle: Mutex<Vec<Idle>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
    /// Drives each connection.
    drivers: Mutex<JoinSet<()>>,
}

struct Idle {
    since: Instant,
    sender: http1::SendRequest<Body>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum SendError {
    /// There is no connection. Nothing of the request was sent, and here it is again.
    NotConnected(String, Box<Request<Body>>),
    /// It failed on the way. It may have been executed.
    Failed(hyper::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(reason, _) => formatter.write_str(reason),
            Self::Failed(error) => {
                error.fmt(formatter)?;
                let cause = std::error::Error::source(error);
                cause.map_or(Ok(()), |cause| write!(formatter, ": {cause}"))
            }
        }
    }
}

/// A try over a connection that was there already.
enum Reused {
    Answered(Response<Body>),
    Failed(hyper::Error),
    /// It closed before anything was sent, or there is none.
    Not(Request<Body>),
}

impl Upstream {
    pub(super) fn new(protocol: Protocol, connector: Connector) -> Self {
        Self {
            protocol,
            connector,
            idle: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
            drivers: Mutex::default(),
        }
    }

    /// What is spoken here.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sends a request; gives its answer once its head is there.
    pub(super) async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, SendError> {
        match self.protocol {
            Protocol::Http1 => self.send_http1(request).await,
            Protocol::Http2 => self.send_http2(request).await,
        }
    }

    async fn send_http1(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let again = repeatable(&request);
        let request = match self.reuse(request).await {
            Reused::Answered(response) => return Ok(response),
            Reused::Not(request) => request,
            // Most likely it was closed just now, and this request can be told from none.
            Reused::Failed(error) => again.ok_or(SendError::Failed(error))?,
        };
        let mut sender = match self.connect_http1().await {
            Ok(sender) => sender,
            Err(reason) => return Err(SendError::NotConnected(reason, Box::new(request))),
        };
        let response = sender.send_request(request).await.map_err(SendError::Failed)?;
        Ok(self.returning(response, sender))
    }

    async fn reuse(self: &Arc<Self>, mut request: Request<Body>) -> Reused {
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Reused::Answered(self.returning(response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Reused::Failed(error.into_error()),
                },
            }
        }
        Reused::Not(request)
    }

    /// The one that waited least. Those that have waited too long, or were closed, are closed here.
    fn take_idle(&self) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < FRESH);
        // One whose answer has just been read to its end is ready in a moment.
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.remove(ready).sender)
    }

    fn put_idle(&self, sender: http1::SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(Idle { since: Instant::now(), sender });
        }
    }

    async fn send_http2(&self, mut request: Request<Body>) -> Result<Response<Body>, SendError> {
        // The first try may meet a connection that is being closed; a new one is not.
        for _ in 0..2 {
            let mut sender = match self.shared_connection().await {
                Ok(sender) => sender,
                Err(reason) => return Err(SendError::NotConnected(reason, Box::new(request))),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(Body::new)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Failed(error.into_error())),
                },
            }
            *self.shared.lock().await = None;
        }
        Err(SendError::NotConnected("it closes its connections at once".into(), Box::new(request)))
    }

    async fn shared_connection(&self) -> Result<http2::SendRequest<Body>, String> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let Connected { stream, until } = self.connect().await?;
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).max_header_list_size(MAX_HTTP2_HEAD_BYTES);
        let (sender, connection) = timeout(CONNECT, http.handshake(TokioIo::new(stream)))
            .await
            .map_err(|_| "it does not speak HTTP/2".to_owned())?
            .map_err(|error| error.to_string())?;
        self.drive(connection, until);
        Ok(shared.insert(sender).clone())
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<Body>, String> {
        let Connected { stream, until } = self.connect().await?;
        let mut http = http1::Builder::new();
        http.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
        let (sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        self.drive(connection.with_upgrades(), until);
        Ok(sender)
    }

    async fn connect(&self) -> Result<Connected, String> {
        let connected = timeout(CONNECT, (self.connector)()).await;
        connected.unwrap_or_else(|_| Err("no connection within 5 s".into()))
    }

    /// Drives a connection until it ends or may not be used any more.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static, until: Boxed<()>) {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            tokio::select! {
                // Whoever waits for an answer is told how it ended.
                _ended = connection => {}
                () = until => {}
            }
        });
    }

    fn returning(
        self: &Arc<Self>,
        response: Response<Incoming>,
        sender: http1::SendRequest<Body>,
    ) -> Response<Body> {
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            // There is no other request on it. The upgrade travels with the response.
            return response.map(|_nothing| Body::empty());
        }
        response.map(|body| Body::new(Returning { body, lent: Some((Arc::clone(self), sender)) }.whole()))
    }
}

/// The body of an answer, which gives its connection back at its end.
struct Returning {
    body: Incoming,
    lent: Option<(Arc<Upstream>, http1::SendRequest<Body>)>,
}

impl Returning {
    /// One without any content is at its end from the beginning.
    fn whole(mut self) -> Self {
        self.give_back_at_the_end();
        self
    }

    fn give_back_at_the_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((upstream, sender)) = self.lent.take()
        {
            upstream.put_idle(sender);
        }
    }
}

impl HttpBody for Returning {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.give_back_at_the_end(),
            Some(Err(_)) => self.lent = None,
            None => {
                if let Some((upstream, sender)) = self.lent.take() {
                    upstream.put_idle(sender);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same request once more, where executing it twice is as good as once and there is nothing in it to be sent.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe || !request.body().is_end_stream() || request.headers().contains_key(http::header::UPGRADE) {
        return None;
    }
    let mut again = Request::new(Body::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}
