//! The certificate of all proxies, and the client's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// An ECDSA P-256 certificate for 127.0.0.1 that signs itself, in files.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
    der: CertificateDer<'static>,
}

/// Whether a client remembers the sessions that servers offer to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    Remembered,
    Forgotten,
}

impl Certificate {
    /// Makes one in `folder`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        // P-256 with SHA-256 is what rcgen takes when it is not asked for something else.
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let paths = Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            both: folder.join("certificate-and-key.pem"),
            der: made.cert.der().clone(),
        };
        std::fs::write(&paths.certificate, &certificate)?;
        std::fs::write(&paths.key, &key)?;
        std::fs::write(&paths.both, certificate + &key)?;
        Ok(paths)
    }

    /// A client that trusts this certificate and offers X25519 alone, so that no server does more work than another.
    ///
    /// # Errors
    ///
    /// The certificate is not accepted as a root.
    pub(crate) fn client(&self, sessions: Sessions) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let provider =
            CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        client.resumption = match sessions {
            Sessions::Remembered => rustls::client::Resumption::in_memory_sessions(64),
            Sessions::Forgotten => rustls::client::Resumption::disabled(),
        };
        Ok(Arc::new(client))
    }
}

/// The name in the certificate.
///
/// # Errors
///
/// Never in practice: the name is an address.
pub(crate) fn server_name() -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from("127.0.0.1").context("not a server's name")
}
