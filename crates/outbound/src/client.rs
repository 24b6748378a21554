//! One fetch: the checks in their order, then one request on one connection, under one clock.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::allow::{AllowList, Reach};
use crate::resolve::Resolve;
use crate::target::{Scheme, Target};
use crate::tls::{self, Roots, TlsPeer};

/// How long a fetch may take, from the resolution to the last byte.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(9);
/// The largest answer, in bytes. Nothing is decompressed, so these are also the bytes on the wire.
pub const MAX_RESPONSE_BYTES: usize = 2_000_000;
/// The largest request body, in bytes.
pub const MAX_REQUEST_BODY_BYTES: usize = 30 * 1024;

/// How long one address may take to accept, so that a second one still gets its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried, in the resolver's order.
const MAX_ADDRESSES_TRIED: usize = 4;
/// Headers of a request and of an answer.
const MAX_HEADERS: usize = 64;
/// All headers of a request, names and values, in bytes.
const MAX_REQUEST_HEADER_BYTES: usize = 8 * 1024;
/// The head of an answer, in bytes.
const MAX_RESPONSE_HEAD_BYTES: usize = 32 * 1024;

/// What belongs to the connection or is decided here, and so is never a caller's to set.
const OWN_HEADERS: [HeaderName; 11] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// Why nothing was fetched. The texts are for the operator; none of them holds what the server sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// The text is not a URL that is read in one way only.
    #[error("the URL is refused: {0}")]
    BadUrl(&'static str),
    /// The request's headers or body are too large, or set what is not theirs.
    #[error("the request is refused: {0}")]
    BadRequest(&'static str),
    /// No entry of the allow-list covers the URL and the method.
    #[error("the allow-list does not name this URL and method")]
    NotAllowed,
    /// The name has an address that is not global (or, for a loopback exception, one that is not loopback).
    #[error("the host has an address that must not be called")]
    PrivateAddress,
    /// The name has no address.
    #[error("the host name was not resolved")]
    Dns,
    /// No address accepted a connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The handshake or the certificate.
    #[error("no trusted TLS connection: {0}")]
    Tls(String),
    /// The answer was not complete in time.
    #[error("the answer was not complete within {} seconds", TOTAL_TIMEOUT.as_secs())]
    Timeout,
    /// The answer is larger than [`MAX_RESPONSE_BYTES`].
    #[error("the answer is larger than {MAX_RESPONSE_BYTES} bytes")]
    TooLarge,
    /// The server did not speak HTTP/1.1 as it should.
    #[error("the answer is not usable: {0}")]
    Protocol(String),
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The URL, at most [`crate::MAX_URL_BYTES`].
    pub url: &'a str,
    /// Headers beside `host`, `accept-encoding` and those of the connection.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_REQUEST_BODY_BYTES`]; empty for none.
    pub body: Bytes,
}

impl<'a> Request<'a> {
    /// A GET without headers of its own.
    pub fn get(url: &'a str) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// A complete answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status; a redirect is one as any other.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_RESPONSE_BYTES`].
    pub body: Bytes,
    /// Who answered; absent for plain http.
    pub tls: Option<TlsPeer>,
}

/// The guarded client: an allow-list, a resolver and a set of roots.
#[derive(Clone)]
pub struct Client {
    allow: Arc<AllowList>,
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// A client that calls what the list allows.
    pub fn new(allow: AllowList, resolver: impl Resolve + 'static, roots: Roots) -> Self {
        Self { allow: Arc::new(allow), resolver: Arc::new(resolver), tls: tls::config(roots) }
    }

    /// The same client with another list.
    #[must_use]
    pub fn allowing(&self, allow: AllowList) -> Self {
        Self { allow: Arc::new(allow), ..self.clone() }
    }

    /// Fetches once, with every check, within [`TOTAL_TIMEOUT`].
    pub async fn fetch(&self, request: Request<'_>) -> Result<Response, FetchError> {
        let target = Target::parse(request.url)?;
        let reach = self.admit(&target, &request)?;
        let work = async {
            let addresses = self.resolve(&target, reach).await?;
            let stream = connect(&addresses).await?;
            self.exchange(&target, request, stream).await
        };
        timeout(TOTAL_TIMEOUT, work).await.map_err(|_| FetchError::Timeout)?
    }

    fn admit(&self, target: &Target, request: &Request<'_>) -> Result<Reach, FetchError> {
        let reach = self.allow.reach(target);
        if target.scheme == Scheme::Http && reach == Reach::Global {
            return Err(FetchError::BadUrl("it does not begin with https://"));
        }
        if !self.allow.admits(target, &request.method) {
            return Err(FetchError::NotAllowed);
        }
        check_request(request)?;
        Ok(reach)
    }

    async fn resolve(&self, target: &Target, reach: Reach) -> Result<Vec<SocketAddr>, FetchError> {
        let addresses = match target.literal() {
            Some(address) => vec![address],
            None => self.resolver.resolve(target.host()).await.map_err(|_| FetchError::Dns)?,
        };
        if addresses.is_empty() {
            return Err(FetchError::Dns);
        }
        let permitted = |address: &IpAddr| match reach {
            Reach::Global => crate::is_global(*address),
            Reach::Loopback => address.is_loopback(),
            Reach::Anywhere => true,
        };
        if !addresses.iter().all(permitted) {
            return Err(FetchError::PrivateAddress);
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, target.port)).collect())
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<'_>,
        stream: TcpStream,
    ) -> Result<Response, FetchError> {
        let request = message(target, request)?;
        match target.scheme {
            Scheme::Http => converse(stream, request, None).await,
            Scheme::Https => {
                let (stream, peer) = tls::handshake(&self.tls, target.host(), stream).await?;
                converse(stream, request, Some(peer)).await
            }
        }
    }
}

