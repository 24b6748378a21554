//! Making a connection to an instance. How it is secured is decided here and nowhere else.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http1::BufferPool;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use service_registry::{Channel, Instance};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::wire::{Stream, Wire};

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What TLS to a service's instances is made with. Equal to itself and to its clones.
#[derive(Debug, Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// TLS as this says.
    pub fn new(config: ClientConfig) -> Self {
        Self(Arc::new(config))
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

/// The connection itself, for whoever has no worker's buffers.
pub(crate) async fn secured(instance: &Instance, tls: Option<&TlsClient>) -> Result<Stream, ConnectError> {
    let stream = TcpStream::connect(instance.address).await.map_err(|error| {
        let local = is_local(&error);
        let text = format!("connecting to {}: {error}", instance.address);
        if local { ConnectError::Local(text) } else { ConnectError::Refused(text) }
    })?;
    let _delayed = stream.set_nodelay(true);
    let (Channel::Tls(name), Some(config)) = (&instance.channel, tls) else {
        return match instance.channel {
            Channel::Plain => Ok(Stream::Plain(stream)),
            Channel::Tls(_) => Err(ConnectError::Tls("TLS is not set up for this service".into())),
        };
    };
    let refused = |error: String| ConnectError::Tls(format!("TLS with {}: {error}", instance.address));
    let name = ServerName::try_from(name.clone()).map_err(|error| refused(error.to_string()))?;
    let secured = TlsConnector::from(Arc::clone(&config.0)).connect(name, stream).await;
    let secured = secured.map_err(|error| refused(error.to_string()))?;
    Ok(Stream::Tls(Box::new(secured.into())))
}

/// Whether a connection failed for want of room on this machine: descriptors, ports or memory.
fn is_local(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    wants.iter().any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}
