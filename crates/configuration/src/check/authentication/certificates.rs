//! Certificates of clients that are credentials.

use std::collections::BTreeMap;

use super::super::Checker;
use crate::raw::RawClientCertificates;
use crate::report::Origin;
use crate::scalar::{Spanned, Text, quoted};
use crate::settings::{CertificateSettings, TierSettings, TlsSettings};

const KEY: &str = "gateway.authentication.clientCertificates";
/// The most certificates that the file names.
const MAX_NAMES: usize = 1_000;
/// The longest name of a certificate, in bytes: that of a SPIFFE ID with room to spare.
const MAX_NAME_BYTES: usize = 2_048;
const SPIFFE: &str = "spiffe://";

impl Checker {
    pub(super) fn client_certificates(
        &mut self,
        raw: Spanned<RawClientCertificates>,
        tls: Option<&TlsSettings>,
        tiers: &BTreeMap<String, TierSettings>,
    ) -> CertificateSettings {
        let origin = Origin::from(raw.referenced);
        let RawClientCertificates { scopes, tenant, tier } = raw.value;
        if tls.is_none_or(|tls| tls.client_ca.is_none()) {
            let message = format!("{KEY}: no client is asked for a certificate");
            let help = "name the authority of your clients in gateway.tls.clientCa";
            self.wrong(origin, message, Some(help.to_owned()));
        }
        if let Some((name, _)) = scopes.0.get(MAX_NAMES) {
            self.wrong(name.origin, format!("{KEY}.scopes: there are at most {MAX_NAMES} names"), None);
        }
        CertificateSettings {
            scopes: self.scopes_by_name(KEY, scopes, Self::certificate_name),
            tenant: tenant.map(|tenant| self.tenant(KEY, tenant)),
            tier: tier.map(|tier| self.tier(KEY, tier, tiers)),
        }
    }

    fn certificate_name(&mut self, name: &Text) {
        let printable = name.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let is_name = match name.value.strip_prefix(SPIFFE) {
            // The wildcard is the whole last segment, and there is one domain before it.
            Some(rest) => {
                let id = rest.strip_suffix("/*").unwrap_or(rest);
                let domain = id.split('/').next().unwrap_or_default();
                !domain.is_empty() && !id.contains(['*', ' ', '?', '#', '%']) && !id.ends_with('/')
            }
            None => name.value.contains('='),
        };
        if !printable || !is_name || name.value.len() > MAX_NAME_BYTES {
            let message = format!(
                "{KEY}.scopes: expected a SPIFFE ID or the subject of a certificate, found {}",
                quoted(&name.value)
            );
            let help = "write spiffe://partner/feeds, spiffe://partner/* for all beneath it, or a subject such as CN=feeds,O=Partner";
            self.wrong(name.origin, message, Some(help.to_owned()));
        }
    }
}
