//! The allow-list: which URLs and methods may be called at all. It compares parsed URLs, exactly, and resolves nothing.

use http::Method;
use serde::Deserialize;
use std::net::SocketAddr;
use thiserror::Error;

use crate::FetchError;
use crate::target::{Scheme, Target};

/// One entry of the configuration: `{url: "https://api.example.org/v1/", methods: [GET]}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Scheme, host and port must equal; the path is a prefix of whole segments.
    pub url: String,
    /// The methods, in upper case.
    #[serde(default = "get_only")]
    pub methods: Vec<String>,
}

fn get_only() -> Vec<String> {
    vec![Method::GET.to_string()]
}

impl Allow {
    /// Allows GET for a URL.
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), methods: get_only() }
    }
}

/// Why an allow-list is not valid: names the entry and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AllowError {
    /// An entry's URL.
    #[error("allow[{0}].url is not a usable prefix: {1}")]
    Url(usize, FetchError),
    /// An entry's URL has a query.
    #[error("allow[{0}].url has a query: a prefix ends with its path")]
    Query(usize),
    /// Plain http to a host that is not in `allowLoopback`.
    #[error("allow[{0}].url is plain http: https is required but for what allowLoopback names")]
    PlainHttp(usize),
    /// A method that the client does not send.
    #[error("allow[{0}].methods: GET and POST are possible, in upper case, at least one")]
    Methods(usize),
    /// A loopback exception.
    #[error(
        "allowLoopback[{0}] is not a loopback host and port, such as 127.0.0.1:8443, [::1]:8443 or localhost:8443"
    )]
    Loopback(usize),
}

/// The validated list.
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    entries: Vec<Entry>,
    /// Exactly these hosts and ports may be on this machine, and may speak plain http.
    loopback: Vec<(String, u16)>,
    /// The one URL that an operator wrote down whole.
    written: Option<Target>,
}

#[derive(Debug, Clone)]
struct Entry {
    prefix: Target,
    methods: Vec<Method>,
}

/// Where an allowed target may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only at global addresses.
    Global,
    /// Only on this machine, since `allowLoopback` names it.
    Loopback,
    /// At any address, since the operator named the very URL.
    Anywhere,
}

impl AllowList {
    /// Validates entries and loopback exceptions. An exception only lifts the address rule and https; an entry is
    /// needed as well.
    pub fn new(entries: &[Allow], loopback: &[String]) -> Result<Self, AllowError> {
        let parse = |(index, text): (usize, &String)| loopback_host(text).ok_or(AllowError::Loopback(index));
        let loopback = loopback.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        let mut list = Self { entries: Vec::new(), loopback, written: None };
        for (index, entry) in entries.iter().enumerate() {
            let entry = list.entry(index, entry)?;
            list.entries.push(entry);
        }
        Ok(list)
    }

    /// GET of exactly this URL, which an operator wrote down: no caller has a say in it, so it may lead to any address, under
    /// TLS, or without TLS to this machine alone.
    ///
    /// # Errors
    /// It is not a URL that is read in one way only.
    pub fn of_operator(url: &str) -> Result<Self, FetchError> {
        Ok(Self { written: Some(Target::parse(url)?), ..Self::default() })
    }

    fn entry(&self, index: usize, entry: &Allow) -> Result<Entry, AllowError> {
        let prefix = Target::parse(&entry.url).map_err(|error| AllowError::Url(index, error))?;
        if prefix.query().is_some() {
            return Err(AllowError::Query(index));
        }
        if prefix.scheme == Scheme::Http && self.reach(&prefix) == Reach::Global {
            return Err(AllowError::PlainHttp(index));
        }
        let method = |name: &String| match name.as_str() {
            "GET" => Ok(Method::GET),
            "POST" => Ok(Method::POST),
            _ => Err(AllowError::Methods(index)),
        };
        let methods = entry.methods.iter().map(method).collect::<Result<Vec<_>, _>>()?;
        if methods.is_empty() { Err(AllowError::Methods(index)) } else { Ok(Entry { prefix, methods }) }
    }

    /// Whether any entry matches.
    pub(crate) fn admits(&self, target: &Target, method: &Method) -> bool {
        let is_written = |written: &Target| *method == Method::GET && written.is(target);
        self.written.as_ref().is_some_and(is_written)
            || self.entries.iter().any(|entry| entry.methods.contains(method) && entry.covers(target))
    }

    /// Where the target may be.
    pub(crate) fn reach(&self, target: &Target) -> Reach {
        if let Some(written) = self.written.as_ref().filter(|written| written.is(target)) {
            return if written.scheme == Scheme::Https { Reach::Anywhere } else { Reach::Loopback };
        }
        let named = |(host, port): &(String, u16)| host == target.host() && *port == target.port;
        if self.loopback.iter().any(named) { Reach::Loopback } else { Reach::Global }
    }
}

