//! Calling other services of the mesh: which instances there are is the authority's word, and each is met as itself, with the
//! identity of this replica.

use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::tls::{ANY_NAME, Admits, Identity, Peer, RootPin, client_config, peer};
use mesh_protocol::{InstancesAnswer, MeshCoordinates, MeshInstance, SpiffeId};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use types::ServiceName;

use crate::MeshError;
use crate::mesh_client::MeshClient;
use crate::trusted::Trusted;

/// How long a connection to an instance may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection to an instance.
#[derive(Debug, Error)]
#[error("{id} at {address}: {reason}")]
pub struct CallError {
    /// Who should have been there.
    pub id: String,
    /// Where.
    pub address: std::net::SocketAddr,
    /// What happened.
    pub reason: String,
}

/// What a member calls others with.
pub struct Outgoing {
    mesh: MeshCoordinates,
    identity: Identity,
    trusted: watch::Receiver<Trusted>,
    /// Kept from one question to the next; they are rare.
    authority: Mutex<Option<MeshClient>>,
}

impl Outgoing {
    pub(crate) fn new(mesh: MeshCoordinates, identity: Identity, trusted: watch::Receiver<Trusted>) -> Self {
        Self { mesh, identity, trusted, authority: Mutex::new(None) }
    }

    /// What is known of who may no longer be called.
    pub fn trusted(&self) -> watch::Receiver<Trusted> {
        self.trusted.clone()
    }

    /// The instances of a service that may serve now.
    ///
    /// # Errors
    /// The service does not allow this one to call it, or the authority cannot be reached.
    pub async fn instances(&self, service: &ServiceName) -> Result<Vec<MeshInstance>, MeshError> {
        let mut kept = self.authority.lock().await;
        let path = format!("/v1/services/{service}/instances");
        // The authority may have closed it meanwhile, or may be another process by now.
        if let Some(client) = kept.as_mut() {
            match client.get::<InstancesAnswer>(&path).await {
                Ok(answer) => return Ok(answer.instances),
                Err(refused @ MeshError::Refused(_)) => return Err(refused),
                Err(MeshError::Retryable(_) | MeshError::NotTheAuthority(_)) => *kept = None,
            }
        }
        let client = kept.insert(MeshClient::connect(&self.mesh, &self.identity).await?);
        let answer: Result<InstancesAnswer, _> = client.get(&path).await;
        if !matches!(answer, Ok(_) | Err(MeshError::Refused(_))) {
            *kept = None;
        }
        Ok(answer?.instances)
    }

    /// A connection to an instance, for HTTP/1.1, and who is there.
    ///
    /// # Errors
    /// It cannot be reached, is not who it should be, or does not let this replica call it.
    pub async fn connect(&self, instance: &MeshInstance) -> Result<(TlsStream<TcpStream>, Peer), CallError> {
        let connected = timeout(CONNECT, self.connected(instance)).await;
        connected.unwrap_or_else(|_| Err("no connection within 5 s".into())).map_err(|reason| CallError {
            id: instance.spiffe.clone(),
            address: instance.address,
            reason,
        })
    }

    async fn connected(&self, instance: &MeshInstance) -> Result<(TlsStream<TcpStream>, Peer), String> {
        let stream = TcpStream::connect(instance.address).await.map_err(|error| error.to_string())?;
        let _delayed = stream.set_nodelay(true);
        let root = RootPin::Spki(self.mesh.root_spki.0.clone());
        let admits = only(instance, self.trusted())?;
        let (identity, domain) = (self.identity.clone(), &self.mesh.trust_domain);
        let config = client_config(identity, root, domain, admits, &[b"http/1.1"]);
        let config = config.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(ANY_NAME).expect("it is a name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        let peer = peer(stream.get_ref().1.peer_certificates()).ok_or("it showed no certificate")?;
        Ok((stream, peer))
    }
}

/// Admits this instance with one of its certificates, and nobody else of the mesh.
fn only(instance: &MeshInstance, trusted: watch::Receiver<Trusted>) -> Result<Admits, String> {
    let id: SpiffeId = instance.spiffe.parse().map_err(|error| format!("{error}"))?;
    let leaves: Vec<_> = instance.leaves.iter().map(|leaf| leaf.0.clone()).collect();
    Ok(Arc::new(move |peer| {
        trusted.borrow().allows(peer)?;
        if peer.id != id {
            return Err(format!("it is {}", peer.id));
        }
        if leaves.iter().any(|leaf| leaf.as_slice() == peer.leaf) {
            Ok(())
        } else {
            Err("its certificate is none of those that the authority named".into())
        }
    }))
}
