//! Which evidence a service is admitted with, and what production wants to have written about it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Checker;
use super::releases::ReleaseTable;
use crate::raw::{RawAttestation, RawPlatform, RawTcb};
use crate::report::Origin;
use crate::scalar::{AnyWord, AttestationWord, Field, Mismatch, Scalar, Spanned, Text, WordOr, quoted};
use crate::settings::{AttestationSettings, PlatformAllow, PlatformSettings, TcbSettings, TcbStatus};

/// How long an identity may live.
const IDENTITY_TTL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(86_400);
const MAX_GRACE_DAYS: i128 = 365;
/// The longest name of an advisory, in bytes.
const MAX_ADVISORY_BYTES: usize = 64;
/// A hardware id in hexadecimal digits: from Intel's 16 bytes to AMD's 64.
const HARDWARE_ID_DIGITS: RangeInclusive<usize> = 32..=128;

/// `attestation` as it is written.
pub(super) type WrittenAttestation = Spanned<WordOr<AttestationWord, RawAttestation>>;

impl Checker {
    /// That of a service whose processes are started here; `origin` is where the service stands.
    pub(super) fn attestation(
        &mut self,
        service: &str,
        origin: Origin,
        written: Option<WrittenAttestation>,
        table: &mut ReleaseTable,
    ) -> AttestationSettings {
        let key = format!("{service}.attestation");
        let raw = match written.map(|written| (Origin::from(written.referenced), written.value)) {
            Some((origin, WordOr::Larger(raw))) => {
                if self.is_production() {
                    self.said_in_production(&key, origin, &raw);
                }
                raw
            }
            Some((origin, WordOr::Word(word))) => {
                self.not_attested(&key, origin, word);
                RawAttestation::default()
            }
            None => {
                if self.is_production() {
                    self.wrong(origin, format!("{service}: production starts nothing without a policy"), Some(
                        "write `attestation: {releases: [{version: 1.0.0, sgx: {mrenclave: …}}], platform: {allow: any}}`".to_owned(),
                    ));
                }
                RawAttestation::default()
            }
        };
        AttestationSettings {
            releases: self.releases(service, &format!("{key}.releases"), raw.releases, table),
            tcb: self.tcb(&format!("{key}.tcb"), raw.tcb),
            platform: self.platform(&format!("{key}.platform"), raw.platform),
            identity_ttl: self.duration_within(&format!("{key}.identityTtl"), raw.identity_ttl, IDENTITY_TTL),
        }
    }

    /// That of endpoints, which is written although it says that there is none.
    pub(super) fn attestation_of_endpoints(
        &mut self,
        service: &str,
        origin: Origin,
        written: Option<WrittenAttestation>,
    ) {
        let word = written.map(|written| (Origin::from(written.referenced), written.value));
        match word {
            Some((origin, WordOr::Word(value))) => {
                self.value(&format!("{service}.attestation"), Field { value, origin });
            }
            Some((origin, WordOr::Larger(_))) => self.wrong(
                origin,
                format!(
                    "{service}.attestation: endpoints are outside of the mesh, where nobody attests them"
                ),
                Some("write `attestation: none`".to_owned()),
            ),
            None => self.wrong(
                origin,
                format!("{service}: nobody attests endpoints, and the file must say so"),
                Some("write `attestation: none` beside them".to_owned()),
            ),
        }
    }

    fn not_attested(&mut self, key: &str, origin: Origin, word: Result<AttestationWord, Mismatch>) {
        let Some(AttestationWord::None) = self.value(key, Field { value: word, origin }) else { return };
        if self.is_production() {
            let message = format!(
                "{key}: in production a plain server may run a service that nobody attests, but this version cannot start one there"
            );
            let help = "write the releases, or run the service elsewhere and name it by `endpoints`";
            self.wrong(origin, message, Some(help.to_owned()));
        } else {
            let message = format!("{key}: only a service with endpoints says this");
            self.wrong(origin, message, Some("leave it out".to_owned()));
        }
    }

