//! Certificates that are made for a test, and both sides of TLS with them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DEFAULT_VERSIONS, HandshakeKind, ProtocolVersion, RootCertStore,
    ServerConfig, StreamOwned, SupportedProtocolVersion,
};

use crate::{Connection, LIMIT};

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Certificate {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Holder<'a> {
    /// URIs among its names.
    pub uris: &'a [&'a str],
    /// Its subject: `CN` or `O`, and what that is, in this order.
    pub subject: &'a [(&'a str, &'a str)],
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// A version of TLS that clients can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    fn alone(self) -> [&'static SupportedProtocolVersion; 1] {
        match self {
            Self::Tls12 => [&TLS12],
            Self::Tls13 => [&TLS13],
        }
    }
}

/// A client's stream under TLS.
pub type TlsSide = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    /// An authority of a name.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate of its own"))
    }

    /// A certificate for DNS names or addresses.
    ///
    /// # Panics
    /// When a name is none.
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        Certificate { certificate: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }

    /// A certificate for somebody who connects.
    ///
    /// # Panics
    /// When a name is none.
    pub fn certificate_of(&self, holder: &Holder<'_>) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in holder.subject {
            let kind = match *kind {
                "CN" => DnType::CommonName,
                "O" => DnType::OrganizationName,
                other => panic!("{other}"),
            };
            params.distinguished_name.push(kind, *value);
        }
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        params.subject_alt_names = holder.uris.iter().map(uri).collect();
        Certificate { certificate: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }

    /// Writes its certificate to a file of a folder.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.0.pem()).expect("writing a certificate");
        path
    }

    /// Its certificate as it is sent.
    pub fn der(&self) -> &[u8] {
        self.0.der()
    }

    /// Clients that trust it alone, offering these protocols.
    ///
    /// # Panics
    /// Never, as its certificate is one.
    pub fn clients(&self, protocols: &[&str]) -> Tls {
        Tls::new(self, protocols, DEFAULT_VERSIONS, None)
    }

    /// The same, speaking this version and no other.
    pub fn clients_of_version(&self, protocols: &[&str], version: TlsVersion) -> Tls {
        Tls::new(self, protocols, &version.alone(), None)
    }

    /// The same, showing a certificate.
    pub fn clients_of_version_with(&self, protocols: &[&str], version: TlsVersion, own: &Certificate) -> Tls {
        Tls::new(self, protocols, &version.alone(), Some(own))
    }

    /// The same, showing a certificate.
    pub fn clients_with(&self, protocols: &[&str], own: &Certificate) -> Tls {
        Tls::new(self, protocols, DEFAULT_VERSIONS, Some(own))
    }
}

impl Certificate {
    /// Writes `NAME.pem` and `NAME.key` to a folder, each in one step.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path, name: &str) {
        for (file, text) in [("key", self.key.serialize_pem()), ("pem", self.certificate.pem())] {
            let (new, path) =
                (folder.join(format!("{name}.{file}.new")), folder.join(format!("{name}.{file}")));
            std::fs::write(&new, text).expect("writing a certificate");
            std::fs::rename(new, path).expect("putting a certificate in its place");
        }
    }

    /// The certificate as it is sent.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// Its key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// A server that shows it.
    pub(crate) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions of TLS").with_no_client_auth();
        let config = builder.with_single_cert(vec![self.certificate.der().clone()], self.key());
        let mut config = config.expect("a certificate and its key");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Tls {
    fn new(
        authority: &Authority,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Certificate>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::clone(authority.0.der())).expect("a certificate of an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("versions of TLS").with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![own.certificate.der().clone()];
                builder.with_client_auth_cert(chain, own.key()).expect("a certificate and its key")
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Connects and shakes hands, asking for a name.
    ///
    /// # Errors
    /// The handshake's.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Connection<TlsSide>> {
        self.connect_behind(b"", address, name)
    }

    /// The same, with something in the clear before the handshake.
    ///
    /// # Errors
    /// The handshake's.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect_behind(
        &self,
        prefix: &[u8],
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<Connection<TlsSide>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).expect("a client");
        let mut stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(prefix)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Connection::over(StreamOwned::new(tls, stream)))
    }
}

impl Connection<TlsSide> {
    /// The certificate that the other side has shown.
    ///
    /// # Panics
    /// When it has shown none.
    pub fn peer_certificate(&mut self) -> Vec<u8> {
        self.stream().conn.peer_certificates().expect("certificates")[0].to_vec()
    }

    /// Whether it goes on with a session of an earlier connection.
    pub fn is_resumed(&mut self) -> bool {
        self.stream().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The version that both sides have agreed on.
    ///
    /// # Panics
    /// When it is neither of those that clients can speak.
    pub fn version(&mut self) -> TlsVersion {
        match self.stream().conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            other => panic!("{other:?}"),
        }
    }
}
