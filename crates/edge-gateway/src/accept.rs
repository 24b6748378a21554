//! From an accepted socket to a connection that speaks HTTP: who it is for, and whether it is under TLS.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use observability::{GatewayShard, Refused, TlsHandshake};
use rustls::HandshakeKind;
use service_router::{Stream, Wire};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::authenticate::ClientCertificate;
use crate::client::{Client, Scheme, is_in};
use crate::drain_signal::DrainSignal;
use crate::tls::ServerTls;
use crate::worker::Worker;
use crate::{http1_client, http2_client, proxy_protocol};

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// TLS or HTTP.
    Plain,
    /// A proxy's word on whom it connects for.
    ProxyHeader,
}

/// What a client has chosen under TLS; in the clear its first bytes say whether it is HTTP/2 after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr, draining: DrainSignal) {
    let _delayed = stream.set_nodelay(true);
    let _open = Open::new(&worker.shard);
    let plan = worker.plan();
    let (networks, tls) = (&plan.plan.proxy_protocol, plan.plan.tls.clone());
    let proxied = !networks.is_empty() && is_in(peer.to_canonical(), networks);
    let opening = if proxied { Opening::ProxyHeader } else { Opening::Plain };
    if opening == Opening::Plain && tls.is_none() {
        drop(plan);
        let client = Client::new(peer, Scheme::Http, None, draining);
        let wire = Wire::new(Stream::Plain(stream), Rc::clone(&worker.buffers));
        return http1_client::serve(worker, wire, client).await;
    }
    let limit = plan.plan.limits.header_timeout;
    drop(plan);
    // Boxed, since it is over before the connection idles.
    let prepared = Box::pin(prepare(&worker, stream, peer, opening, tls));
    let Ok(prepared) = timeout(limit, prepared).await else {
        return worker.shard.requests_refused.add_one(Refused::HeaderTimeout);
    };
    let Some((stream, address, protocol)) = prepared else { return };
    let scheme = if matches!(stream, Stream::Tls(_)) { Scheme::Https } else { Scheme::Http };
    let certificate = match &stream {
        Stream::Tls(stream) => ClientCertificate::new(stream.get_ref().1.peer_certificates()),
        Stream::Plain(_) | Stream::Mesh(_) => None,
    };
    let client = Client::new(address, scheme, certificate, draining);
    let wire = Wire::new(stream, Rc::clone(&worker.buffers));
    if protocol == Protocol::Http2 {
        Box::pin(http2_client::serve(worker, wire, client)).await;
    } else {
        http1_client::serve(worker, wire, client).await;
    }
}

/// Reads what comes before HTTP; `None` when the connection is of no use.
async fn prepare(
    worker: &Worker,
    mut stream: TcpStream,
    peer: IpAddr,
    opening: Opening,
    tls: Option<Arc<ServerTls>>,
) -> Option<(Stream, IpAddr, Protocol)> {
    let address = match opening {
        Opening::ProxyHeader => proxied_for(worker, &mut stream).await?.unwrap_or(peer),
        Opening::Plain => peer,
    };
    let Some(tls) = tls else { return Some((Stream::Plain(stream), address, Protocol::Http1)) };
    match TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream).await {
        Ok(stream) => {
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            worker.shard.tls_handshakes.add_one(if resumed {
                TlsHandshake::Resumed
            } else {
                TlsHandshake::Full
            });
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            };
            Some((Stream::Tls(Box::new(stream.into())), address, protocol))
        }
        Err(error) => {
            worker.shard.tls_handshakes.add_one(TlsHandshake::Failed);
            tracing::debug!(%error, %peer, "a TLS handshake failed");
            None
        }
    }
}

/// Reads the PROXY header byte by byte beyond what it needs at least, so that nothing of what follows is taken.
async fn proxied_for(worker: &Worker, stream: &mut TcpStream) -> Option<Option<IpAddr>> {
    let mut header = Vec::new();
    loop {
        match proxy_protocol::read(&header) {
            Ok(Some(found)) => return Some(found.source.map(|source| source.ip())),
            Ok(None) => header.push(stream.read_u8().await.ok()?),
            Err(why) => {
                worker.shard.requests_refused.add_one(Refused::ProxyHeader);
                tracing::debug!(why, "a connection without a valid PROXY header was closed");
                return None;
            }
        }
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Arc<GatewayShard>);

impl Open {
    fn new(shard: &Arc<GatewayShard>) -> Self {
        shard.client_connections.add_one();
        Self(Arc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.client_connections.take_one();
    }
}
