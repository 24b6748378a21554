//! TLS to a server: who is trusted, and what is kept of the server that answered.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::FetchError;

/// The certificate authorities that a server's chain may end at.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

impl Roots {
    /// Those of the operating system, or Mozilla's (as compiled in) where the system has none.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (added, ignored) = roots.add_parsable_certificates(native.certs);
        if added == 0 {
            tracing::info!(ignored, "the system has no certificate authorities: using the compiled-in ones");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self(roots)
    }

    /// Only these certificates, in DER. What does not parse is not trusted.
    pub fn only(certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
        Self(roots)
    }
}

/// The server that answered, as its certificate proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPeer {
    /// The name or address that the certificate was checked against.
    pub name: String,
    /// SHA-256 of the DER `SubjectPublicKeyInfo` of its certificate: what an RFC 7469 pin holds.
    pub spki_sha256: [u8; 32],
}

/// TLS 1.2 and 1.3 with HTTP/1.1 in ALPN.
pub(crate) fn config(roots: Roots) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots.0)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The handshake, with the name of the URL for SNI and for the certificate.
pub(crate) async fn handshake(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, TlsPeer), FetchError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| FetchError::Tls("the host cannot be the name of a certificate".to_owned()))?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(server, stream)
        .await
        .map_err(|error| FetchError::Tls(error.to_string()))?;
    let peer = peer(name, &stream)?;
    Ok((stream, peer))
}

fn peer(name: &str, stream: &TlsStream<TcpStream>) -> Result<TlsPeer, FetchError> {
    let missing = || FetchError::Tls("the server showed no certificate".to_owned());
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or_else(missing)?;
    let parsed =
        webpki::EndEntityCert::try_from(certificate).map_err(|error| FetchError::Tls(error.to_string()))?;
    let spki_sha256 = Sha256::digest(parsed.subject_public_key_info()).into();
    Ok(TlsPeer { name: name.to_owned(), spki_sha256 })
}
