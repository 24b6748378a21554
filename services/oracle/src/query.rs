//! What a caller asks for: one URL, how to call it, and where the value is in the answer.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use types::wire::Message;

use crate::error::OracleError;
use crate::path::Path;

/// The first bytes of what the hash of a request is made of.
const REQUEST_TAG: &[u8] = b"serviceos/oracle-request/v1\0";
/// Headers that a caller may set beside those that begin with `x-`.
const HEADERS: [&str; 3] = ["accept", "accept-language", "user-agent"];
/// Headers with `x-` that make a server act for somebody else, or on another path, host or method than was allowed.
const REFUSED_PREFIXES: [&str; 12] = [
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster",
    "x-host",
    "x-http-",
    "x-method",
    "x-original",
    "x-rewrite",
    "x-accel",
    "x-override",
    "x-serviceos",
];

/// The body of a request. Fields of later versions are refused, never ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawQuery {
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    json_path: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// A query whose own fields are valid; whether its URL is allowed is for the client to say.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) url: String,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) path: Option<Path>,
    /// SHA-256 of the tagged message of method, URL, headers sorted by name, and path.
    pub(crate) hash: [u8; 32],
}

impl TryFrom<RawQuery> for Query {
    type Error = OracleError;

    fn try_from(raw: RawQuery) -> Result<Self, OracleError> {
        let method = match raw.method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            _ => return Err(OracleError::BadRequest("method: expected GET or POST".to_owned())),
        };
        let headers = lower_case(raw.headers)?;
        let path = raw.json_path.as_deref().map(Path::parse).transpose()?;
        let hash = hash(&method, &raw.url, &headers, raw.json_path.as_deref());
        let headers = headers.into_iter().map(header).collect::<Result<HeaderMap, _>>()?;
        Ok(Self { url: raw.url, method, headers, path, hash })
    }
}

fn lower_case(headers: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, OracleError> {
    let mut lower = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if lower.insert(name.clone(), value).is_some() {
            return Err(OracleError::BadRequest(format!("headers.{name}: given twice")));
        }
    }
    Ok(lower)
}

fn header((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), OracleError> {
    let custom = name.starts_with("x-") && !REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if !custom && !HEADERS.contains(&name.as_str()) {
        let expected = "expected accept, accept-language, user-agent or a name that begins with x-";
        return Err(OracleError::BadRequest(format!("headers.{name}: not a caller's to set, {expected}")));
    }
    let refused = |what| OracleError::BadRequest(format!("headers.{name}: not a header {what}"));
    let value = HeaderValue::from_str(&value).map_err(|_| refused("value"))?;
    Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused("name"))?, value))
}

fn hash(method: &Method, url: &str, headers: &BTreeMap<String, String>, path: Option<&str>) -> [u8; 32] {
    let count = u32::try_from(headers.len()).expect("a request of 30 KiB has fewer headers");
    let mut message = Message::tagged(REQUEST_TAG).lp(method.as_str()).lp(url).raw(count.to_be_bytes());
    for (name, value) in headers {
        message = message.lp(name).lp(value);
    }
    let message = match path {
        None => message.raw([0]),
        Some(path) => message.raw([1]).lp(path),
    };
    Sha256::digest(message.finish()).into()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn query(body: &str) -> Result<Query, String> {
        let raw: RawQuery = serde_json::from_str(body).map_err(|error| error.to_string())?;
        Query::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_is_part_of_the_hash_and_the_order_and_case_of_headers_are_not() {
        let hash = |body: &str| query(body).unwrap().hash;
        let plain = hash(r#"{"url":"https://a/"}"#);
        assert_eq!(plain, hash(r#"{"method":"GET","url":"https://a/","headers":{}}"#));
        let others = [
            r#"{"url":"https://a/b"}"#,
            r#"{"url":"https://a/","method":"POST"}"#,
            r#"{"url":"https://a/","jsonPath":"$"}"#,
            r#"{"url":"https://a/","headers":{"accept":"a"}}"#,
            r#"{"url":"https://a/","headers":{"accept":"b"}}"#,
        ];
        let mut hashes: Vec<_> = others.map(hash).into();
        hashes.push(plain);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
        let first = hash(r#"{"url":"https://a/","headers":{"X-A":"1","accept":"b"}}"#);
        assert_eq!(first, hash(r#"{"url":"https://a/","headers":{"Accept":"b","x-a":"1"}}"#));
    }

    #[test]
    fn the_hash_is_that_of_the_documented_bytes() {
        let hash = query(r#"{"url":"https://a/","headers":{"accept":"b"},"jsonPath":"$"}"#).unwrap().hash;
        let bytes = b"serviceos/oracle-request/v1\0\0\0\0\x03GET\0\0\0\x0ahttps://a/\0\0\0\x01\
            \0\0\0\x06accept\0\0\0\x01b\x01\0\0\0\x01$";
        assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(bytes)));
    }

    #[test]
    fn only_harmless_headers_are_a_callers_to_set() {
        for name in ["Accept", "accept-language", "User-Agent", "X-Api-Key", "x-request-id"] {
            assert!(
                query(&format!(r#"{{"url":"https://a/","headers":{{"{name}":"v"}}}}"#)).is_ok(),
                "{name}"
            );
        }
        let refused = [
            "host",
            "Authorization",
            "cookie",
            "connection",
            "proxy-authorization",
            "te",
            "content-length",
            "range",
            "accept-encoding",
            "x-forwarded-for",
            "X-HTTP-Method-Override",
            "x-original-url",
            "x-serviceos-tenant",
            "x a",
            "",
        ];
        for name in refused {
            let error = query(&format!(r#"{{"url":"https://a/","headers":{{"{name}":"v"}}}}"#)).unwrap_err();
            assert!(error.starts_with(&format!("headers.{}:", name.to_lowercase())), "{error}");
        }
    }

    #[test]
    fn a_malformed_query_names_the_field() {
        let bodies = [
            r#"{}"#,
            r#"{"url":1}"#,
            r#"{"url":"https://a/","method":"DELETE"}"#,
            r#"{"url":"https://a/","method":"get"}"#,
            r#"{"url":"https://a/","secret":{"name":"a","header":"b"}}"#,
            r#"{"url":"https://a/","quorum":{}}"#,
            r#"{"url":"https://a/","mode":"async"}"#,
            r#"{"url":"https://a/","cache":"0s"}"#,
            r#"{"url":"https://a/","headers":{"accept":"a\nb"}}"#,
            r#"{"url":"https://a/","headers":{"accept":"a","Accept":"b"}}"#,
            r#"{"url":"https://a/","jsonPath":"a"}"#,
        ];
        let text: String = bodies.iter().map(|body| format!("{}\n", query(body).unwrap_err())).collect();
        expect![[r#"
            missing field `url` at line 1 column 2
            invalid type: integer `1`, expected a string at line 1 column 8
            method: expected GET or POST
            method: expected GET or POST
            unknown field `secret`, expected one of `url`, `method`, `headers`, `jsonPath` at line 1 column 28
            unknown field `quorum`, expected one of `url`, `method`, `headers`, `jsonPath` at line 1 column 28
            unknown field `mode`, expected one of `url`, `method`, `headers`, `jsonPath` at line 1 column 26
            unknown field `cache`, expected one of `url`, `method`, `headers`, `jsonPath` at line 1 column 27
            headers.accept: not a header value
            headers.accept: given twice
            the path does not parse at byte 0 (RFC 9535): parser error
        "#]]
        .assert_eq(&text);
    }
}
