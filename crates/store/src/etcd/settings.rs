//! Where etcd is, and who comes.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::StoreError;

/// The longest name of a host (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// How etcd is reached.
pub struct EtcdSettings {
    /// The members, tried in this order. One is enough to begin with; the others are for when it is away.
    pub end_points: Vec<EndPoint>,
    /// Stands before every key in etcd, and before none that is given out.
    pub namespace: Vec<u8>,
    /// TLS, or plain text.
    pub tls: Option<EtcdTls>,
    /// Who logs in.
    pub login: Option<Login>,
    /// Spreads when those who wait try again.
    pub random: fastrand::Rng,
}

/// Where a member listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPoint {
    host: String,
    port: u16,
}

impl EndPoint {
    /// A name or an address, that of IPv6 without brackets; `None` where it can be neither.
    pub fn new(host: impl Into<String>, port: u16) -> Option<Self> {
        let host = host.into();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_name = (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(letter);
        let fits = is_name || host.parse::<Ipv6Addr>().is_ok();
        (fits && port != 0).then_some(Self { host, port })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for EndPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// TLS to etcd.
pub struct EtcdTls {
    /// Who may sign its certificate.
    pub roots: RootCertStore,
    /// The certificate with its chain, and its key, that are shown where etcd asks for them.
    pub client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl EtcdTls {
    pub(super) fn client(self) -> Result<Arc<ClientConfig>, StoreError> {
        let failed =
            |error: rustls::Error| StoreError::Failed(format!("TLS to etcd cannot be set up: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(self.roots);
        let mut config = match self.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A user of etcd.
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_point_is_a_name_or_an_address_with_a_port() {
        let shown = |host: &str, port| EndPoint::new(host, port).map(|at| at.to_string());
        assert_eq!(shown("etcd-1.example", 2379).as_deref(), Some("etcd-1.example:2379"));
        assert_eq!(shown("::1", 2379).as_deref(), Some("[::1]:2379"));
        for (host, port) in [("", 1), ("a", 0), ("a b", 1), ("[::1]", 1), ("a:b", 1), ("a/b", 1)] {
            assert_eq!(shown(host, port), None, "{host}:{port}");
        }
    }
}
