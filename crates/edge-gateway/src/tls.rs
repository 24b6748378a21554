//! TLS for clients: certificates chosen by name, the first where no name is known; TLS 1.2 and 1.3; HTTP/2 where the client
//! offers it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use configuration::TlsSettings;
use rustix::fs::{Mode, OFlags};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

/// What clients are offered, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Setup(String),
}

/// What connections are accepted with.
#[derive(Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// Who judges the certificates of clients; nobody where none are asked for.
    pub(crate) clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Certificates for `*.name`, by name.
    beneath: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&self.first)) };
        let beneath = || name.split_once('.').and_then(|(_, parent)| self.beneath.get(parent));
        Some(Arc::clone(self.exact.get(name).or_else(beneath).unwrap_or(&self.first)))
    }
}

/// What resumes the sessions of clients: one for the whole life of the process, so that a changed configuration ends no
/// session. Its key changes by itself every few hours.
fn tickets() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    static TICKETS: OnceLock<Arc<dyn ProducesTickets>> = OnceLock::new();
    if let Some(known) = TICKETS.get() {
        return Ok(Arc::clone(known));
    }
    let made = aws_lc_rs::Ticketer::new().map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok(Arc::clone(TICKETS.get_or_init(|| made)))
}

/// Reads the files and makes of them what connections are accepted with. Blocks, for as long as their disk does not answer.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn server_config(settings: &TlsSettings) -> Result<Arc<ServerTls>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut certificates: Option<Certificates> = None;
    for files in &settings.certificates {
        let chain = read_chain(&files.certificate)?;
        let key = read_key(&files.key)?;
        let signing = provider.key_provider.load_private_key(key);
        let signing = signing.map_err(|error| fault(&files.key, error.to_string()))?;
        let names = names(&chain[0]).map_err(|reason| fault(&files.certificate, reason))?;
        let certified = CertifiedKey::new(chain, signing);
        certified
            .keys_match()
            .map_err(|_| fault(&files.key, "it is not the key of the certificate".into()))?;
        let certified = Arc::new(certified);
        let known = certificates.get_or_insert_with(|| Certificates {
            exact: HashMap::new(),
            beneath: HashMap::new(),
            first: Arc::clone(&certified),
        });
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => {
                    known.beneath.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&certified))
                }
                None => known.exact.entry(name).or_insert_with(|| Arc::clone(&certified)),
            };
        }
    }
    let certificates = certificates.ok_or_else(|| TlsError::Setup("there is no certificate".into()))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let clients = settings.client_ca.as_ref().map(|path| verifier(path, provider)).transpose()?;
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    config.ticketer = tickets()?;
    Ok(Arc::new(ServerTls { config: Arc::new(config), clients }))
}

/// A client without a certificate may still have another credential.
fn verifier(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in read_chain(path)? {
        roots.add(root).map_err(|error| fault(path, error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.allow_unauthenticated().build().map_err(|error| fault(path, error.to_string()))
}

fn fault(path: &Path, reason: String) -> TlsError {
    TlsError::File { path: path.to_owned(), reason }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(path)?).collect();
    let chain = chain.map_err(|error| fault(path, error.to_string()))?;
    if chain.is_empty() {
        return Err(fault(path, "there is no certificate in it; PEM is expected".into()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_reader(open(path)?)
        .map_err(|error| fault(path, format!("there is no private key in it: {error}")))
}

/// A pipe would give what it holds only once, and keep whoever opens it waiting until somebody writes.
fn open(path: &Path) -> Result<File, TlsError> {
    let how = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, how, Mode::empty());
    let file = File::from(opened.map_err(|error| fault(path, error.to_string()))?);
    let found = file.metadata().map_err(|error| fault(path, error.to_string()))?;
    if !found.is_file() {
        let reason =
            "this is a directory, a pipe or a device; name a file, since it is read again on every change";
        return Err(fault(path, reason.into()));
    }
    Ok(file)
}

/// The DNS names that a certificate is for; an address is no name that a client asks for (RFC 6066 section 3).
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
