//! From what was written to what is valid. Every check goes on after a failure, so that one report names them all.

mod routes;
mod service;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::ByteSize;

use crate::load::{ConfigCheck, EXAMPLE};
use crate::raw::{RawFile, RawGateway, RawLimits, RawTelemetry};
use crate::report::{Finding, Origin};
use crate::scalar::{AccessLog, Field, Mismatch, Mode, Scalar, Text, Whole, Workers, quoted};
use crate::settings::{GatewayLimits, GatewaySettings, LogFormat, Settings, Telemetry};
use types::duration;

/// The longest duration that any key takes.
const MAX_DURATION: Duration = Duration::from_secs(86_400);
const MAX_WORKERS: i128 = 512;
/// Every other whole number fits into 32 bits.
const MAX_COUNT: i128 = u32::MAX as i128;
/// The longest trust domain, in bytes (RFC 1035, section 2.3.4).
const MAX_DOMAIN_BYTES: usize = 253;
/// The longest label of a trust domain, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// What a trust domain of development evidence ends in, so that nobody takes it for a real one.
const DEVELOPMENT_DOMAIN: &str = ".dev.invalid";

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
    let mut checker = Checker { findings: Vec::new(), config_check: surroundings.config_check };
    checker.mode(&raw.mode);
    let data_dir = match surroundings.data_dir {
        Some(given) => given.to_owned(),
        None => checker.path(surroundings.base_dir, &raw.data_dir, "dataDir"),
    };
    let settings = Settings {
        trust_domain: checker.trust_domain(raw.trust_domain),
        telemetry: checker.telemetry(raw.telemetry, &data_dir),
        data_dir,
        admin: checker.addresses(&raw.gateway.listen, &raw.admin.listen),
        gateway: checker.gateway(raw.gateway, surroundings.cores),
        services: checker.services(raw.services),
    };
    if checker.findings.is_empty() { Ok(settings) } else { Err(checker.findings) }
}

/// Collects what is wrong. A wrong value is replaced by any right one, since the settings are then thrown away.
struct Checker {
    findings: Vec<Finding>,
    config_check: ConfigCheck,
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
        let expected = match range.into_inner() {
            (least, MAX_COUNT) => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        self.mismatch(field.origin, key, &expected, mismatch);
        1
    }

    fn count(&mut self, key: &str, field: Field<Whole>) -> usize {
        usize::try_from(self.whole(key, field, 1..=MAX_COUNT)).unwrap_or(usize::MAX)
    }

