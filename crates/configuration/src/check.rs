//! From what was written to what is valid. Every check goes on after a failure, so that one report names them all.

mod attestation;
mod authentication;
mod balancing;
mod command;
mod endpoints;
mod gateway;
mod matching;
mod pattern;
mod policies;
mod rate_limits;
mod releases;
mod requests;
mod rollout;
mod routes;
mod runs;
mod secrets;
mod service;
mod shared_limits;
mod store;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::{ByteSize, Mode, NodeName};

use crate::load::{ConfigCheck, EXAMPLE};
use crate::raw::{RawFile, RawTelemetry};
use crate::report::{Finding, Origin};
use crate::scalar::{AccessLog, Field, Mismatch, Scalar, Text, Whole, quoted};
use crate::settings::{LogFormat, Percent, Settings, Telemetry};
use types::duration;

/// The shortest duration that most keys take.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// The longest duration that any key takes.
const MAX_DURATION: Duration = Duration::from_secs(86_400);
/// The sizes that a request body may be limited to. Nobody sends more than the largest, and no sum with it overflows.
const BODY_BYTES: RangeInclusive<ByteSize> = ByteSize(1)..=ByteSize(1 << 40);
/// The longest name of a domain, in bytes (RFC 1035, section 2.3.4).
const MAX_DOMAIN_BYTES: usize = 253;
/// The longest label of one, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// What a trust domain of development evidence ends in, so that nobody takes it for a real one.
const DEVELOPMENT_DOMAIN: &str = ".dev.invalid";
const OWN_DOMAIN: &str =
    "write `trustDomain: mesh.example.org`, a name of your own that stays: every identity carries it";

/// What a file cannot know about itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// What the paths of the file are relative to; absolute.
    pub(crate) base_dir: &'a Path,
    /// The data directory of the command line; absolute.
    pub(crate) data_dir: Option<&'a Path>,
    pub(crate) cores: NonZeroUsize,
    pub(crate) config_check: ConfigCheck,
}

/// Turns a file into settings, or into everything that is wrong with it.
pub(crate) fn settings(raw: RawFile, surroundings: &Surroundings<'_>) -> Result<Settings, Vec<Finding>> {
    let mut checker = Checker {
        findings: Vec::new(),
        config_check: surroundings.config_check,
        mode: None,
        body_bytes: *BODY_BYTES.start(),
    };
    let mode_origin = raw.mode.origin;
    checker.mode = checker.value("mode", raw.mode);
    let data_dir = match surroundings.data_dir {
        Some(given) => given.to_owned(),
        None => checker.path(surroundings.base_dir, &raw.data_dir, "dataDir"),
    };
    let [admin, mesh] =
        checker.addresses(&raw.gateway.listen, [("admin", &raw.admin.listen), ("mesh", &raw.mesh.listen)]);
    let settings = Settings {
        mode: checker.mode.unwrap_or(Mode::Development),
        trust_domain: checker.trust_domain(raw.trust_domain, mode_origin),
        node: raw.node.and_then(|node| checker.node(&node)),
        store: checker.store(raw.store, surroundings.base_dir),
        telemetry: checker.telemetry(raw.telemetry, &data_dir),
        data_dir,
        admin,
        mesh,
        // Before the services, whose routes may go by it.
        gateway: checker.gateway(raw.gateway, surroundings),
        secrets: checker.secrets(raw.secrets),
        services: checker.services(raw.services, surroundings.base_dir),
    };
    if checker.findings.is_empty() { Ok(settings) } else { Err(checker.findings) }
}

/// Collects what is wrong. A wrong value is replaced by any right one, since the settings are then thrown away.
struct Checker {
    findings: Vec<Finding>,
    config_check: ConfigCheck,
    /// `None` while it is not known, or wrong: then nothing is wrong for the sake of the mode.
    mode: Option<Mode>,
    /// The largest body of the gateway, once that is known.
    body_bytes: ByteSize,
}

impl Checker {
    fn wrong(&mut self, origin: Origin, message: String, help: Option<String>) {
        self.findings.push(Finding { origin, message, help });
    }

    fn mismatch(&mut self, origin: Origin, key: &str, expected: &str, mismatch: Mismatch) {
        self.wrong(origin, format!("{key}: expected {expected}, found {}", mismatch.found), mismatch.help);
    }

    /// The value, whatever it is, as long as it has the right type.
    fn value<T: Scalar>(&mut self, key: &str, field: Field<T>) -> Option<T> {
        field.value.map_err(|mismatch| self.mismatch(field.origin, key, T::EXPECTED, mismatch)).ok()
    }

    fn flag(&mut self, key: &str, field: Field<bool>) -> bool {
        self.value(key, field).unwrap_or_default()
    }

    /// A whole number of that range, which lies within `u32`.
    fn whole(&mut self, key: &str, field: Field<Whole>, range: RangeInclusive<i128>) -> u32 {
        let mismatch = match field.value {
            Ok(Whole(number)) if range.contains(&number) => {
                return u32::try_from(number).expect("every range of a whole number lies within u32");
            }
            Ok(Whole(number)) => Mismatch { found: format!("`{number}`"), help: None },
            Err(mismatch) => mismatch,
        };
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.mismatch(field.origin, key, &expected, mismatch);
        1
    }

    fn count(&mut self, key: &str, field: Field<Whole>, range: RangeInclusive<i128>) -> usize {
        usize::try_from(self.whole(key, field, range)).unwrap_or(usize::MAX)
    }

