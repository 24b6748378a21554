//! What the peers and the upstreams know each other by where both show a certificate. ServiceOS has its own: its mesh makes
//! them, and they do not leave it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// The name in the upstreams' certificate, which every peer looks for.
pub(crate) const UPSTREAM_NAME: &str = "upstream.bench.test";
const PROXY_NAME: &str = "proxy.bench.test";
const AUTHORITY_NAME: &str = "authority.bench.test";

/// What a peer needs, in files: its own certificate, and the authority of both. ECDSA P-256, as in the mesh.
#[derive(Debug)]
pub(crate) struct Mutual {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

impl Mutual {
    /// Makes an authority, and a certificate for each side: the peers' in `folder`, the upstreams' in `at_upstreams`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(crate) fn make(folder: &Path, at_upstreams: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate that is called as its issuer for one that signs itself.
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // P-256 with SHA-256 is what rcgen takes when it is not asked for something else.
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let (certificate, key) = issued(&authority, UPSTREAM_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
        std::fs::write(at_upstreams.join("authority.pem"), authority.pem())?;
        std::fs::write(at_upstreams.join("upstream.pem"), certificate)?;
        std::fs::write(at_upstreams.join("upstream-key.pem"), key)?;

        let (certificate, key) = issued(&authority, PROXY_NAME, ExtendedKeyUsagePurpose::ClientAuth)?;
        let paths = Self {
            authority: folder.join("authority.pem"),
            certificate: folder.join("proxy.pem"),
            key: folder.join("proxy-key.pem"),
            both: folder.join("proxy-certificate-and-key.pem"),
        };
        std::fs::write(&paths.authority, authority.pem())?;
        std::fs::write(&paths.certificate, &certificate)?;
        std::fs::write(&paths.key, &key)?;
        std::fs::write(&paths.both, certificate + &key)?;
        Ok(paths)
    }
}

/// A certificate for this name and use, and its key, as PEM.
fn issued(
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
}