    /// A duration from 1 ms to 1 day.
    fn duration(&mut self, key: &str, field: Field<Duration>) -> Duration {
        let origin = field.origin;
        match self.value(key, field) {
            Some(duration) if !duration.is_zero() && duration <= MAX_DURATION => duration,
            Some(duration) => {
                let message = format!(
                    "{key}: expected a duration from 1ms to 1d, found `{}`",
                    duration::text(duration)
                );
                self.wrong(origin, message, None);
                MAX_DURATION
            }
            None => MAX_DURATION,
        }
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

    /// A size of at least one byte.
    fn size(&mut self, key: &str, field: Field<ByteSize>) -> ByteSize {
        let origin = field.origin;
        match self.value(key, field) {
            Some(ByteSize(0)) => {
                self.wrong(origin, format!("{key}: expected a size of at least 1B, found `0B`"), None);
                ByteSize(1)
            }
            size => size.unwrap_or(ByteSize(1)),
        }
    }

    fn path(&mut self, base: &Path, path: &Text, key: &str) -> PathBuf {
        if path.value.is_empty() || path.value.contains('\0') {
            self.wrong(path.origin, format!("{key}: expected a path, found {}", quoted(&path.value)), None);
        }
        // `components` leaves out `.`, so that `./state` and `state` are the same directory in every message.
        base.join(&path.value).components().collect()
    }

    fn mode(&mut self, mode: &Field<Mode>) {
        if self.value("mode", mode.clone()) == Some(Mode::Production) {
            self.wrong(
                mode.origin,
                "mode: production is refused: it needs attested joining, which this version does not have"
                    .to_owned(),
                Some("leave `mode` out, or write `mode: development`".to_owned()),
            );
        }
    }

    fn trust_domain(&mut self, domain: Text) -> String {
        let label = |label: &str| {
            let inner =
                label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && inner
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let found = quoted(&domain.value);
        if domain.value.len() > MAX_DOMAIN_BYTES || !domain.value.split('.').all(label) {
            self.wrong(
                domain.origin,
                format!("trustDomain: expected a name such as serviceos.dev.invalid, found {found}"),
                Some("use lower-case letters, digits and hyphens, with dots between".to_owned()),
            );
        } else if !domain.value.ends_with(DEVELOPMENT_DOMAIN) {
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

    fn telemetry(&mut self, raw: RawTelemetry, data_dir: &Path) -> Telemetry {
        let access_log = match self.value("telemetry.accessLog", raw.access_log) {
            Some(AccessLog::Path(path)) => Some(data_dir.join(path).components().collect()),
            Some(AccessLog::Off) | None => None,
        };
        Telemetry { logs: self.value("telemetry.logs", raw.logs).unwrap_or(LogFormat::Text), access_log }
    }

    fn gateway(&mut self, raw: RawGateway, cores: NonZeroUsize) -> GatewaySettings {
        let origin = raw.workers.origin;
        let workers = match self.value("gateway.workers", raw.workers) {
            Some(Workers::Exactly(number)) if (1..=MAX_WORKERS).contains(&number) => {
                usize::try_from(number).ok()
            }
            Some(Workers::Exactly(number)) => {
                let message = format!("gateway.workers: expected {}, found `{number}`", Workers::EXPECTED);
                self.wrong(origin, message, None);
                None
            }
            Some(Workers::OnePerCore) | None => None,
        };
        GatewaySettings {
            listen: raw.listen.into_iter().filter_map(|field| field.value.ok()).collect(),
            workers: workers.and_then(NonZeroUsize::new).unwrap_or(cores),
            limits: self.limits(raw.limits),
        }
    }

    fn limits(&mut self, raw: RawLimits) -> GatewayLimits {
        GatewayLimits {
            header_bytes: self.size("gateway.limits.headerBytes", raw.header_bytes),
            headers: self.count("gateway.limits.headers", raw.headers),
            url_bytes: self.size("gateway.limits.urlBytes", raw.url_bytes),
            body_bytes: self.size("gateway.limits.bodyBytes", raw.body_bytes),
            header_timeout: self.duration("gateway.limits.headerTimeout", raw.header_timeout),
            idle_timeout: self.duration("gateway.limits.idleTimeout", raw.idle_timeout),
            request_timeout: self.duration("gateway.limits.requestTimeout", raw.request_timeout),
            connections: self.count("gateway.limits.connections", raw.connections),
            requests: self.count("gateway.limits.requests", raw.requests),
        }
    }

    /// No two listeners may want the same port of the same address. Returns the admin's.
    fn addresses(&mut self, gateway: &[Field<SocketAddr>], admin: &Field<SocketAddr>) -> SocketAddr {
        if gateway.is_empty() {
            let help = Some("leave it out for 127.0.0.1:8080".to_owned());
            self.wrong(Origin::Default, "gateway.listen: expected at least one address".to_owned(), help);
        }
        let keyed = gateway.iter().map(|field| ("gateway.listen", field)).chain([("admin.listen", admin)]);
        let mut taken: Vec<(&str, Origin, SocketAddr)> = Vec::new();
        for (key, field) in keyed {
            let Some(address) = self.value(key, field.clone()) else { continue };
            if let Some((other, at, _)) = taken.iter().find(|(.., other)| clash(*other, address)) {
                let message = format!("{key}: {address} is already taken by {other} ({at})");
                // Whoever wrote one of the two sees the marker there.
                let origin = if field.origin == Origin::Default { *at } else { field.origin };
                self.wrong(
                    origin,
                    message,
                    Some("choose another port, or port 0 for any free one".to_owned()),
                );
            }
            taken.push((key, field.origin, address));
        }
        admin.value.as_ref().copied().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn no_services(&mut self) {
        let help = format!("add one, for example:\n{EXAMPLE}");
        self.wrong(Origin::Default, "no service is configured".to_owned(), Some(help));
    }
}

/// Whether binding both fails: an unspecified address takes the port of every address of its family.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_family && same_host
}
