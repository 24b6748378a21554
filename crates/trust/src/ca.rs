//! The certificates of a mesh: one root for its whole life, an issuing key for each transition of the manifest, and leaves that
//! live for an hour.

use std::time::Duration;

use aws_lc_rs::rand;
use der::asn1::{OctetStringRef, Utf8StringRef};
use der::{Decode, Encode, Enumerated, Sequence};
use mesh_protocol::{SpiffeId, sha256};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrets::Domain;
use time::OffsetDateTime;
use types::Mode;
use x509_cert::Certificate;

use crate::{Signer, TrustError};

/// How long the root is valid: longer than anybody will run one mesh.
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How far clocks may be apart.
const SKEW: u64 = 30;
/// The arc for documentation, until the project has a number of its own (RFC 5612).
const EXTENSION_OID: [u64; 9] = [1, 3, 6, 1, 4, 1, 32473, 1, 1];
/// The bytes of a P-256 SubjectPublicKeyInfo before the point; the point has 65.
const SPKI_BYTES: usize = 91;
const POINT_BYTES: usize = 65;

/// What a leaf says beside its name and key, in an extension of its own that is read only under the mesh root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// The mode.
    pub mode: Mode,
    /// The number of the transition.
    pub n: u64,
    /// T_n.
    pub transition: [u8; 32],
    /// SHA-256 of the appraisal's record.
    pub appraisal: [u8; 32],
    /// The label of the version.
    pub version: String,
    /// SHA-256 of the key that signs receipts.
    pub receipt: [u8; 32],
    /// The workload digest W.
    pub workload: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumerated)]
#[repr(u8)]
enum ModeNumber {
    Development = 0,
    Production = 1,
}

#[derive(Sequence)]
struct Extension<'a> {
    v: u8,
    mode: ModeNumber,
    n: u64,
    transition: &'a OctetStringRef,
    appraisal: &'a OctetStringRef,
    version: Utf8StringRef<'a>,
    receipt: &'a OctetStringRef,
    workload: &'a OctetStringRef,
}

impl LeafFacts {
    fn encode(&self) -> Result<Vec<u8>, der::Error> {
        let extension = Extension {
            v: 1,
            mode: match self.mode {
                Mode::Development => ModeNumber::Development,
                Mode::Production => ModeNumber::Production,
            },
            n: self.n,
            transition: OctetStringRef::new(&self.transition)?,
            appraisal: OctetStringRef::new(&self.appraisal)?,
            version: Utf8StringRef::new(&self.version)?,
            receipt: OctetStringRef::new(&self.receipt)?,
            workload: OctetStringRef::new(&self.workload)?,
        };
        extension.to_der()
    }

    /// The facts of a certificate of the mesh, DER; `None` where it has none. The certificate must have been verified.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let oid = EXTENSION_OID.map(|arc| arc.to_string()).join(".");
        let mut extensions = certificate.tbs_certificate().extensions()?.iter();
        let extension = extensions.find(|extension| extension.extn_id.to_string() == oid)?;
        let read = Extension::from_der(extension.extn_value.as_bytes()).ok().filter(|read| read.v == 1)?;
        Some(Self {
            mode: match read.mode {
                ModeNumber::Development => Mode::Development,
                ModeNumber::Production => Mode::Production,
            },
            n: read.n,
            transition: read.transition.as_bytes().try_into().ok()?,
            appraisal: read.appraisal.as_bytes().try_into().ok()?,
            version: read.version.as_str().to_owned(),
            receipt: read.receipt.as_bytes().try_into().ok()?,
            workload: read.workload.as_bytes().try_into().ok()?,
        })
    }
}

/// A key that a certificate is asked for, as its 91 bytes of SubjectPublicKeyInfo.
#[derive(Clone, Copy)]
pub(crate) struct SubjectKey<'a>(&'a [u8]);

impl<'a> SubjectKey<'a> {
    /// A P-256 key with an uncompressed point; `None` for any other.
    pub(crate) fn of(spki: &'a [u8]) -> Option<Self> {
        let point = spki.get(SPKI_BYTES - POINT_BYTES..)?;
        let built = Self(spki);
        let whole = spki.len() == SPKI_BYTES && point[0] == 4 && built.subject_public_key_info() == spki;
        whole.then_some(built)
    }
}

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0[SPKI_BYTES - POINT_BYTES..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The root certificate, to be made once for the life of a mesh and kept.
pub(crate) fn root_certificate(
    pkcs8: &[u8],
    domain: &Domain,
    now: u64,
) -> Result<CertificateDer<'static>, TrustError> {
    let mut params = root_params(domain);
    params.not_before = moment(now.saturating_sub(SKEW))?;
    params.not_after = moment(now + ROOT_LIFE.as_secs())?;
    params.serial_number = Some(serial()?);
    let certificate = params.self_signed(&key(pkcs8)?).map_err(failed)?;
    Ok(certificate.der().clone())
}

