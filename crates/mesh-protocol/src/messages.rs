//! The messages of the mesh API: JSON, with bytes as unpadded base64url.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use types::Description;

/// The largest request and answer of the mesh API, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Bytes that are unpadded base64url in JSON.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64_URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map(Self)
            .map_err(|_| de::Error::custom("expected unpadded base64url"))
    }
}

/// `POST /v1/join/challenge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    /// 32 random bytes of the replica's.
    pub nonce: Bytes,
    /// The service.
    pub service: String,
    /// The label of its version.
    pub version: String,
    /// Which of the service's replicas it is.
    pub instance: String,
    /// The launch ticket; empty where a certificate is renewed.
    pub ticket: Bytes,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeAnswer {
    /// The authority's nonce, for this TLS connection and 120 seconds.
    pub nonce: Bytes,
    /// The authority's own evidence over the replica's nonce.
    pub evidence: Bytes,
}

/// `POST /v1/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// The evidence of a join ([`crate::Evidence::encode_join`]).
    pub evidence: Bytes,
    /// A PKCS #10 request for the identity key, which proves its possession.
    pub csr: Bytes,
    /// The X25519 key that secrets are sealed to.
    pub hpke_public_key: Bytes,
    /// The key that signs receipts, as DER SubjectPublicKeyInfo.
    pub receipt_spki: Bytes,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// The certificate, DER.
    pub leaf: Bytes,
    /// The certificates above it, DER, the root last.
    pub chain: Vec<Bytes>,
    /// The secrets, each sealed to the HPKE key, in the order of their names and epochs.
    pub secrets: Vec<SealedSecret>,
    /// The authority's signature over all of them.
    pub set_signature: Bytes,
}

/// One secret on its way to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The name under which the service knows it.
    pub name: String,
    /// The version of its record.
    pub version: u64,
    /// Its epoch.
    pub epoch: u32,
    /// The encapsulated key.
    pub enc: Bytes,
    /// The ciphertext.
    pub ct: Bytes,
}

/// `GET /v1/services/{name}/instances`, for members that the service allows to call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancesAnswer {
    /// Those that may serve now.
    pub instances: Vec<MeshInstance>,
}

/// An instance of a service, as whoever connects to it must find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstance {
    /// Its identity.
    pub spiffe: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The SHA-256 of the certificates that it may show, the one in force first.
    pub leaves: Vec<Bytes>,
    /// The label of its version.
    #[serde(default)]
    pub version: String,
    /// What its version is known by.
    #[serde(default)]
    pub version_id: String,
    /// Which part of the calls its side gets that name no version; none where they are not divided.
    #[serde(default)]
    pub part: Option<MeshPart>,
}

/// The part of one side, while a version takes the place of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshPart {
    /// Which.
    pub side: MeshSide,
    /// In percent; with 0 it is for those alone who name its version.
    pub percent: u8,
}

/// The sides of which one takes the place of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MeshSide {
    /// The version that comes.
    Target,
    /// All others.
    Stable,
}

/// The length of what tells a run of a process from others.
pub const RUN_BYTES: usize = 16;

/// How long a registration holds without being renewed.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// How long a renewal waits for an order, and so how often there is one: a third of [`LEASE_TTL`], so that two may be lost.
pub const RENEWAL: Duration = Duration::from_millis(10_000 / 3);

/// `POST /v1/register`, for replicas that nobody else speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterRequest {
    /// [`RUN_BYTES`] random bytes, the same for as long as the process runs.
    pub run: Bytes,
    /// Where gateways and callers reach it.
    pub address: SocketAddr,
    /// Where it stands, as the operator calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its part of the calls beside that of the others; 1 where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whatever else the operator says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterAnswer {
    /// The lease that keeps it registered.
    pub lease: String,
    /// How long that holds without being renewed, in milliseconds; it is renewed at a third of this.
    pub ttl_millis: u64,
    /// Larger than that of every registration of this replica before.
    pub fencing_token: u64,
}

/// `POST /v1/renew`, which is answered after a third of the lease's time, or at once when the replica is to end; and
/// `POST /v1/leave`, by which it asks to be drained. That it is drained, a renewal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseRequest {
    /// As it was given.
    pub lease: String,
    /// As it was given with it.
    pub fencing_token: u64,
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewAnswer {
    /// The replica is to end, and renews no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndOrder>,
}

/// Why a replica is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndOrder {
    /// Somebody wants it so, as this says.
    Wanted(String),
    /// It cannot serve, as this says.
    Failed(String),
}

impl RegisterRequest {
    /// What a process says that listens there.
    pub fn new(run: Bytes, address: SocketAddr, description: Description) -> Self {
        let Description { zone, weight, metadata } = description;
        Self { run, address, zone, weight: Some(weight), metadata }
    }

    /// What it says of itself.
    pub fn description(&self) -> Description {
        let (zone, metadata) = (self.zone.clone(), self.metadata.clone());
        Description { zone, weight: self.weight.unwrap_or(1), metadata }
    }
}

/// What is said instead, with 403 where it is final and 503 where it is worth another try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable code.
    pub code: String,
    /// What happened this time.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_may_leave_out_what_is_said_of_the_replica() {
        let read: RegisterRequest =
            serde_json::from_str(r#"{"run": "AAAA", "address": "10.0.0.7:7443"}"#).unwrap();
        assert_eq!(read.description(), Description::default());
        let said = Description { zone: Some("a".into()), weight: 3, ..Description::default() };
        let written = RegisterRequest::new(read.run.clone(), read.address, said.clone());
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(json, r#"{"run":"AAAA","address":"10.0.0.7:7443","zone":"a","weight":3}"#);
        assert_eq!(serde_json::from_str::<RegisterRequest>(&json).unwrap().description(), said);
        let unknown = r#"{"run": "AAAA", "address": "10.0.0.7:7443", "Zone": "a"}"#;
        assert!(serde_json::from_str::<RegisterRequest>(unknown).is_err());
    }

    #[test]
    fn an_order_to_end_is_said_in_the_answer_to_a_renewal() {
        let none = serde_json::to_string(&RenewAnswer { end: None }).unwrap();
        assert_eq!(none, "{}");
        let end = Some(EndOrder::Failed("no".into()));
        let json = serde_json::to_string(&RenewAnswer { end }).unwrap();
        assert_eq!(json, r#"{"end":{"failed":"no"}}"#);
    }

    #[test]
    fn bytes_are_unpadded_base64url() {
        let json = serde_json::to_string(&Bytes(vec![0xfb, 0xff, 0xfe, 1])).unwrap();
        assert_eq!(json, r#""-__-AQ""#);
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, [0xfb, 0xff, 0xfe, 1]);
        for other in [r#""-__-AQ==""#, r#""+//+AQ""#, r#""-__-A""#, "7"] {
            assert!(serde_json::from_str::<Bytes>(other).is_err(), "{other}");
        }
    }
}
