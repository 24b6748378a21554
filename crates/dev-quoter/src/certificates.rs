//! The certificates of a development platform and its revocation lists. Their names say what they are; "Platform" is the
//! one word of Intel's that readers look for.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use crate::key::Key;
use crate::profile::Validity;
use crate::{DevQuoterError, sgx_extension};

/// Ten years and a day: certificates begin a day early, so that a clock that is set back a little makes none invalid.
const LIFETIME: Duration = Duration::from_secs(3653 * 24 * 3600);
const EARLY: Duration = Duration::from_secs(24 * 3600);

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root,
    PlatformCa,
    Pck,
    TcbSigning,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "ServiceOS development root",
            Self::PlatformCa => "ServiceOS development PCK Platform CA",
            Self::Pck => "ServiceOS development PCK certificate",
            Self::TcbSigning => "ServiceOS development TCB signing",
        }
    }

    /// What an issuer signs with, and what is issued before dates and extensions are added.
    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name());
        params.distinguished_name.push(DnType::OrganizationName, "ServiceOS development");
        params.use_authority_key_identifier_extension = self != Self::Root;
        (params.is_ca, params.key_usages) = match self {
            Self::Root => (authority_over(1), authority_usages()),
            Self::PlatformCa => (authority_over(0), authority_usages()),
            Self::Pck | Self::TcbSigning => (IsCa::ExplicitNoCa, vec![KeyUsagePurpose::DigitalSignature]),
        };
        params
    }

    fn issuer(self, key: &Key) -> Issuer<'static, &Key> {
        Issuer::new(self.params(), key)
    }
}

fn authority_over(levels: u8) -> IsCa {
    IsCa::Ca(BasicConstraints::Constrained(levels))
}

fn authority_usages() -> Vec<KeyUsagePurpose> {
    vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]
}

/// A certificate for `key`, DER. The root certifies itself, which is what `issuer` says by being the same key.
pub(crate) fn certificate(
    role: Role,
    key: &Key,
    issuer: (Role, &Key),
    platform: Option<Vec<u8>>,
    now: u64,
) -> Result<Vec<u8>, DevQuoterError> {
    let time = |unix| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix);
    let mut params = role.params();
    params.serial_number = Some(serial(key));
    params.not_before = time(now.saturating_sub(EARLY.as_secs()));
    params.not_after = time(now.saturating_add(LIFETIME.as_secs()));
    if let Some(platform) = platform {
        params.custom_extensions.push(CustomExtension::from_oid_content(sgx_extension::OID, platform));
    }
    let certificate = params.signed_by(key, &issuer.0.issuer(issuer.1))?;
    Ok(certificate.der().to_vec())
}

/// The revocation list of an authority, DER, with the certificate of `revoked` on it if there is one.
pub(crate) fn revocation_list(
    issuer: (Role, &Key),
    validity: Validity,
    revoked: Option<&Key>,
) -> Result<Vec<u8>, DevQuoterError> {
    let time = |unix| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix);
    let revoked = revoked.map(|key| RevokedCertParams {
        serial_number: serial(key),
        revocation_time: time(validity.issued),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: time(validity.issued),
        next_update: time(validity.next_update),
        // It grows with each list, and nothing has to be remembered.
        crl_number: SerialNumber::from(validity.issued),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&issuer.0.issuer(issuer.1))?.der().to_vec())
}

/// 16 positive bytes that follow from the key, so that a certificate can be revoked without being read.
fn serial(key: &Key) -> SerialNumber {
    let digest = mesh_protocol::sha256(key.der_bytes());
    let mut serial = digest[..16].to_vec();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    SerialNumber::from(serial)
}