impl Entry {
    fn covers(&self, target: &Target) -> bool {
        let prefix = self.prefix.path().trim_end_matches('/');
        self.prefix.scheme == target.scheme
            && self.prefix.host() == target.host()
            && self.prefix.port == target.port
            && target.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A loopback exception as the URL parser writes hosts.
fn loopback_host(text: &str) -> Option<(String, u16)> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0)?;
        return Some(("localhost".to_owned(), port));
    }
    let address: SocketAddr = text.parse().ok()?;
    let host = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    (address.ip().is_loopback() && address.port() != 0).then_some((host, address.port()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn allow(url: &str, methods: &[&str]) -> Allow {
        Allow { url: url.to_owned(), methods: methods.iter().map(|&method| method.to_owned()).collect() }
    }

    fn admits(prefix: &str, url: &str) -> bool {
        let list = AllowList::new(&[Allow::get(prefix)], &[]).unwrap();
        list.admits(&Target::parse(url).unwrap(), &Method::GET)
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        for prefix in ["https://api.example.org/v1", "https://api.example.org/v1/"] {
            for url in ["/v1", "/v1/", "/v1/x", "/v1?a=b", "/v1/x/y?z"] {
                assert!(admits(prefix, &format!("https://api.example.org{url}")), "{prefix} {url}");
            }
            for url in ["/", "", "/v10", "/v1.json", "/V1", "/v", "/x/v1", "/%76%31", "/v1;a"] {
                assert!(!admits(prefix, &format!("https://api.example.org{url}")), "{prefix} {url}");
            }
        }
        assert!(admits("https://api.example.org", "https://api.example.org/anything"));
    }

    #[test]
    fn scheme_host_and_port_must_equal() {
        let same = ["https://API.example.org/v1/x", "https://api.example.org:443/v1/x"];
        assert!(same.iter().all(|url| admits("https://api.example.org/v1", url)));
        let other = [
            "http://api.example.org/v1/x",
            "https://api.example.org:8443/v1/x",
            "https://example.org/v1/x",
            "https://api.example.org./v1/x",
            "https://api.example.org.evil.org/v1/x",
            "https://xapi.example.org/v1/x",
        ];
        assert!(!other.iter().any(|url| admits("https://api.example.org/v1", url)));
    }

    #[test]
    fn only_the_listed_methods_are_allowed() {
        let list = AllowList::new(&[allow("https://example.org/", &["GET", "POST"])], &[]).unwrap();
        let target = Target::parse("https://example.org/x").unwrap();
        let admitted =
            [Method::GET, Method::HEAD, Method::POST, Method::DELETE].map(|m| list.admits(&target, &m));
        assert_eq!(admitted, [true, false, true, false]);
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!AllowList::default().admits(&Target::parse("https://example.org/").unwrap(), &Method::GET));
    }

    #[test]
    fn a_list_that_is_not_valid_names_its_entry() {
        let refused = |entry: Allow| AllowList::new(&[entry], &[]).unwrap_err().to_string();
        let texts = [
            refused(allow("example.org", &["GET"])),
            refused(allow("https://example.org/a/../b", &["GET"])),
            refused(allow("https://example.org/?a", &["GET"])),
            refused(allow("http://example.org/", &["GET"])),
            refused(allow("https://example.org/", &["get"])),
            refused(allow("https://example.org/", &[])),
        ];
        expect![[r#"
            allow[0].url is not a usable prefix: the URL is refused: it does not begin with https://
            allow[0].url is not a usable prefix: the URL is refused: its path holds a dot segment
            allow[0].url has a query: a prefix ends with its path
            allow[0].url is plain http: https is required but for what allowLoopback names
            allow[0].methods: GET and POST are possible, in upper case, at least one
            allow[0].methods: GET and POST are possible, in upper case, at least one"#]]
        .assert_eq(&texts.join("\n"));
        for text in [
            "127.0.0.1",
            "127.0.0.1:0",
            "10.0.0.1:80",
            "example.org:80",
            "localhost:",
            "localhost:+1",
            "[::2]:1",
        ] {
            let refused = AllowList::new(&[], &[text.to_owned()]).unwrap_err();
            assert_eq!(refused, AllowError::Loopback(0), "{text}");
        }
    }

    #[test]
    fn a_loopback_exception_names_one_host_and_one_port() {
        let exceptions = ["127.0.0.1:8443", "[::1]:8443", "localhost:8080"].map(str::to_owned);
        let list = AllowList::new(&[allow("http://127.0.0.1:8443/", &["GET"])], &exceptions).unwrap();
        let reach = |url: &str| list.reach(&Target::parse(url).unwrap());
        for url in [
            "http://127.0.0.1:8443/",
            "https://0x7f.1:8443/",
            "https://[::1]:8443/",
            "http://LOCALHOST:8080/",
        ] {
            assert_eq!(reach(url), Reach::Loopback, "{url}");
        }
        for url in [
            "http://127.0.0.1:8444/",
            "http://127.0.0.2:8443/",
            "http://localhost:8443/",
            "https://[::ffff:127.0.0.1]:8443/",
        ] {
            assert_eq!(reach(url), Reach::Global, "{url}");
        }
    }
}
