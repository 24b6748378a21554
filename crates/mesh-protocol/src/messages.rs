//! The messages of the mesh API: JSON, with bytes as unpadded base64url.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
pub struct MeshInstance {
    /// Its identity.
    pub spiffe: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The SHA-256 of the certificates that it may show, the one in force first.
    pub leaves: Vec<Bytes>,
}

/// The length of what tells a run of a process from others.
pub const RUN_BYTES: usize = 16;

/// `POST /v1/announce`, for replicas that nobody else speaks for. It is answered once the replica is to end, and the replica is
/// there for as long as one such request is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnnounceRequest {
    /// Where it listens, on the machine that the request comes from.
    pub address: SocketAddr,
    /// [`RUN_BYTES`] random bytes, the same for as long as the process runs.
    pub run: Bytes,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AnnounceAnswer {
    /// The replica is to end since somebody wants it so, as this says.
    Wanted(String),
    /// The replica is to end since it cannot serve, as this says.
    Failed(String),
}

/// `POST /v1/leave`: the replica asks to be drained. The request that has announced it is answered when that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// As announced.
    pub run: Bytes,
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
    fn bytes_are_unpadded_base64url() {
        let json = serde_json::to_string(&Bytes(vec![0xfb, 0xff, 0xfe, 1])).unwrap();
        assert_eq!(json, r#""-__-AQ""#);
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, [0xfb, 0xff, 0xfe, 1]);
        for other in [r#""-__-AQ==""#, r#""+//+AQ""#, r#""-__-A""#, "7"] {
            assert!(serde_json::from_str::<Bytes>(other).is_err(), "{other}");
        }
    }
}