    /// A duration from 1 ms to 1 day.
    fn duration(&mut self, key: &str, field: Field<Duration>) -> Duration {
        self.duration_within(key, field, MIN_DURATION..=MAX_DURATION)
    }

    fn duration_within(
        &mut self,
        key: &str,
        field: Field<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let origin = field.origin;
        match self.value(key, field) {
            Some(duration) if range.contains(&duration) => duration,
            Some(duration) => {
                let [least, most, found] = [*range.start(), *range.end(), duration].map(duration::text);
                let message = format!("{key}: expected a duration from {least} to {most}, found `{found}`");
                self.wrong(origin, message, None);
                MAX_DURATION
            }
            None => MAX_DURATION,
        }
    }

    fn percent(&mut self, key: &str, field: Field<Percent>) -> Percent {
        self.value(key, field).unwrap_or(Percent::ZERO)
    }

    /// The first duration may not be longer than the second. The finding stands where somebody wrote one of the two.
    fn ordered(
        &mut self,
        parent: &str,
        short: (&str, Field<Duration>),
        long: (&str, Field<Duration>),
    ) -> [Duration; 2] {
        let ((short_name, short), (long_name, long)) = (short, long);
        let (short_key, long_key) = (format!("{parent}.{short_name}"), format!("{parent}.{long_name}"));
        let origin = if short.origin == Origin::Default { long.origin } else { short.origin };
        let by_default = |origin| if origin == Origin::Default { ", the default" } else { "" };
        let (short_default, long_default) = (by_default(short.origin), by_default(long.origin));
        let before = self.findings.len();
        let (short, long) = (self.duration(&short_key, short), self.duration(&long_key, long));
        if self.findings.len() == before && short > long {
            let (short_text, long_text) = (duration::text(short), duration::text(long));
            self.wrong(
                origin,
                format!(
                    "{parent}: {short_name} (`{short_text}`{short_default}) is longer than {long_name} (`{long_text}`{long_default})"
                ),
                Some(format!("write `{short_name}: {long_text}` or less, or a longer {long_name}")),
            );
        }
        [short, long]
    }

    fn size(&mut self, key: &str, field: Field<ByteSize>, range: RangeInclusive<ByteSize>) -> ByteSize {
        let origin = field.origin;
        match self.value(key, field) {
            Some(size) if range.contains(&size) => size,
            Some(size) => {
                let (least, most) = (range.start(), range.end());
                let message = format!("{key}: expected a size from {least} to {most}, found `{size}`");
                self.wrong(origin, message, None);
                *least
            }
            None => *range.start(),
        }
    }

    fn path(&mut self, base: &Path, path: &Text, key: &str) -> PathBuf {
        if path.value.is_empty() || path.value.contains('\0') {
            self.wrong(path.origin, format!("{key}: expected a path, found {}", quoted(&path.value)), None);
        }
        // `components` leaves out `.`, so that `./state` and `state` are the same directory in every message.
        base.join(&path.value).components().collect()
    }

    fn is_production(&self) -> bool {
        self.mode == Some(Mode::Production)
    }

    fn trust_domain(&mut self, domain: Text, mode_origin: Origin) -> String {
        let found = quoted(&domain.value);
        let of_development = domain.value.ends_with(DEVELOPMENT_DOMAIN);
        if !is_domain_name(&domain.value) {
            self.wrong(
                domain.origin,
                format!("trustDomain: expected a name such as serviceos.dev.invalid, found {found}"),
                Some("use lower-case letters, digits and hyphens, with dots between".to_owned()),
            );
        } else if self.is_production() && domain.origin == Origin::Default {
            let message = "trustDomain: production needs a trust domain of its own".to_owned();
            self.wrong(mode_origin, message, Some(OWN_DOMAIN.to_owned()));
        } else if self.is_production() && of_development {
            let message = format!(
                "trustDomain: what ends in {DEVELOPMENT_DOMAIN} is a trust domain of development, found {found}"
            );
            self.wrong(domain.origin, message, Some(OWN_DOMAIN.to_owned()));
        } else if self.mode == Some(Mode::Development) && !of_development {
            self.wrong(
                domain.origin,
                format!(
                    "trustDomain: a trust domain of development ends in {DEVELOPMENT_DOMAIN}, found {found}"
                ),
                Some("development evidence must never pass for real evidence".to_owned()),
            );
        }
        domain.value
    }

    fn node(&mut self, node: &Text) -> Option<NodeName> {
        let name = node.value.parse();
        if name.is_err() {
            let message = format!("node: expected a name such as rack-2, found {}", quoted(&node.value));
            let help = format!(
                "use letters, digits and hyphens, 1 to {} of them, with no hyphen at an end; no two machines have the same",
                NodeName::MAX_BYTES
            );
            self.wrong(node.origin, message, Some(help));
        }
        name.ok()
    }

    fn telemetry(&mut self, raw: RawTelemetry, data_dir: &Path) -> Telemetry {
        let access_log = match self.value("telemetry.accessLog", raw.access_log) {
            Some(AccessLog::Path(path)) => Some(data_dir.join(path).components().collect()),
            Some(AccessLog::Off) | None => None,
        };
        Telemetry { logs: self.value("telemetry.logs", raw.logs).unwrap_or(LogFormat::Text), access_log }
    }

    fn no_services(&mut self) {
        let help = format!("add one, for example:\n{EXAMPLE}");
        self.wrong(Origin::Default, "no service is configured".to_owned(), Some(help));
    }
}

/// Labels of lower-case letters, digits and hyphens, with dots between.
fn is_domain_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner =
            label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && inner
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_DOMAIN_BYTES && name.split('.').all(label)
}
