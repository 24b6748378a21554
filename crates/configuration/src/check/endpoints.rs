//! Endpoints: servers that run elsewhere, written as URLs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use types::description::{MAX_METADATA, MAX_METADATA_BYTES, MAX_METADATA_NAME_BYTES, MAX_WEIGHT};

use super::service::MAX_LABEL_BYTES;
use super::{Checker, is_domain_name};
use crate::raw::{Entries, RawEndpoint};
use crate::report::Origin;
use crate::scalar::{Spanned, Text, quoted};
use crate::settings::{EndpointSettings, Scheme};

/// The most endpoints of one service.
const MAX_ENDPOINTS: usize = 1_000;
const MAX_PRIORITY: i128 = 15;

impl Checker {
    pub(super) fn endpoints(
        &mut self,
        key: &str,
        list: Spanned<Vec<Text>>,
        version: &Arc<str>,
    ) -> Vec<EndpointSettings> {
        let whole = |url: Text| {
            let origin = url.origin;
            (origin, RawEndpoint { url: Some(url), ..RawEndpoint::default() })
        };
        let endpoints = list.value.into_iter().map(whole).collect();
        self.checked(key, "", list.referenced.into(), endpoints, version)
    }

    pub(super) fn endpoint_set(
        &mut self,
        key: &str,
        set: Spanned<Vec<Spanned<RawEndpoint>>>,
        version: &Arc<str>,
    ) -> Vec<EndpointSettings> {
        let endpoints = set.value.into_iter().map(|raw| (raw.referenced.into(), raw.value)).collect();
        self.checked(key, ".url", set.referenced.into(), endpoints, version)
    }

    /// `url_key` is what follows the number of an endpoint in the key of its URL.
    fn checked(
        &mut self,
        key: &str,
        url_key: &str,
        origin: Origin,
        endpoints: Vec<(Origin, RawEndpoint)>,
        version: &Arc<str>,
    ) -> Vec<EndpointSettings> {
        if !(1..=MAX_ENDPOINTS).contains(&endpoints.len()) {
            let message =
                format!("{key}: expected 1 to {MAX_ENDPOINTS} endpoints, found {}", endpoints.len());
            self.wrong(origin, message, Some("write `[\"http://10.0.0.5:8080\"]`".to_owned()));
        }
        let mut taken: BTreeMap<(String, u16), Origin> = BTreeMap::new();
        let mut checked = Vec::new();
        for (index, (origin, mut raw)) in endpoints.into_iter().enumerate() {
            let key = format!("{key}[{index}]");
            let url_key = format!("{key}{url_key}");
            let (origin, url) = match raw.url.take() {
                Some(url) => (url.origin, self.url(&url_key, &url)),
                None => {
                    let help = Some("write `{url: \"http://10.0.0.5:8080\"}`".to_owned());
                    self.wrong(origin, format!("{url_key}: an endpoint needs a URL"), help);
                    (origin, None)
                }
            };
            if let Some(url) = &url
                && let Some(other) = taken.insert((url.host.clone(), url.port), origin)
            {
                let message = format!("{url_key}: this endpoint is written already ({other})");
                self.wrong(origin, message, Some("keep one of the two".to_owned()));
            }
            checked.push(self.endpoint(&key, url.unwrap_or_default(), raw, version));
        }
        checked
    }

    fn endpoint(&mut self, key: &str, url: Url, raw: RawEndpoint, version: &Arc<str>) -> EndpointSettings {
        EndpointSettings {
            scheme: url.scheme,
            host: url.host,
            port: url.port,
            version: match raw.version {
                Some(own) => self.version(&format!("{key}.version"), own).into(),
                // The same one, so that what is read with every call is read from one place.
                None => Arc::clone(version),
            },
            weight: self.whole(&format!("{key}.weight"), raw.weight, 1..=i128::from(MAX_WEIGHT)),
            priority: self.whole(&format!("{key}.priority"), raw.priority, 0..=MAX_PRIORITY),
            zone: raw.zone.map(|zone| self.label(&format!("{key}.zone"), zone, MAX_LABEL_BYTES, "a").into()),
            metadata: self.metadata(&format!("{key}.metadata"), raw.metadata),
        }
    }

