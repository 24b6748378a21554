//! The gateway: its listeners, who it believes and its limits.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use types::ByteSize;

use super::{BODY_BYTES, Checker, Surroundings};
use crate::raw::{RawCertificate, RawGateway, RawLimits, RawTls};
use crate::report::Origin;
use crate::scalar::{Field, Scalar, Spanned, Text, Workers};
use crate::settings::{CertificateFiles, GatewayLimits, GatewaySettings, Line, TlsSettings};

const MAX_WORKERS: i128 = 512;
/// All header lines of a request. The least has room for a host; the most is held in memory for each connection that sends
/// so much, and with the longest URL it is still less than the 1 MiB that the built-in services read.
const HEADER_BYTES: RangeInclusive<ByteSize> = ByteSize(256)..=ByteSize(512 << 10);
/// Header lines of a request; with what the gateway adds the most is no more than the built-in services read.
const MAX_HEADERS: i128 = 1_000;
/// A path and query. In HTTP/2 none is longer than 64 KiB, where its parser ends.
const URL_BYTES: RangeInclusive<ByteSize> = ByteSize(64)..=ByteSize(32 << 10);
/// The most connections, and the most requests, at the same time.
const MAX_AT_ONCE: i128 = 1_000_000;

impl Checker {
    pub(super) fn gateway(&mut self, raw: RawGateway, surroundings: &Surroundings<'_>) -> GatewaySettings {
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
        let tls = raw.tls.map(|tls| self.tls(tls, surroundings.base_dir));
        let rate_limits = self.rate_limits(raw.rate_limits, surroundings.base_dir);
        GatewaySettings {
            listen: raw.listen.into_iter().filter_map(|field| field.value.ok()).collect(),
            workers: workers.and_then(NonZeroUsize::new).unwrap_or(surroundings.cores),
            authentication: self.authentication(
                raw.authentication,
                tls.as_ref(),
                &rate_limits.tiers,
                surroundings.base_dir,
            ),
            tls,
            proxy_protocol: self.networks("gateway.proxyProtocol", raw.proxy_protocol),
            trusted_proxies: self.networks("gateway.trustedProxies", raw.trusted_proxies),
            limits: self.limits(raw.limits),
            rate_limits,
        }
    }

    fn tls(&mut self, raw: Spanned<RawTls>, base_dir: &Path) -> TlsSettings {
        if raw.value.certificates.is_empty() {
            self.wrong(
                raw.referenced.into(),
                "gateway.tls.certificates: expected at least one certificate".to_owned(),
                Some("write `certificates: [{certificate: cert.pem, key: key.pem}]`".to_owned()),
            );
        }
        let mut certificates = Vec::new();
        for (index, files) in raw.value.certificates.into_iter().enumerate() {
            let key = format!("gateway.tls.certificates[{index}]");
            let origin = Origin::from(files.referenced);
            let RawCertificate { certificate, key: private_key } = files.value;
            certificates.push(CertificateFiles {
                certificate: self.needed_path(base_dir, certificate, &format!("{key}.certificate"), origin),
                key: self.needed_path(base_dir, private_key, &format!("{key}.key"), origin),
            });
        }
        let client_ca = raw.value.client_ca.map(|path| self.path(base_dir, &path, "gateway.tls.clientCa"));
        TlsSettings { line: Line(Origin::from(raw.referenced).line()), certificates, client_ca }
    }

    fn needed_path(&mut self, base_dir: &Path, path: Option<Text>, key: &str, parent: Origin) -> PathBuf {
        match path {
            Some(path) => self.path(base_dir, &path, key),
            None => {
                let help =
                    Some("a certificate has two files: `{certificate: cert.pem, key: key.pem}`".to_owned());
                self.wrong(parent, format!("{key}: expected a path, found nothing"), help);
                PathBuf::new()
            }
        }
    }

    fn networks(&mut self, key: &str, raw: Vec<Field<IpNet>>) -> Vec<IpNet> {
        raw.into_iter().filter_map(|network| self.value(key, network)).collect()
    }

    fn limits(&mut self, raw: RawLimits) -> GatewayLimits {
        self.body_bytes = self.size("gateway.limits.bodyBytes", raw.body_bytes, BODY_BYTES);
        GatewayLimits {
            header_bytes: self.size("gateway.limits.headerBytes", raw.header_bytes, HEADER_BYTES),
            headers: self.count("gateway.limits.headers", raw.headers, 1..=MAX_HEADERS),
            url_bytes: self.size("gateway.limits.urlBytes", raw.url_bytes, URL_BYTES),
            body_bytes: self.body_bytes,
            header_timeout: self.duration("gateway.limits.headerTimeout", raw.header_timeout),
            idle_timeout: self.duration("gateway.limits.idleTimeout", raw.idle_timeout),
            request_timeout: self.duration("gateway.limits.requestTimeout", raw.request_timeout),
            connections: self.count("gateway.limits.connections", raw.connections, 1..=MAX_AT_ONCE),
            requests: self.count("gateway.limits.requests", raw.requests, 1..=MAX_AT_ONCE),
        }
    }

    /// No two listeners may want the same port of the same address. Returns those of the others, which have one each.
    pub(super) fn addresses<const N: usize>(
        &mut self,
        gateway: &[Field<SocketAddr>],
        others: [(&str, &Field<SocketAddr>); N],
    ) -> [SocketAddr; N] {
        if gateway.is_empty() {
            let help = Some("leave it out for 127.0.0.1:8080".to_owned());
            self.wrong(Origin::Default, "gateway.listen: expected at least one address".to_owned(), help);
        }
        let keyed = gateway.iter().map(|field| ("gateway", field)).chain(others);
        let mut taken: Vec<(String, Origin, SocketAddr)> = Vec::new();
        for (part, field) in keyed {
            let key = format!("{part}.listen");
            let Some(address) = self.value(&key, field.clone()) else { continue };
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
        others.map(|(_, field)| match &field.value {
            Ok(address) => *address,
            Err(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }
}

/// Whether binding both fails: an unspecified address takes the port of every address of its family.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_family && same_host
}