fn root_params(domain: &Domain) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("ServiceOS mesh root", &domain.trust_domain);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn issuing_params(domain: &Domain, n: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("ServiceOS mesh issuer {n}"), &domain.trust_domain);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(name: &str, trust_domain: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished.push(DnType::OrganizationName, trust_domain);
    distinguished
}

/// Reads a P-256 key of PKCS #8.
fn key(pkcs8: &[u8]) -> Result<KeyPair, TrustError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256)
        .map_err(failed)
}

/// Who signs leaves during one transition of the manifest.
pub(crate) struct IssuingCa {
    issuer: Issuer<'static, KeyPair>,
    /// Signs what goes with a leaf.
    pub(crate) signer: Signer,
    /// The issuing certificate, then the root's.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) n: u64,
    pub(crate) transition: [u8; 32],
}

/// What a leaf is asked for.
pub(crate) struct LeafRequest<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) key: SubjectKey<'a>,
    /// Unix seconds.
    pub(crate) not_after: u64,
    /// None for the authority and its gateways, which no evidence was appraised of.
    pub(crate) facts: Option<&'a LeafFacts>,
}

impl IssuingCa {
    /// The issuer of a transition, under the root.
    pub(crate) fn new(
        root: CertificateDer<'static>,
        root_key: &[u8],
        domain: &Domain,
        (n, transition): (u64, [u8; 32]),
        issuing_key: &[u8],
        now: u64,
    ) -> Result<Self, TrustError> {
        let (signer, issuing_key) = (Signer::new(issuing_key)?, key(issuing_key)?);
        let mut params = issuing_params(domain, n);
        params.not_before = moment(now.saturating_sub(SKEW))?;
        params.not_after = moment(now + ROOT_LIFE.as_secs() / 2)?;
        params.serial_number = Some(serial()?);
        let root_issuer = Issuer::new(root_params(domain), key(root_key)?);
        let certificate = params.signed_by(&issuing_key, &root_issuer).map_err(failed)?;
        let chain = vec![certificate.der().clone(), root];
        Ok(Self { issuer: Issuer::new(params, issuing_key), signer, chain, n, transition })
    }

    /// A leaf with the name and the key that are asked for.
    pub(crate) fn issue(
        &self,
        wanted: &LeafRequest<'_>,
        now: u64,
    ) -> Result<CertificateDer<'static>, TrustError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = moment(now.saturating_sub(SKEW))?;
        params.not_after = moment(wanted.not_after)?;
        params.serial_number = Some(serial()?);
        let uri = wanted.id.to_string().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if let Some(facts) = wanted.facts {
            let content = facts.encode().map_err(|error| TrustError::Certificate(error.to_string()))?;
            params.custom_extensions = vec![CustomExtension::from_oid_content(&EXTENSION_OID, content)];
        }
        let certificate = params.signed_by(&wanted.key, &self.issuer).map_err(failed)?;
        Ok(certificate.der().clone())
    }
}

/// The key of a certificate request and nothing else of it: PKCS #10, DER, without a subject and attributes. `None` where the
/// request is not one, or not signed by its own key.
pub(crate) fn requested_key(csr: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use x509_cert::request::CertReq;
    let request = CertReq::from_der(csr).ok()?;
    if !request.info.subject.is_empty() || !request.info.attributes.is_empty() {
        return None;
    }
    let spki = request.info.public_key.to_der().ok()?;
    let key = SubjectKey::of(&spki)?;
    let signed = request.info.to_der().ok()?;
    let signature = request.signature.as_bytes()?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes()).verify(&signed, signature).ok()?;
    Some(spki)
}

/// 16 random bytes that are a positive number of exactly that length.
fn serial() -> Result<SerialNumber, TrustError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| TrustError::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(seconds: u64) -> Result<OffsetDateTime, TrustError> {
    let seconds = i64::try_from(seconds).ok();
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.ok_or_else(|| TrustError::Certificate("a moment is out of range".into()))
}

fn failed(error: rcgen::Error) -> TrustError {
    TrustError::Certificate(error.to_string())
}

/// SHA-256 of a certificate, by which it is known.
pub(crate) fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256(certificate)
}
