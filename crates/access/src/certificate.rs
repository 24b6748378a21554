//! Certificates of clients: what a certificate calls its holder, and what the file lets such a holder do. Whether the certificate
//! is to be trusted was judged before.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::{Certificate, TbsCertificate};

/// What a SPIFFE ID begins with (SPIFFE-ID section 2).
const SPIFFE: &str = "spiffe://";
/// The longest SPIFFE ID, in bytes (SPIFFE-ID section 2.3).
const MAX_SPIFFE_BYTES: usize = 2_048;
/// The longest subject, in bytes as text.
const MAX_SUBJECT_BYTES: usize = 2_048;
/// What stands at the end of a name of the file for all beneath it.
const BENEATH: &str = "/*";

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Nameless {
    /// It is none.
    #[error("the certificate cannot be read")]
    Malformed,
    /// One that means two holders means none (X.509-SVID section 2).
    #[error("the certificate has several SPIFFE IDs")]
    Several,
    /// The ID is too long, or not plain text.
    #[error("the name in the certificate is not one")]
    Malnamed,
    /// There is neither a SPIFFE ID nor a subject.
    #[error("the certificate has neither a SPIFFE ID nor a subject")]
    Nothing,
}

/// Whom a certificate was issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The SPIFFE ID, or else the subject as RFC 4514 writes it, in visible ASCII.
    pub name: String,
    /// From when on the certificate is over.
    pub until: Timestamp,
}

impl Holder {
    /// What the certificate says, in DER.
    ///
    /// # Errors
    /// Why it names nobody.
    pub fn of(certificate: &[u8]) -> Result<Self, Nameless> {
        let certificate = Certificate::from_der(certificate).map_err(|_| Nameless::Malformed)?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().map_err(|_| Nameless::Malformed)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let mut ids = names.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) if is_spiffe(uri.as_str()) => Some(uri.as_str()),
            _ => None,
        });
        let name = match (ids.next(), ids.next()) {
            (Some(_), Some(_)) => return Err(Nameless::Several),
            (Some(id), None) => plain(id, MAX_SPIFFE_BYTES)?,
            (None, _) if certificate.subject().is_empty() => return Err(Nameless::Nothing),
            (None, _) => plain(&escaped(&certificate.subject().to_string()), MAX_SUBJECT_BYTES)?,
        };
        Ok(Self { name, until: end(certificate) })
    }
}

/// From when on a certificate in DER is over; `None` where it is none.
pub fn end_of_certificate(certificate: &[u8]) -> Option<Timestamp> {
    Some(end(Certificate::from_der(certificate).ok()?.tbs_certificate()))
}

fn end(certificate: &TbsCertificate) -> Timestamp {
    let end = certificate.validity().not_after.to_unix_duration();
    // What never ends (RFC 5280 section 4.1.2.5) is later than any moment that there is here.
    Timestamp::UNIX_EPOCH.checked_add(end).unwrap_or(Timestamp::MAX)
}

fn is_spiffe(uri: &str) -> bool {
    uri.get(..SPIFFE.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(SPIFFE))
}

fn plain(name: &str, most: usize) -> Result<String, Nameless> {
    let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && name.trim() == name;
    if is_plain && name.len() <= most { Ok(name.to_owned()) } else { Err(Nameless::Malnamed) }
}

/// Other characters than those of ASCII in pairs of hex digits, as RFC 4514 section 2.4 allows.
fn escaped(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    for character in subject.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                text += &format!("\\{byte:02X}");
            }
        }
    }
    text
}

/// What the holders of certificates may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateRules {
    exact: BTreeMap<String, Vec<String>>,
    /// For all beneath these, which end in a slash; the longest first.
    beneath: Vec<(String, Vec<String>)>,
    /// Whom they act for.
    pub tenant: String,
    /// How much each of them may ask for, the name of a tier.
    pub tier: Arc<str>,
}

impl CertificateRules {
    /// Rules by name: a SPIFFE ID, one that ends in `/*` for all beneath it, or a subject.
    pub fn new(scopes: BTreeMap<String, Vec<String>>, tenant: String, tier: Arc<str>) -> Self {
        let (mut exact, mut beneath) = (BTreeMap::new(), Vec::new());
        for (name, scopes) in scopes {
            match name.strip_suffix('*').filter(|_| name.starts_with(SPIFFE) && name.ends_with(BENEATH)) {
                Some(prefix) => beneath.push((prefix.to_owned(), scopes)),
                None => drop(exact.insert(name, scopes)),
            }
        }
        beneath.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { exact, beneath, tenant, tier }
    }

