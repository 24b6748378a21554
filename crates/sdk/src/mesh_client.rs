//! One connection to the mesh API: HTTP/1.1 with JSON over TLS whose other end is the authority of the pinned root.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use mesh_protocol::tls::{ANY_NAME, Admits, Identity, RootPin, client_config, spki_of};
use mesh_protocol::{MAX_MESSAGE_BYTES, MeshCoordinates, Refusal, Subject, notice_silence};
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Why the authority did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MeshError {
    /// It said no, and would say so again.
    #[error("{}: {}", .0.code, .0.detail)]
    Refused(Refusal),
    /// It is not the authority that this process was told of, or another manifest is in force there by now.
    #[error("the authority's own evidence is refused: {0}")]
    NotTheAuthority(String),
    /// It cannot be reached, or said that it cannot answer now.
    #[error("{0}")]
    Retryable(String),
}

/// A connection to the mesh API.
pub(crate) struct MeshClient {
    send: SendRequest<Full<Bytes>>,
    /// Drives the connection until this is dropped.
    _driver: JoinSet<()>,
    /// The key that the other end showed, as DER SubjectPublicKeyInfo.
    pub(crate) authority_spki: Vec<u8>,
}

impl MeshClient {
    /// Connects, with the identity where there is one.
    pub(crate) async fn connect(mesh: &MeshCoordinates, identity: &Identity) -> Result<Self, MeshError> {
        timeout(CONNECT, connect(mesh, identity))
            .await
            .unwrap_or_else(|_| Err(retryable("no connection within 10 s")))
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        message: &impl Serialize,
    ) -> Result<T, MeshError> {
        timeout(ANSWER, self.post_and_wait(path, message)).await.unwrap_or_else(|_| Err(late()))
    }

    /// The same for what is answered when there is something to say.
    pub(crate) async fn post_and_wait<T: DeserializeOwned>(
        &mut self,
        path: &str,
        message: &impl Serialize,
    ) -> Result<T, MeshError> {
        let body = serde_json::to_vec(message).map_err(|error| retryable(error.to_string()))?;
        self.ask(Method::POST, path, body).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, MeshError> {
        timeout(ANSWER, self.ask(Method::GET, path, Vec::new())).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether it can still be asked, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.send.is_closed()
    }

    /// The status of an answer and its body, whatever they are.
    pub(crate) async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), MeshError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, ANY_NAME)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| retryable(error.to_string()))?;
        let answer = self.send.send_request(request).await.map_err(|error| retryable(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_MESSAGE_BYTES).collect().await;
        Ok((status, body.map_err(|error| retryable(error.to_string()))?.to_bytes()))
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, MeshError> {
        let (status, body) = self.exchange(method, path, body).await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map_err(|error| retryable(format!("an answer is malformed: {error}")));
        }
        let refusal: Option<Refusal> = serde_json::from_slice(&body).ok();
        Err(match (status, refusal) {
            (StatusCode::FORBIDDEN, Some(refusal)) => MeshError::Refused(refusal),
            (_, Some(refusal)) => retryable(format!("{}: {}", refusal.code, refusal.detail)),
            (status, None) => retryable(format!("the mesh API answered {status}")),
        })
    }
}

async fn connect(mesh: &MeshCoordinates, identity: &Identity) -> Result<MeshClient, MeshError> {
    let failed = |what: &str| retryable(format!("the mesh API at {}: {what}", mesh.address));
    let stream = TcpStream::connect(mesh.address).await.map_err(|error| failed(&error.to_string()))?;
    let _delayed = stream.set_nodelay(true);
    let _noticed_later = notice_silence(&stream).is_err();
    let admits: Admits = std::sync::Arc::new(|peer| match peer.id.subject {
        Subject::Authority(_) => Ok(()),
        _ => Err(format!("{} is not the authority", peer.id)),
    });
    let root = RootPin::Spki(mesh.root_spki.0.clone());
    let config = client_config(identity.clone(), root, &mesh.trust_domain, admits, &[b"http/1.1"])
        .map_err(|error| failed(&error.to_string()))?;
    let name = ServerName::try_from(ANY_NAME).map_err(|error| failed(&error.to_string()))?;
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| failed(&error.to_string()))?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let authority_spki = leaf.and_then(|leaf| spki_of(leaf)).ok_or_else(|| failed("it showed no key"))?;
    let (send, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error.to_string()))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever waits for an answer is told how it ended.
        let _ended = connection.await.is_ok();
    });
    Ok(MeshClient { send, _driver: driver, authority_spki })
}

fn late() -> MeshError {
    retryable("no answer within 30 s")
}

pub(crate) fn retryable(what: impl Into<String>) -> MeshError {
    MeshError::Retryable(what.into())
}
