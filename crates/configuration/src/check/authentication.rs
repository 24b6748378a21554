//! Who may call: API keys, the tokens of issuers, certificates of clients, signatures.

mod certificates;
mod issuer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Checker;
use crate::nearest::nearest;
use crate::raw::{Entries, RawAuthentication};
use crate::scalar::{Text, quoted};
use crate::settings::{Authentication, SignedRequests, TierSettings, TlsSettings};

/// The tiers that there are without a word in the file.
const BUILT_IN_TIERS: [&str; 4] = ["developer", "free", "production", "unlimited"];
/// The most scopes of one role or certificate.
const MAX_SCOPES: usize = 32;
/// The longest name of a tenant, in bytes.
const MAX_TENANT_BYTES: usize = 64;
/// How long a signature may be good. The longer, the more nonces have to be remembered.
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

impl Checker {
    pub(super) fn authentication(
        &mut self,
        raw: RawAuthentication,
        tls: Option<&TlsSettings>,
        tiers: &BTreeMap<String, TierSettings>,
        base_dir: &Path,
    ) -> Authentication {
        const KEY: &str = "gateway.authentication";
        let api_keys = self.flag(&format!("{KEY}.apiKeys"), raw.api_keys);
        let jwt = self.issuers(raw.jwt, tiers, base_dir);
        let client_certificates =
            raw.client_certificates.map(|raw| self.client_certificates(raw, tls, tiers));
        let signed_requests = raw.signed_requests.map(|raw| SignedRequests {
            max_age: self.duration_within(
                &format!("{KEY}.signedRequests.maxAge"),
                raw.value.max_age,
                MAX_AGE,
            ),
        });
        Authentication { api_keys, jwt, client_certificates, signed_requests }
    }

    /// What each role, or each certificate, may do.
    fn scopes_by_name(
        &mut self,
        key: &str,
        raw: Entries<Vec<Text>>,
        mut check_name: impl FnMut(&mut Self, &Text),
    ) -> BTreeMap<String, Vec<String>> {
        let mut scopes = BTreeMap::new();
        for (name, words) in raw.0 {
            check_name(self, &name);
            if words.len() > MAX_SCOPES {
                let message = format!(
                    "{key}.scopes: expected at most {MAX_SCOPES} scopes for {}, found {}",
                    quoted(&name.value),
                    words.len()
                );
                self.wrong(name.origin, message, None);
            }
            let mut once = BTreeSet::new();
            for word in words {
                once.insert(self.scope(key, word));
            }
            scopes.insert(name.value, once.into_iter().collect());
        }
        scopes
    }

    fn tenant(&mut self, key: &str, tenant: Text) -> String {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let length = 1..=MAX_TENANT_BYTES;
        if !length.contains(&tenant.value.len()) || !tenant.value.bytes().all(allowed) {
            let message =
                format!("{key}.tenant: expected a tenant such as partner, found {}", quoted(&tenant.value));
            let help = "a tenant is a word of letters, digits and the characters . _ - of at most 64 bytes";
            self.wrong(tenant.origin, message, Some(help.to_owned()));
        }
        tenant.value
    }

    /// Nobody is held to a tier that is misspelt.
    fn tier(&mut self, key: &str, tier: Text, tiers: &BTreeMap<String, TierSettings>) -> String {
        let known = || BUILT_IN_TIERS.into_iter().chain(tiers.keys().map(String::as_str));
        if !known().any(|known| known == tier.value) {
            let message = format!("{key}.tier: there is no tier {}", quoted(&tier.value));
            let help = match nearest(&tier.value, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "tiers stand in gateway.rateLimits.tiers; free, developer, production and unlimited are built in".to_owned(),
            };
            self.wrong(tier.origin, message, Some(help));
        }
        tier.value
    }

    /// Text that is neither empty nor longer than so many bytes, and of one line.
    fn short(&mut self, key: &str, text: &Text, example: &str, most: usize) {
        let length = 1..=most;
        if !length.contains(&text.value.len()) || text.value.chars().any(char::is_control) {
            let message = format!("{key}: expected {example}, found {}", quoted(&text.value));
            self.wrong(text.origin, message, Some(format!("it has 1 to {most} bytes, on one line")));
        }
    }
}
