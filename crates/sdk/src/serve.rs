//! HTTP under mutual TLS: who calls is known before a byte of a request is read, and connections end when their caller is no
//! longer trusted.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_protocol::tls::{Peer, peer};
use mesh_protocol::{Handshakes, Protocol};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::trusted::{Trusted, distrusted};

/// Open connections of a replica; the gateway keeps far fewer.
const MAX_CONNECTIONS: usize = 4096;
/// Connections that have not said yet who is there: no room is taken by them from those that have, and the oldest makes room for
/// another.
const MAX_HANDSHAKES: usize = 256;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a request's head may be: far above what a gateway lets through and adds, since the gateway is who judges.
const MAX_HEADERS: usize = 1024;
const MAX_HEAD_BYTES: usize = 1 << 20;
const MAX_HTTP2_HEAD_BYTES: u32 = 1 << 20;

/// The body of an answer.
pub type Body = axum::body::Body;

/// The tasks of a connection by HTTP/2, one for each request. They end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// A connection that speaks something else than HTTP from now on, until it ends.
type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether connections are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// No.
    No,
    /// Once their requests are answered.
    WhenDone,
    /// At once.
    Now,
}

/// Who is at the other end of a connection, for whatever answers its requests.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub peer: Peer,
    /// Where a change of the protocol goes.
    pub tunnels: Tunnels,
}

/// Takes over a connection whose protocol changes.
#[derive(Clone)]
pub struct Tunnels(mpsc::Sender<Tunnel>);

/// What [`answer`] finds there.
pub struct Opened(mpsc::Receiver<Tunnel>);

impl Tunnels {
    /// Those of one connection, with what [`answer`] needs of them.
    pub fn new() -> (Self, Opened) {
        // One request at most changes the protocol of a connection, and it is the last one.
        let (tunnels, opened) = mpsc::channel(1);
        (Self(tunnels), Opened(opened))
    }

    /// Drives what the connection becomes, for as long as the connection may live.
    pub fn open(&self, tunnel: impl Future<Output = ()> + Send + 'static) {
        let _the_connection_is_over = self.0.try_send(Box::pin(tunnel)).is_err();
    }
}

/// Serves until told to stop, then until the last open request is answered. `service` makes what answers the requests of a
/// caller.
pub async fn serve<S>(
    listener: TcpListener,
    service: impl Fn(Caller) -> S,
    tls: Arc<ServerConfig>,
    trusted: watch::Receiver<Trusted>,
    mut stopped: watch::Receiver<Cut>,
) where
    S: Service<Request<Incoming>, Response = hyper::Response<Body>> + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    let (mut handshakes, mut connections) = (Handshakes::new(MAX_HANDSHAKES), JoinSet::new());
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => handshakes.begin(handshake(stream, acceptor.clone())),
                // Out of descriptors, most likely: existing connections must end before another can begin.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            (stream, peer, protocol) = handshakes.next(), if connections.len() < MAX_CONNECTIONS => {
                let (tunnels, opened) = Tunnels::new();
                let service = service(Caller { peer: peer.clone(), tunnels });
                let answered = answer(stream, protocol, service, opened, stopped.clone());
                connections.spawn(while_trusted(answered, peer, trusted.clone(), stopped.clone()));
            }
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            () = told(&mut stopped, Cut::WhenDone) => break,
        }
    }
    drop((listener, handshakes));
    while connections.join_next().await.is_some() {}
}

/// Returns once the connections are to end, or nobody is left to say so.
async fn told(stopped: &mut watch::Receiver<Cut>, least: Cut) {
    let _told_or_nobody_left = stopped.wait_for(|cut| *cut >= least).await.is_ok();
}

/// A connection with whoever is at the other end, and what is spoken there.
type Shaken = (tokio_rustls::server::TlsStream<TcpStream>, Peer, Protocol);

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor) -> Option<Shaken> {
    let _delayed = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            return None;
        }
    };
    let tls = stream.get_ref().1;
    let is_http2 = tls.alpn_protocol() == Some(Protocol::Http2.alpn());
    let peer = peer(tls.peer_certificates())?;
    Some((stream, peer, if is_http2 { Protocol::Http2 } else { Protocol::Http1 }))
}

async fn while_trusted(
    answered: impl Future<Output = ()>,
    peer: Peer,
    trusted: watch::Receiver<Trusted>,
    mut cut: watch::Receiver<Cut>,
) {
    let caller = peer.id.to_string();
    tokio::select! {
        () = answered => {}
        () = distrusted(peer, trusted) => {
            tracing::warn!(caller, "a connection was cut: its caller is no longer trusted");
        }
        () = told(&mut cut, Cut::Now) => {}
    }
}

/// Answers the requests of one connection, and drives what becomes of it, until it ends or its requests are answered after it
/// was told to stop. A service that fails instead of answering ends the connection by HTTP/1, and the stream by HTTP/2, with the
/// reason of an error of `h2`.
pub async fn answer<I, S>(
    stream: I,
    protocol: Protocol,
    service: S,
    mut opened: Opened,
    stopped: watch::Receiver<Cut>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = hyper::Response<Body>> + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    let stream = TokioIo::new(stream);
    let ended = match protocol {
        Protocol::Http1 => {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(None);
            http.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
            let connection = http.serve_connection(stream, service).with_upgrades();
            to_the_end(connection, http1::UpgradeableConnection::graceful_shutdown, stopped).await
        }
        Protocol::Http2 => {
            let mut http = http2::Builder::new(Tasks::default());
            http.timer(TokioTimer::new()).max_header_list_size(MAX_HTTP2_HEAD_BYTES);
            let connection = http.serve_connection(stream, service);
            to_the_end(connection, http2::Connection::graceful_shutdown, stopped).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
    if let Ok(tunnel) = opened.0.try_recv() {
        tunnel.await;
    }
}

async fn to_the_end<C: Future>(
    connection: C,
    finish: impl FnOnce(Pin<&mut C>),
    mut stopped: watch::Receiver<Cut>,
) -> C::Output {
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = told(&mut stopped, Cut::WhenDone) => {}
    }
    finish(connection.as_mut());
    connection.await
}

#[cfg(test)]
mod tests;
