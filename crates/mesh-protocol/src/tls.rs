//! TLS inside the mesh: version 1.3 alone, no resumption and no early data, certificates under one pinned root key, and who
//! somebody is by the one URI of the certificate. Names of hosts mean nothing here.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::ResolvesClientCert;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SideData, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::{SpiffeId, sha256};

/// The label of what binds a nonce to a TLS connection (RFC 8446 section 7.5).
const EXPORTER: &[u8] = b"EXPORTER-serviceos-join";
/// The name that clients give where rustls wants one; it is neither sent nor compared with anything.
pub const ANY_NAME: &str = "mesh.invalid";

/// Whoever is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: SpiffeId,
    /// SHA-256 of its certificate.
    pub leaf: [u8; 32],
    /// Until when that is valid, Unix seconds. Nothing goes on over a connection beyond it.
    pub not_after: u64,
}

impl Peer {
    /// How long its certificate is still valid, as the machine's clock is now.
    pub fn remaining(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(self.not_after).saturating_sub(now)
    }
}

/// Whether a peer may be at the other end. Its certificate is valid when this is asked.
pub type Admits = Arc<dyn Fn(&Peer) -> Result<(), String> + Send + Sync>;

/// The identity that a process has now; its clones change with it.
#[derive(Clone, Default)]
pub struct Identity(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Identity {
    /// Takes another identity from now on.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), Error> {
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
        let certified = Arc::new(CertifiedKey::new(chain, key));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

/// Which root a mesh has: its key, by which it is pinned.
#[derive(Clone, PartialEq, Eq)]
pub enum RootPin {
    /// The key itself, as DER SubjectPublicKeyInfo.
    Spki(Vec<u8>),
    /// Its SHA-256.
    Digest([u8; 32]),
}

impl fmt::Debug for RootPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RootPin")
    }
}

impl RootPin {
    fn is(&self, spki: &[u8]) -> bool {
        match self {
            Self::Spki(pinned) => pinned == spki,
            Self::Digest(pinned) => *pinned == sha256(spki),
        }
    }
}

/// Whether a client must show who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Only those that do are served.
    Known,
    /// Others are served too; what they may ask for is decided by request.
    Any,
}

/// What a server of the mesh accepts connections with.
///
/// # Errors
/// The cryptographic library has no TLS 1.3.
pub fn server_config(
    identity: Identity,
    root: RootPin,
    trust_domain: &str,
    clients: Clients,
    admits: Admits,
    protocols: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let verifier = Arc::new(Verifier::new(root, trust_domain, clients, admits));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// What a client of the mesh connects with.
///
/// # Errors
/// The cryptographic library has no TLS 1.3.
pub fn client_config(
    identity: Identity,
    root: RootPin,
    trust_domain: &str,
    admits: Admits,
    protocols: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(Verifier::new(root, trust_domain, Clients::Known, admits));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(identity));
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Keys and suites of the mesh. AES-128 first: both ends are ours, and it costs the least.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// The 32 bytes that only the two ends of a connection know, and no other connection has.
///
/// # Errors
/// The handshake is not over.
pub fn channel_binding<S: SideData>(connection: &ConnectionCommon<S>) -> Result<[u8; 32], Error> {
    connection.export_keying_material([0; 32], EXPORTER, None)
}

/// Who is at the other end; `None` where it did not say. Its certificate was verified in the handshake.
pub fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let leaf = certificates?.first()?;
    let certificate = EndEntityCert::try_from(leaf).ok()?;
    Some(Peer { id: identity_of(&certificate).ok()?, leaf: sha256(leaf), not_after: not_after(leaf)? })
}

/// Until when a certificate is valid, Unix seconds.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

/// The key of a certificate, as DER SubjectPublicKeyInfo.
pub fn spki_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// Verifies a certificate of the mesh with those above it, the root last; gives whose it is.
///
/// # Errors
/// It does not lead to the root, is not valid now, or is not of the trust domain.
pub fn verify_chain(
    root: &RootPin,
    trust_domain: &str,
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<Peer, Error> {
    let Some((top, issuers)) = above.split_last() else {
        return Err(CertificateError::UnknownIssuer.into());
    };
    verified(root, trust_domain, leaf, (top, issuers), now, KeyUsage::client_auth())
}

fn verified(
    root: &RootPin,
    trust_domain: &str,
    leaf: &CertificateDer<'_>,
    (top, issuers): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    now: UnixTime,
    usage: KeyUsage,
) -> Result<Peer, Error> {
    if !spki_of(top).is_some_and(|spki| root.is(&spki)) {
        return Err(CertificateError::UnknownIssuer.into());
    }
    let anchor = anchor_from_trusted_cert(top).map_err(|_| CertificateError::BadEncoding)?;
    let certificate = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
    certificate
        .verify_for_usage(&[webpki::aws_lc_rs::ECDSA_P256_SHA256], &[anchor], issuers, now, usage, None, None)
        .map_err(refused)?;
    let id = identity_of(&certificate)?;
    if id.trust_domain != trust_domain {
        return Err(Error::General(format!("{id} is not of the trust domain {trust_domain}")));
    }
    let not_after = not_after(leaf).ok_or(CertificateError::BadEncoding)?;
    Ok(Peer { id, leaf: sha256(leaf), not_after })
}

/// Verifies certificates of the mesh, for either side.
struct Verifier {
    root: RootPin,
    trust_domain: String,
    clients: Clients,
    admits: Admits,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Verifier of {}", self.trust_domain)
    }
}

impl Verifier {
    fn new(root: RootPin, trust_domain: &str, clients: Clients, admits: Admits) -> Self {
        Self { root, trust_domain: trust_domain.to_owned(), clients, admits }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let Some((top, issuers)) = above.split_last() else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let peer = verified(&self.root, &self.trust_domain, leaf, (top, issuers), now, usage)?;
        (self.admits)(&peer).map_err(Error::General)
    }
}

fn refused(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }.into()
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }.into()
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        other => Error::General(format!("the certificate of the mesh does not verify: {other}")),
    }
}

fn identity_of(certificate: &EndEntityCert<'_>) -> Result<SpiffeId, Error> {
    let mut names = certificate.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(Error::General("a certificate of the mesh has exactly one URI".into()));
    };
    name.parse().map_err(|error: crate::NotAnIdentity| Error::General(error.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, above, now, KeyUsage::server_auth()).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken in the mesh".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.clients == Clients::Known
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, above, now, KeyUsage::client_auth()).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken in the mesh".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn verified_signature(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(
        message,
        leaf,
        signature,
        &aws_lc_rs::default_provider().signature_verification_algorithms,
    )
}