    fn metadata(&mut self, key: &str, written: Entries<Text>) -> BTreeMap<String, String> {
        if let Some((name, _)) = written.0.get(MAX_METADATA) {
            self.wrong(name.origin, format!("{key}: expected at most {MAX_METADATA} texts"), None);
        }
        let mut metadata = BTreeMap::new();
        for (name, value) in written.0 {
            let is_name = name.value.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_name || !(1..=MAX_METADATA_NAME_BYTES).contains(&name.value.len()) {
                let found = quoted(&name.value);
                let message = format!(
                    "{key}: expected names of 1 to {MAX_METADATA_NAME_BYTES} visible ASCII characters, found {found}"
                );
                self.wrong(name.origin, message, None);
            }
            if value.value.len() > MAX_METADATA_BYTES || value.value.contains(char::is_control) {
                let found = quoted(&value.value);
                let message = format!(
                    "{key}.{}: expected at most {MAX_METADATA_BYTES} bytes without control characters, found {found}",
                    name.value
                );
                self.wrong(value.origin, message, None);
            }
            metadata.insert(name.value, value.value);
        }
        metadata
    }

    fn url(&mut self, key: &str, url: &Text) -> Option<Url> {
        match Url::parse(&url.value) {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                let message = format!("{key}: {reason}, found {}", quoted(&url.value));
                let help = "write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org";
                self.wrong(url.origin, message, Some(help.to_owned()));
                None
            }
        }
    }
}

/// What the URL of an endpoint says. The default stands for a URL that is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Url {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else {
            return Err("the URL of an endpoint begins with http:// or https://");
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("the URL of an endpoint has no user and no password");
        }
        if !matches!(path, "" | "/") {
            return Err("the URL of an endpoint has no path, no query and no fragment");
        }
        let (host, port) = split_port(authority);
        let host = host_of(host).ok_or("the URL of an endpoint has an IP address or a DNS name")?;
        let port = match (port, scheme) {
            (Some(port), _) => port_of(port).ok_or("the port of an endpoint is from 1 to 65535")?,
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
        };
        Ok(Self { scheme, host, port })
    }
}

/// The colons of an IPv6 address stand in brackets (RFC 3986, section 3.2.2).
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

pub(super) fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse().ok().map(|address: Ipv6Addr| address.to_string());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    let name = text.to_ascii_lowercase();
    // A resolver may read such a name as an IPv4 address in another spelling, `0x7f.1` or `2130706433`.
    let number = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.starts_with("0x") || label.bytes().all(|byte| byte.is_ascii_digit()));
    (is_domain_name(&name) && !number).then_some(name)
}

pub(super) fn port_of(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_as_written() {
        for (text, scheme, host, port) in [
            ("http://10.0.0.5:8080", Scheme::Http, "10.0.0.5", 8080),
            ("http://10.0.0.5", Scheme::Http, "10.0.0.5", 80),
            ("https://API.example.org/", Scheme::Https, "api.example.org", 443),
            ("http://[FD00::0005]:8080", Scheme::Http, "fd00::5", 8080),
            ("https://[::1]", Scheme::Https, "::1", 443),
            ("http://localhost:65535", Scheme::Http, "localhost", 65_535),
        ] {
            assert_eq!(Url::parse(text), Ok(Url { scheme, host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_url_of_an_endpoint() {
        for text in [
            "",
            "10.0.0.5:8080",
            "HTTP://a",
            "ftp://a",
            "http:///",
            "http://a/b",
            "http://a?b",
            "http://a/#b",
            "http://user@a",
            "http://user:word@a",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "http://a:80:80",
            "http://fd00::5:80",
            "http://[10.0.0.5]",
            "http://[::1",
            "http://[::1]x",
            "http://[fe80::1%25eth0]",
            "http://10.0.0.256",
            "http://2130706433",
            "http://0x7f.1",
            "http://127.0x1",
            "http://a_b",
            "http://a..b",
            "http://a b",
            "http://a\\b",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