    fn said_in_production(&mut self, key: &str, origin: Origin, raw: &RawAttestation) {
        if raw.releases.is_none() {
            let help = "write `releases: [{version: 1.0.0, sgx: {mrenclave: …}}]`";
            let message = format!("{key}.releases: production measures nothing by itself");
            self.wrong(origin, message, Some(help.to_owned()));
        }
        if raw.platform.allow.is_none() {
            let help = "write `platform: {allow: any}`, or a list of hardware ids";
            let message =
                format!("{key}.platform.allow: in production the file says which machines may run it");
            self.wrong(origin, message, Some(help.to_owned()));
        }
    }

    fn tcb(&mut self, key: &str, raw: RawTcb) -> TcbSettings {
        let accept = match raw.accept {
            Some(accept) => {
                let accept_key = format!("{key}.accept");
                if accept.value.is_empty() {
                    let message = format!("{accept_key}: expected at least one status");
                    let help = "leave it out for `[UpToDate]`";
                    self.wrong(accept.referenced.into(), message, Some(help.to_owned()));
                }
                let statuses = accept.value.into_iter().filter_map(|status| self.value(&accept_key, status));
                statuses.collect::<BTreeSet<_>>().into_iter().collect()
            }
            None => vec![TcbStatus::UpToDate],
        };
        let advisories_key = format!("{key}.rejectAdvisories");
        TcbSettings {
            accept,
            grace_days: self.whole(&format!("{key}.graceDays"), raw.grace_days, 0..=MAX_GRACE_DAYS),
            reject_advisories: raw
                .reject_advisories
                .into_iter()
                .map(|advisory| self.advisory(&advisories_key, advisory))
                .collect(),
        }
    }

    fn advisory(&mut self, key: &str, advisory: Text) -> String {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !advisory.value.bytes().all(allowed) || !(1..=MAX_ADVISORY_BYTES).contains(&advisory.value.len()) {
            let found = quoted(&advisory.value);
            let message = format!("{key}: expected an advisory such as INTEL-SA-00615, found {found}");
            self.wrong(advisory.origin, message, None);
        }
        advisory.value
    }

    fn platform(&mut self, key: &str, raw: RawPlatform) -> PlatformSettings {
        PlatformSettings {
            smt: self.flag(&format!("{key}.smt"), raw.smt),
            dynamic_platform: self.flag(&format!("{key}.dynamicPlatform"), raw.dynamic_platform),
            cached_keys: self.flag(&format!("{key}.cachedKeys"), raw.cached_keys),
            allow: match raw.allow {
                Some(allow) => self.machines(&format!("{key}.allow"), allow),
                None => PlatformAllow::Any,
            },
        }
    }

    fn machines(&mut self, key: &str, written: Spanned<WordOr<AnyWord, Vec<Text>>>) -> PlatformAllow {
        let origin = Origin::from(written.referenced);
        match written.value {
            WordOr::Word(value) => {
                self.value(key, Field { value, origin });
                PlatformAllow::Any
            }
            WordOr::Larger(ids) => {
                if ids.is_empty() {
                    let message = format!("{key}: expected {}, found an empty list", AnyWord::EXPECTED);
                    let help = "no machine could run it; write `allow: any` for every machine";
                    self.wrong(origin, message, Some(help.to_owned()));
                }
                PlatformAllow::Only(ids.into_iter().map(|id| self.hardware_id(key, &id)).collect())
            }
        }
    }

    /// In lower case, as it is compared.
    fn hardware_id(&mut self, key: &str, id: &Text) -> String {
        let digits = id.value.len();
        let hexadecimal = id.value.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hexadecimal || !HARDWARE_ID_DIGITS.contains(&digits) || !digits.is_multiple_of(2) {
            let message = format!(
                "{key}: expected a hardware id, {} to {} hexadecimal digits, found {}",
                HARDWARE_ID_DIGITS.start(),
                HARDWARE_ID_DIGITS.end(),
                quoted(&id.value)
            );
            let any = id.value == "any";
            self.wrong(id.origin, message, any.then(|| "write `allow: any`, without a list".to_owned()));
        }
        id.value.to_ascii_lowercase()
    }
}
