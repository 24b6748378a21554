//! One URL, parsed once. Everything after this step works on the parsed form, so no second parser can read the text
//! differently.

use std::net::IpAddr;

use url::{Host, Url};

use crate::FetchError;

/// The longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// Whether a URL speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// A URL that servers and this crate read alike.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    url: Url,
    pub(crate) scheme: Scheme,
    pub(crate) port: u16,
}

impl Target {
    /// Parses a URL and refuses what different servers resolve differently.
    ///
    /// The path is looked at as it was written, because the parser resolves dot segments silently.
    pub(crate) fn parse(text: &str) -> Result<Self, FetchError> {
        if text.len() > MAX_URL_BYTES {
            return Err(FetchError::BadUrl("it is longer than 2048 bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FetchError::BadUrl(
                "it holds a space, a control character or a character beyond ASCII",
            ));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or(FetchError::BadUrl("it does not begin with https://"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(FetchError::BadUrl("it does not begin with https://")),
        };
        let authority_ends = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_ends);
        check_path(rest.split(['?', '#']).next().unwrap_or_default())?;
        let url = Url::parse(text).map_err(|_| FetchError::BadUrl("it does not parse"))?;
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::BadUrl("it carries a user name or a password"));
        }
        if url.fragment().is_some() {
            return Err(FetchError::BadUrl("it has a fragment, which is never sent"));
        }
        // The parser would take the first segment for the host.
        if authority.is_empty() || !url.has_host() {
            return Err(FetchError::BadUrl("it has no host"));
        }
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or(FetchError::BadUrl("its port is 0"))?;
        Ok(Self { url, scheme, port })
    }

    /// Whether both are the same URL.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.url == other.url
    }

    /// The host in its one normal form: lower case, punycode, IP literals in canonical notation with brackets for IPv6.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().expect("a target without a host is refused when it is parsed")
    }

    /// The address, where the host is an IP literal in whatever spelling.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// The path, which begins with a slash.
    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// The value of the `Host` header: the port is named unless it is the scheme's own.
    pub(crate) fn host_header(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    /// Path and query, as they are sent.
    pub(crate) fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

/// Refuses dot segments, empty segments, and separators or percent signs in percent-encoding: servers decode them at
/// different times, so the path that was allowed would not be the path that is served.
fn check_path(path: &str) -> Result<(), FetchError> {
    let lower = path.to_ascii_lowercase();
    if ["%2f", "%5c", "%25", "%00", "\\"].iter().any(|hidden| lower.contains(hidden)) {
        return Err(FetchError::BadUrl("its path holds an encoded slash, backslash, percent sign or NUL"));
    }
    let segments: Vec<String> = lower.split('/').map(|segment| segment.replace("%2e", ".")).collect();
    // Some servers cut parameters off first, so that `..;x` is a dot segment to them.
    let dots = |segment: &String| {
        let name = segment.split(';').next().unwrap_or_default().split("%3b").next().unwrap_or_default();
        name == "." || name == ".."
    };
    if segments.iter().any(dots) {
        return Err(FetchError::BadUrl("its path holds a dot segment"));
    }
    if path.contains("//") {
        return Err(FetchError::BadUrl("its path holds an empty segment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn parsed(text: &str) -> String {
        match Target::parse(text) {
            Ok(target) => format!(
                "{:?} {} {} {} {:?}",
                target.scheme,
                target.host_header(),
                target.port,
                target.path_and_query(),
                target.literal()
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_are_parsed_once_and_ambiguous_ones_refused() {
        let texts = [
            "https://api.example.org",
            "HTTPS://API.example.org:443/v1/x?a=../b#",
            "https://api.example.org:8443/v1?x=%2e%2e%2f",
            "http://api.example.org/a:b@c",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://[::ffff:127.0.0.1]:8443/",
            "https://127.0.0.1.:8443/",
            "https://1.2.3.4.5/",
            "https://user@example.org/",
            "https://@example.org/",
            "https://:@example.org/",
            "https://example.org/#top",
            "https:/example.org/",
            "https:example.org",
            "https:\\\\example.org\\x",
            "https://example.org\\@evil.org/",
            "https:///example.org/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "https://example.org:0/",
            "https://example.org:99999/",
            "https://exa mple.org/",
            "https://exämple.org/",
            "https://example.org/a\tb",
            "",
        ];
        let text: String = texts.iter().map(|text| format!("{text:?}: {}\n", parsed(text))).collect();
        expect![[r#"
            "https://api.example.org": Https api.example.org 443 / None
            "HTTPS://API.example.org:443/v1/x?a=../b#": the URL is refused: it has a fragment, which is never sent
            "https://api.example.org:8443/v1?x=%2e%2e%2f": Https api.example.org:8443 8443 /v1?x=%2e%2e%2f None
            "http://api.example.org/a:b@c": Http api.example.org 80 /a:b@c None
            "https://0x7f.1/": Https 127.0.0.1 443 / Some(127.0.0.1)
            "https://2130706433/": Https 127.0.0.1 443 / Some(127.0.0.1)
            "https://0177.0.0.1/": Https 127.0.0.1 443 / Some(127.0.0.1)
            "https://[::ffff:127.0.0.1]:8443/": Https [::ffff:7f00:1]:8443 8443 / Some(::ffff:127.0.0.1)
            "https://127.0.0.1.:8443/": Https 127.0.0.1:8443 8443 / Some(127.0.0.1)
            "https://1.2.3.4.5/": the URL is refused: it does not parse
            "https://user@example.org/": the URL is refused: it carries a user name or a password
            "https://@example.org/": the URL is refused: it carries a user name or a password
            "https://:@example.org/": the URL is refused: it carries a user name or a password
            "https://example.org/#top": the URL is refused: it has a fragment, which is never sent
            "https:/example.org/": the URL is refused: it does not begin with https://
            "https:example.org": the URL is refused: it does not begin with https://
            "https:\\\\example.org\\x": the URL is refused: it does not begin with https://
            "https://example.org\\@evil.org/": the URL is refused: its path holds an encoded slash, backslash, percent sign or NUL
            "https:///example.org/": the URL is refused: it has no host
            "ftp://example.org/": the URL is refused: it does not begin with https://
            "file:///etc/passwd": the URL is refused: it does not begin with https://
            "https://example.org:0/": the URL is refused: its port is 0
            "https://example.org:99999/": the URL is refused: it does not parse
            "https://exa mple.org/": the URL is refused: it holds a space, a control character or a character beyond ASCII
            "https://exämple.org/": the URL is refused: it holds a space, a control character or a character beyond ASCII
            "https://example.org/a\tb": the URL is refused: it holds a space, a control character or a character beyond ASCII
            "": the URL is refused: it does not begin with https://
        "#]].assert_eq(&text);
    }

    #[test]
    fn a_path_that_servers_resolve_differently_is_refused() {
        let paths = [
            "/v1/../admin",
            "/v1/./x",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/admin",
            "/v1/%2e",
            "/..",
            "/.",
            "/v1//x",
            "//",
            "/v1/%2fx",
            "/v1/%2Fx",
            "/v1/%5cx",
            "/v1/..%5c",
            "/v1/%252e%252e/x",
            "/v1/a%00",
            "/v1\\x",
            "/v1/..;/x",
            "/v1/..%3bx/y",
            "/v1/.;a=b",
        ];
        for path in paths {
            let parsed = Target::parse(&format!("https://example.org{path}"));
            assert!(matches!(parsed, Err(FetchError::BadUrl(_))), "{path}");
        }
        for path in ["/v1/..x", "/v1/...", "/v1/a.b", "/v1/%20x", "/v1;a=b/x", "/a..b", "/v1/"] {
            assert!(Target::parse(&format!("https://example.org{path}")).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_url_of_more_than_2048_bytes_is_refused() {
        let base = "https://example.org/";
        let fill = |bytes: usize| format!("{base}{}", "a".repeat(bytes - base.len()));
        assert!(Target::parse(&fill(2_048)).is_ok());
        assert!(Target::parse(&fill(2_049)).is_err());
    }
}
