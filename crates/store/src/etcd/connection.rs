//! One connection to a member: TCP, TLS where it is wanted, HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::{CONNECT_LIMIT, EndPoint};

/// The kernel asks a silent peer after this long whether it is still there,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
/// again after this long,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// and gives it up after this many times,
const KEEPALIVE_TIMES: u32 = 3;
/// or when what was sent is not confirmed for this long.
const UNCONFIRMED_LIMIT: Duration = Duration::from_secs(10);

/// A request that a connection did not answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Not a byte of it went out.
    NotSent(String),
    /// It may have been carried out.
    Lost(String),
}

/// An open connection. It ends when it is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Opens one, within [`CONNECT_LIMIT`].
    pub(super) async fn open(at: &EndPoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Unanswered> {
        let opened = timeout_at(Instant::now() + CONNECT_LIMIT, Self::opened(at, tls)).await;
        let reason = match opened {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_late) => format!("no connection within {CONNECT_LIMIT:?}"),
        };
        Err(Unanswered::NotSent(format!("{at}: {reason}")))
    }

    async fn opened(at: &EndPoint, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = TcpStream::connect((at.host(), at.port())).await?;
        stream.set_nodelay(true)?;
        watch_over(&stream)?;
        let Some(config) = tls else { return Self::handshake(stream).await };
        let name = ServerName::try_from(at.host().to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Self::handshake(stream).await
    }

    async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told of the error.
            let _ended = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Whether another request can be sent on it.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.sender.try_send_request(request).await.map_err(|mut error| {
            let is_unsent = error.take_message().is_some() || is_refused_by_tls(error.error());
            let reason = described(error.error());
            if is_unsent { Unanswered::NotSent(reason) } else { Unanswered::Lost(reason) }
        })
    }
}

/// A request of the gateway. `hasleader` makes a member that is cut off from the others refuse rather than wait.
pub(super) fn request(
    at: &EndPoint,
    path: &str,
    token: Option<HeaderValue>,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = path.parse().expect("the paths are constants");
    let headers = request.headers_mut();
    let host = HeaderValue::try_from(at.to_string()).expect("an end point is checked when it is made");
    headers.insert(header::HOST, host);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("grpc-metadata-hasleader", HeaderValue::from_static("true"));
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token);
    }
    request
}

/// Whether the other side takes nobody with this certificate. In TLS 1.3 that is heard only after the request was sent, and it
/// was not looked at.
fn is_refused_by_tls(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let inner = source.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = inner else { return false };
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// The error with what caused it: hyper's own words say only where it happened.
pub(super) fn described(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A peer that vanishes without a word, or a path that swallows everything, is noticed by the kernel.
fn watch_over(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TIMES)?;
    let limit = u32::try_from(UNCONFIRMED_LIMIT.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, limit)?;
    Ok(())
}
