//! The messages of etcd's JSON gateway, as far as they are used. 64-bit integers are strings there, bytes are base64, and what
//! has its default value is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error, IgnoredAny};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// A 64-bit integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl Whole {
    /// A revision, which is none below zero.
    pub(super) fn revision(self) -> u64 {
        u64::try_from(self.0).unwrap_or_default()
    }

    pub(super) fn of_revision(revision: u64) -> Self {
        Self(i64::try_from(revision).unwrap_or(i64::MAX))
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct RangeRequest {
    pub(super) key: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range_end: Option<Base64>,
    pub(super) limit: Whole,
    pub(super) revision: Whole,
    pub(super) keys_only: bool,
    pub(super) min_mod_revision: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeAnswer {
    pub(super) header: Header,
    pub(super) kvs: Vec<Row>,
    pub(super) more: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) cluster_id: Cluster,
    pub(super) revision: Whole,
}

/// The number of a cluster: 64 bits without a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cluster(pub(super) u64);

impl<'de> Deserialize<'de> for Cluster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) key: Base64,
    pub(super) value: Base64,
    pub(super) create_revision: Whole,
    pub(super) mod_revision: Whole,
    pub(super) lease: Whole,
}

#[derive(Debug, Serialize)]
pub(super) struct TransactionRequest {
    pub(super) compare: Vec<Comparison>,
    pub(super) success: Vec<RequestedOperation>,
    pub(super) failure: Vec<RequestedOperation>,
}

/// That the last write of a key has a revision; the one of a key that does not exist is 0.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) key: Base64,
    pub(super) target: &'static str,
    pub(super) result: &'static str,
    pub(super) mod_revision: Whole,
}

#[derive(Debug, Serialize)]
pub(super) enum RequestedOperation {
    #[serde(rename = "request_put")]
    Put { key: Base64, value: Base64, lease: Whole },
    #[serde(rename = "request_delete_range")]
    Delete { key: Base64 },
    #[serde(rename = "request_range")]
    Range(RangeRequest),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TransactionAnswer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    pub(super) responses: Vec<OperationAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OperationAnswer {
    pub(super) response_range: RangeAnswer,
}

#[derive(Debug, Serialize)]
pub(super) struct GrantRequest {
    #[serde(rename = "TTL")]
    pub(super) ttl: Whole,
}

/// Of a grant, and of a renewal, where a lease that has ended has no time left.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeaseAnswer {
    #[serde(rename = "ID")]
    pub(super) id: Whole,
    #[serde(rename = "TTL")]
    pub(super) ttl: Whole,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseRequest {
    #[serde(rename = "ID")]
    pub(super) id: Whole,
}

/// One message of a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Streamed<T> {
    Result(T),
    Error(Value),
}

#[derive(Debug, Serialize)]
pub(super) struct WatchRequest {
    pub(super) create_request: WatchCreation,
}

#[derive(Debug, Serialize)]
pub(super) struct WatchCreation {
    pub(super) key: Base64,
    pub(super) range_end: Base64,
    pub(super) start_revision: Whole,
    pub(super) fragment: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchAnswer {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) cancel_reason: String,
    pub(super) compact_revision: Whole,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: EventKind,
    pub(super) kv: Row,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EventKind {
    #[default]
    Put,
    Delete,
}

#[derive(Serialize)]
pub(super) struct LoginRequest<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginAnswer {
    pub(super) token: String,
}

/// An answer of which nothing is wanted.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Nothing {
    _any: IgnoredAny,
}

/// What an error says, whichever of its shapes it has: `{"error":"…","code":5}`, or in a stream `{"error":{"message":"…"}}`.
pub(super) fn error_text(error: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let inner = error.get("error").unwrap_or(error);
    let found = text(inner).or_else(|| inner.get("message").and_then(text));
    let found = found.or_else(|| error.get("message").and_then(text));
    let mut found = found.unwrap_or_else(|| "it gave no reason".to_owned());
    let end = found.char_indices().nth(MAX_REASON_CHARS).map_or(found.len(), |(end, _)| end);
    found.truncate(end);
    found
}

/// What is kept of a reason that etcd gives.
const MAX_REASON_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_in_each_of_its_shapes() {
        let says = |text: &str| error_text(&serde_json::from_str(text).unwrap());
        assert_eq!(says(r#"{"error":"no leader","message":"no leader","code":14}"#), "no leader");
        assert_eq!(says(r#"{"code":14,"message":"no leader","details":[]}"#), "no leader");
        assert_eq!(says(r#"{"error":{"grpc_code":14,"message":"no leader"}}"#), "no leader");
        assert_eq!(says(r#"{"grpc_code":14,"http_code":503,"message":"no leader"}"#), "no leader");
        assert_eq!(says("[]"), "it gave no reason");
        assert_eq!(says(&format!(r#""{}""#, "é".repeat(1000))).chars().count(), MAX_REASON_CHARS);
    }

    #[test]
    fn an_event_is_a_put_unless_it_says_otherwise() {
        let answer =
            r#"{"events":[{"kv":{"key":"YQ==","mod_revision":"3"}},{"type":"DELETE","kv":{"key":"YQ=="}}]}"#;
        let answer: WatchAnswer = serde_json::from_str(answer).unwrap();
        let [put, delete] = answer.events.as_slice() else { panic!("two events") };
        assert_eq!((&put.kind, put.kv.mod_revision.revision()), (&EventKind::Put, 3));
        assert_eq!((&delete.kind, delete.kv.key.0.as_slice()), (&EventKind::Delete, &b"a"[..]));
    }
}