fn check_request(request: &Request<'_>) -> Result<(), FetchError> {
    if request.body.len() > MAX_REQUEST_BODY_BYTES {
        return Err(FetchError::BadRequest("its body is larger than 30 KiB"));
    }
    let bytes: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if request.headers.len() > MAX_HEADERS || bytes > MAX_REQUEST_HEADER_BYTES {
        return Err(FetchError::BadRequest("it has more than 64 headers or 8 KiB of them"));
    }
    if OWN_HEADERS.iter().any(|name| request.headers.contains_key(name)) {
        return Err(FetchError::BadRequest("it sets a header that belongs to the connection"));
    }
    Ok(())
}

/// Connects to one of these addresses and to nothing else.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut last = FetchError::Connect("no address".to_owned());
    for address in addresses.iter().take(MAX_ADDRESSES_TRIED) {
        last = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only a delay is at stake if the option cannot be set.
                let _unset = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => FetchError::Connect(error.kind().to_string()),
            Err(_) => FetchError::Timeout,
        };
    }
    Err(last)
}

fn message(target: &Target, request: Request<'_>) -> Result<http::Request<Full<Bytes>>, FetchError> {
    let mut message = http::Request::builder()
        .method(request.method)
        .uri(target.path_and_query())
        .body(Full::new(request.body))
        .map_err(|_| FetchError::BadUrl("its path cannot be sent"))?;
    let host = HeaderValue::from_str(&target.host_header())
        .map_err(|_| FetchError::BadUrl("its host cannot be sent"))?;
    let headers = message.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.extend(request.headers);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("serviceos"));
    Ok(message)
}

/// One request and its answer. The connection is driven here and ends with it, so no task is left behind.
async fn converse<S>(
    stream: S,
    request: http::Request<Full<Bytes>>,
    tls: Option<TlsPeer>,
) -> Result<Response, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| protocol(&error))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| protocol(&error))?;
        let (head, body) = response.into_parts();
        check_encoding(&head.headers)?;
        let body = read(body).await?;
        Ok(Response { status: head.status, headers: head.headers, body, tls })
    };
    driven(connection, exchange).await
}

/// Polls the connection beside the exchange. A connection that has ended may still have left bytes to read.
async fn driven<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        result = exchange.as_mut() => return result,
        // The exchange learns of the error through its own channel.
        _ended = connection => {}
    }
    exchange.await
}

fn check_encoding(headers: &HeaderMap) -> Result<(), FetchError> {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        Err(FetchError::Protocol("it is compressed although identity was asked for".to_owned()))
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, FetchError> {
    let announced = hyper::body::Body::size_hint(&body).lower();
    if usize::try_from(announced).map_or(true, |announced| announced > MAX_RESPONSE_BYTES) {
        return Err(FetchError::TooLarge);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| protocol(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_RESPONSE_BYTES {
            return Err(FetchError::TooLarge);
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}

fn protocol(error: &hyper::Error) -> FetchError {
    FetchError::Protocol(error.to_string())
}

#[cfg(test)]
mod tests;
