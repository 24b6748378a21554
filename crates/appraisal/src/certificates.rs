//! What certificates and revocation lists say of themselves, read before the verifier judges their signatures: it refuses with
//! a text, and a refusal needs a code.

use jiff::Timestamp;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode};
use x509_cert::time::Time;

use crate::{Code, Fault};

/// A moment from which on and one until which something holds, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What is said of something outside its window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes {
    pub(crate) early: Code,
    pub(crate) late: Code,
}

pub(crate) const OF_COLLATERAL: Codes =
    Codes { early: Code::CollateralNotYetValid, late: Code::CollateralExpired };
pub(crate) const OF_CERTIFICATES: Codes =
    Codes { early: Code::CertificateNotYetValid, late: Code::CertificateExpired };

impl Window {
    pub(crate) fn check(self, what: &str, now: u64, codes: Codes) -> Result<(), Fault> {
        if now < self.from {
            let detail = format!("{what} holds from {} on, and it is {}", shown(self.from), shown(now));
            return Err(Fault::new(codes.early, detail));
        }
        if now > self.until {
            let detail = format!("{what} held until {}, and it is {}", shown(self.until), shown(now));
            return Err(Fault::new(codes.late, detail));
        }
        Ok(())
    }
}

fn shown(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| format!("{seconds} s"), |timestamp| timestamp.to_string())
}

/// A chain in PEM, the leaf first.
pub(crate) fn chain(pem: &[u8], what: &str) -> Result<Vec<Certificate>, Fault> {
    let end =
        pem.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    let malformed = || Fault::new(Code::EvidenceMalformed, format!("{what} is no chain of certificates"));
    let chain = Certificate::load_pem_chain(&pem[..end]).map_err(|_| malformed())?;
    if chain.is_empty() { Err(malformed()) } else { Ok(chain) }
}

/// The chain ends in the root, or below it.
pub(crate) fn leads_to(chain: &[Certificate], root: &Certificate, what: &str) -> Result<(), Fault> {
    let untrusted = || {
        let detail = format!("{what} does not lead to the root that evidence of this kind is judged by");
        Fault::new(Code::ChainUntrusted, detail)
    };
    let last = chain.last().ok_or_else(untrusted)?.tbs_certificate();
    let top = root.tbs_certificate();
    let is_root = last.issuer() == last.subject();
    let same_key = last.subject_public_key_info() == top.subject_public_key_info();
    let below = last.issuer() == top.subject();
    if (is_root && same_key) || (!is_root && below) { Ok(()) } else { Err(untrusted()) }
}

/// Every certificate of a chain is valid.
pub(crate) fn are_valid(chain: &[Certificate], what: &str, now: u64) -> Result<(), Fault> {
    for certificate in chain {
        let validity = certificate.tbs_certificate().validity();
        let window = Window { from: seconds(validity.not_before), until: seconds(validity.not_after) };
        window.check(what, now, OF_CERTIFICATES)?;
    }
    Ok(())
}

fn seconds(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

/// A certificate in DER.
pub(crate) fn certificate(der: &[u8]) -> Result<Certificate, Fault> {
    Certificate::from_der(der)
        .map_err(|_| Fault::new(Code::ChainUntrusted, "the configured root is no certificate"))
}

/// A revocation list in DER, at its time.
pub(crate) fn revocations(der: &[u8], what: &str, now: u64) -> Result<CertificateList, Fault> {
    if der.is_empty() {
        return Err(Fault::new(Code::RevocationUnknown, format!("{what} is missing")));
    }
    let list = CertificateList::from_der(der)
        .map_err(|_| Fault::new(Code::EvidenceMalformed, format!("{what} cannot be read")))?;
    // The verifier counts a list as expired in the very second that its next one is announced for.
    let until = list.tbs_cert_list.next_update.map_or(u64::MAX, |next| seconds(next).saturating_sub(1));
    Window { from: seconds(list.tbs_cert_list.this_update), until }.check(what, now, OF_COLLATERAL)?;
    Ok(list)
}

/// The list is of whoever issued the certificate, and does not name it.
pub(crate) fn not_revoked(certificate: &Certificate, list: &CertificateList) -> Result<(), Fault> {
    let certificate = certificate.tbs_certificate();
    if *certificate.issuer() != list.tbs_cert_list.issuer {
        let detail = "the revocation list is that of another issuer than the platform certificate's";
        return Err(Fault::new(Code::CollateralMismatch, detail));
    }
    let revoked = list.tbs_cert_list.revoked_certificates.iter().flatten();
    if revoked.clone().any(|entry| entry.serial_number == *certificate.serial_number()) {
        return Err(Fault::new(Code::CertificateRevoked, "the platform's certificate is revoked"));
    }
    Ok(())
}

/// The certificate in DER.
pub(crate) fn der(certificate: &Certificate) -> Result<Vec<u8>, Fault> {
    certificate.to_der().map_err(|_| Fault::new(Code::EvidenceMalformed, "a certificate cannot be written"))
}
