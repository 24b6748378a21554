//! How keys are fetched: the one seam between their owner and the network.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, StatusCode};
use outbound::{AllowList, Client, Request, Roots, SystemResolver};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long reading the authorities of the machine may take.
const ROOTS_TIMEOUT: Duration = Duration::from_secs(9);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What it holds.
    pub body: Bytes,
    /// How long it says that it is good, where it says so.
    pub max_age: Option<Duration>,
}

/// A fetch under way; an error is a reason for the operator.
pub(crate) type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send + 'a>>;

/// Fetches what is behind a URL that the operator wrote.
pub trait FetchKeys: Send + Sync + 'static {
    /// Fetches once, within a time of its own.
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a>;
}

/// Over HTTP, to any address under TLS and to this machine without; redirects are not followed.
#[derive(Default)]
pub struct OverHttp {
    /// Made when it is needed first, as the authorities of the machine are read from its disk.
    client: OnceCell<Client>,
}

impl OverHttp {
    async fn client(&self) -> Result<&Client, String> {
        let make = || async {
            let roots = timeout(ROOTS_TIMEOUT, tokio::task::spawn_blocking(Roots::system)).await;
            let roots =
                roots.map_err(|_| "the certificate authorities of this machine cannot be read in time")?;
            let roots = roots.map_err(|error| error.to_string())?;
            Ok::<_, String>(Client::new(AllowList::default(), SystemResolver, roots))
        };
        self.client.get_or_try_init(make).await
    }

    async fn get(&self, url: &str) -> Result<Fetched, String> {
        let allowed = AllowList::of_operator(url).map_err(|error| error.to_string())?;
        let mut request = Request::get(url);
        request
            .headers
            .insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        let client = self.client().await?.allowing(allowed);
        let answer = client.fetch(request).await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status));
        }
        Ok(Fetched { max_age: max_age(&answer.headers), body: answer.body })
    }
}

impl FetchKeys for OverHttp {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(self.get(url))
    }
}

/// `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1); zero where nothing may be kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let mut found = None;
    for directive in directives {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = directive.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
        {
            found = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use outbound::FakeServer;

    use super::*;

    #[test]
    fn how_long_an_answer_is_good_stands_in_its_cache_control() {
        for (value, seconds) in [
            ("public, max-age=120", Some(120)),
            ("MAX-AGE=\"60\"", Some(60)),
            ("max-age=600, no-store", Some(0)),
            ("no-cache", Some(0)),
            ("s-maxage=5", None),
            ("max-age=-1", None),
            ("max-age", None),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))]);
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn only_a_plain_answer_holds_keys() {
        let server = FakeServer::http(|head| {
            let status =
                if head.starts_with("GET /jwks ") { "200 OK" } else { "302 Found\r\nlocation: /jwks" };
            Some(
                format!("HTTP/1.1 {status}\r\ncache-control: max-age=90\r\ncontent-length: 2\r\n\r\n{{}}")
                    .into_bytes(),
            )
        })
        .await;
        let http = OverHttp::default();
        let fetched = http.fetch(&server.url("/jwks")).await.unwrap();
        assert_eq!(fetched, Fetched { body: "{}".into(), max_age: Some(Duration::from_secs(90)) });
        let moved = http.fetch(&server.url("/moved")).await.unwrap_err();
        assert_eq!(moved, "the answer is 302 Found");
        assert_eq!(server.heads().len(), 2, "no redirect was followed");
        assert!(server.heads()[0].contains("application/jwk-set+json"), "{:?}", server.heads());
    }
}
