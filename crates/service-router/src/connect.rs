//! Making a connection to an instance. How it is secured is decided here and nowhere else.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http1::BufferPool;
use jiff::Timestamp;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use service_registry::{Channel, Instance, MeshPeer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::mesh_socket::MeshSocket;
use crate::wire::{Stream, Wire};

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What TLS wants as the name of a peer in the mesh. It is not sent and nothing is looked for under it: who is there is known
/// by the certificate itself.
const MESH_NAME: &str = "mesh.invalid";

/// What TLS to a service's instances is made with. Equal to itself and to its clones.
#[derive(Debug, Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// TLS as this says.
    pub fn new(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }

    fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0))
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TlsClient {}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The instance does not take it.
    Refused(String),
    /// It is not who it should be, or speaks no TLS.
    Tls(String),
    /// This machine has no room for another connection, which says nothing of the instance.
    Local(String),
}

/// Connects to an instance.
pub(crate) async fn connect(
    instance: &Instance,
    tls: Option<&TlsClient>,
    pool: Rc<BufferPool>,
) -> Result<Wire, ConnectError> {
    let connected = timeout(CONNECT_TIMEOUT, secured(instance, tls)).await;
    let stream =
        connected.unwrap_or_else(|_| Err(ConnectError::Refused("no connection within 5 s".into())))?;
    Ok(Wire::new(stream, pool))
}

/// Why a peer of the mesh has not shown who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproven {
    /// It has no connection for anybody now.
    Unreached(String),
    /// Whoever is there is somebody else.
    Another(String),
}

/// Whether whoever listens at an instance's address is the peer that it should be, by a handshake of its own.
///
/// # Errors
/// It cannot be said, or it is not.
pub async fn proves_itself(instance: &Instance, tls: &TlsClient) -> Result<(), Unproven> {
    match timeout(CONNECT_TIMEOUT, secured(instance, Some(tls))).await {
        Ok(Ok(_connection)) => Ok(()),
        Ok(Err(ConnectError::Tls(reason))) => Err(Unproven::Another(reason)),
        Ok(Err(ConnectError::Refused(reason) | ConnectError::Local(reason))) => {
            Err(Unproven::Unreached(reason))
        }
        Err(_) => Err(Unproven::Unreached("no connection within 5 s".into())),
    }
}

/// The connection itself, for whoever has no worker's buffers.
pub(crate) async fn secured(instance: &Instance, tls: Option<&TlsClient>) -> Result<Stream, ConnectError> {
    if let Channel::Mesh(peer) = &instance.channel
        && peer.has_ended()
    {
        return Err(ConnectError::Tls(ended(peer)));
    }
    let stream = TcpStream::connect(instance.address).await.map_err(|error| {
        let local = is_local(&error);
        let text = format!("connecting to {}: {error}", instance.address);
        if local { ConnectError::Local(text) } else { ConnectError::Refused(text) }
    })?;
    let _delayed = stream.set_nodelay(true);
    let secured = match (&instance.channel, tls) {
        (Channel::Plain, _) => return Ok(Stream::Plain(stream)),
        (_, None) => Err(NotSecured::Untrusted("it is not set up for this service".into())),
        (Channel::Tls(name), Some(tls)) => named(tls, stream, name).await,
        (Channel::Mesh(peer), Some(tls)) => pinned(tls, stream, peer).await,
    };
    let described = |error| format!("TLS with {}: {error}", instance.address);
    secured.map_err(|error| match error {
        NotSecured::Untrusted(error) => ConnectError::Tls(described(error)),
        NotSecured::Broken(error) => ConnectError::Refused(described(error)),
    })
}

/// Why a connection that was made is not secured.
enum NotSecured {
    /// Whoever is there is not who it should be, or speaks no TLS.
    Untrusted(String),
    /// It went before it had said who it is.
    Broken(String),
}

impl From<io::Error> for NotSecured {
    /// What rustls has to say comes as invalid data; everything else is the connection's.
    fn from(error: io::Error) -> Self {
        let is_said = error.kind() == io::ErrorKind::InvalidData;
        if is_said { Self::Untrusted(error.to_string()) } else { Self::Broken(error.to_string()) }
    }
}

impl From<String> for NotSecured {
    fn from(error: String) -> Self {
        Self::Untrusted(error)
    }
}

/// TLS with whoever has a certificate of this name.
async fn named(tls: &TlsClient, stream: TcpStream, name: &str) -> Result<Stream, NotSecured> {
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let secured = tls.connector().connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(secured.into())))
}

/// TLS with this peer, and not with another one of the same mesh. It ends with the peer, also while hands are shaken.
async fn pinned(tls: &TlsClient, stream: TcpStream, peer: &MeshPeer) -> Result<Stream, NotSecured> {
    let socket = MeshSocket::new(stream);
    peer.connected(socket.end()).map_err(|_| ended(peer))?;
    let name = ServerName::try_from(MESH_NAME).expect("it is a name");
    let secured = tls.connector().connect(name, socket).await.map_err(|error| match peer.has_ended() {
        true => NotSecured::Untrusted(error.to_string()),
        false => error.into(),
    })?;
    let shown = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or_else(|| "it has shown no certificate".to_owned())?;
    let shown = digest(&SHA256, shown);
    let accepted = peer.accepted(Timestamp::now());
    if accepted.is_empty() {
        return Err(ended(peer).into());
    }
    if !accepted.iter().any(|accepted| accepted == shown.as_ref()) {
        let accepted: Vec<_> = accepted.iter().map(|accepted| hex(accepted)).collect();
        return Err(format!(
            "its certificate is {} (SHA-256), and that of {} is {}",
            hex(shown.as_ref()),
            peer.spiffe_id(),
            accepted.join(" or ")
        )
        .into());
    }
    Ok(Stream::Mesh(Box::new(secured.into())))
}

fn ended(peer: &MeshPeer) -> String {
    format!("the identity {} has ended", peer.spiffe_id())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a connection failed for want of room on this machine: descriptors, ports or memory.
fn is_local(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    wants.iter().any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}

#[cfg(test)]
pub(crate) mod tests;