    /// What the holder of this name may do; `None` for one that the file does not name. The most specific rule counts.
    pub fn scopes_of(&self, name: &str) -> Option<&[String]> {
        let beneath = |(prefix, _): &&(String, Vec<String>)| {
            name.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
        };
        let found = self.exact.get(name);
        let found = found.or_else(|| self.beneath.iter().find(beneath).map(|(_, scopes)| scopes));
        found.map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn holder(uris: &[&str], subject: &[(DnType, &str)]) -> Result<String, Nameless> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Holder::of(certificate.der()).map(|holder| holder.name)
    }

    #[test]
    fn a_certificate_names_its_holder_by_one_spiffe_id_or_by_its_subject() {
        let subject = [(DnType::OrganizationName, "Partner, Inc."), (DnType::CommonName, "feeds")];
        let of = |uris: &[&str]| holder(uris, &subject);
        assert_eq!(of(&["spiffe://partner/feeds"]).unwrap(), "spiffe://partner/feeds");
        assert_eq!(of(&["https://a.test", "spiffe://partner/feeds"]).unwrap(), "spiffe://partner/feeds");
        assert_eq!(of(&["spiffe://a/b", "spiffe://a/c"]), Err(Nameless::Several));
        assert_eq!(of(&["spiffe://a/b", "SPIFFE://a/c"]), Err(Nameless::Several));
        assert_eq!(of(&["https://a.test"]).unwrap(), "CN=feeds,O=Partner\\, Inc.");
        assert_eq!(holder(&[], &[(DnType::CommonName, "Jürgen")]).unwrap(), "CN=J\\C3\\BCrgen");
        assert_eq!(holder(&[], &[(DnType::CommonName, "a\r\nb: c")]).unwrap(), "CN=a\\0d\\0ab: c");
        assert_eq!(holder(&[], &[]), Err(Nameless::Nothing));
        assert_eq!(of(&[&format!("spiffe://a/{}", "b".repeat(2_048))]), Err(Nameless::Malnamed));
        assert_eq!(of(&["spiffe://a/b c "]), Err(Nameless::Malnamed));
        assert_eq!(Holder::of(b"none"), Err(Nameless::Malformed));
    }

    #[test]
    fn a_certificate_may_be_good_for_ever() {
        let until = |year| {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, "feeds");
            params.not_after = rcgen::date_time_ymd(year, 12, 31);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            Holder::of(certificate.der()).unwrap().until
        };
        assert_eq!(until(2049).to_string(), "2049-12-31T00:00:00Z");
        assert_eq!(until(9999), Timestamp::MAX);
    }

    #[test]
    fn the_most_specific_rule_counts_and_a_name_without_one_is_nobody() {
        let rule = |name: &str| (name.to_owned(), vec![name.to_owned()]);
        let names = ["spiffe://a/*", "spiffe://a/b/*", "spiffe://a/b/c", "spiffe://d", "CN=*", "CN=a,O=b/*"];
        let rules = CertificateRules::new(names.map(rule).into(), "default".to_owned(), "free".into());
        for (name, found) in [
            ("spiffe://a/b/c", Some("spiffe://a/b/c")),
            ("spiffe://a/b/d", Some("spiffe://a/b/*")),
            ("spiffe://a/b/c/d", Some("spiffe://a/b/*")),
            ("spiffe://a/b", Some("spiffe://a/*")),
            ("spiffe://a/bc", Some("spiffe://a/*")),
            ("spiffe://d", Some("spiffe://d")),
            ("spiffe://a/b/", Some("spiffe://a/*")),
            ("spiffe://a", None),
            ("spiffe://a/", None),
            ("spiffe://ab/c", None),
            ("spiffe://d/e", None),
            ("CN=x", None),
            ("CN=a,O=b/c", None),
            ("", None),
        ] {
            let scopes = rules.scopes_of(name).map(|scopes| scopes[0].as_str());
            assert_eq!(scopes, found, "{name}");
        }
    }
}
