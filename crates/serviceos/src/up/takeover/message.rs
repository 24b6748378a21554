//! What the two tell each other, each in a frame of JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use access::{HandedNonces, UsedNonce};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use mesh_protocol::{Bytes, read_frame, write_frame};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use types::ReplicaId;

/// What is told to the one whose place is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of", rename_all = "camelCase")]
pub(super) enum ToOld {
    Hello(Hello),
    /// All replicas that serve there serve here.
    Proven,
    /// Its workers accept.
    Serving,
    Seen(Seen),
}

/// What is told to the one that takes the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of", rename_all = "camelCase")]
pub(super) enum ToNew {
    Refused(String),
    Handed(Box<Handed>),
    /// A part of what is needed to go on with signed requests.
    Nonces(Box<NoncesPart>),
    /// The requests that replicas have of the old one; those that are not named have none.
    InFlight(Vec<(ReplicaId, SocketAddr, usize)>),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) version: String,
}

/// What is handed over beside the descriptors, which follow in the order of their groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Handed {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) groups: Vec<Group>,
    /// The replicas that serve.
    pub(super) selectable: Vec<ReplicaId>,
    /// How far the outputs of replicas were read.
    pub(super) read: BTreeMap<ReplicaId, u64>,
    /// `NOTIFY_SOCKET`, where a service manager is told how things are, and how long it waits for a sign of life.
    pub(super) notify: Option<String>,
    pub(super) watchdog_usec: Option<u64>,
}

/// Nonces that were used, by their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NoncesPart {
    /// Since when all are known, in seconds.
    pub(super) since: i64,
    /// With their keys, and when they expire, in seconds.
    pub(super) used: Vec<(Bytes, String, i64)>,
    pub(super) more: bool,
}

impl NoncesPart {
    /// How many there are in one.
    const MOST: usize = 4000;

    /// In parts.
    pub(super) fn of(handed: &HandedNonces) -> Vec<Self> {
        let part = |used: &[UsedNonce]| {
            let used =
                used.iter().map(|(hash, key, expiry)| (Bytes(hash.to_vec()), key.to_string(), *expiry));
            Self { since: handed.since, used: used.collect(), more: true }
        };
        let mut parts: Vec<_> = handed.used.chunks(Self::MOST).map(part).collect();
        parts.push(Self { since: handed.since, used: Vec::new(), more: false });
        parts
    }

    /// Adds it to those that came before.
    pub(super) fn add_to(self, handed: &mut HandedNonces) -> Result<()> {
        handed.since = self.since;
        for (Bytes(hash), key, expiry) in self.used {
            let hash = hash.try_into().map_err(|_| anyhow!("a nonce that was handed over is none"))?;
            handed.used.push((hash, key.into(), expiry));
        }
        Ok(())
    }
}

/// Descriptors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) what: What,
    /// What the configuration says in the place of the address, which may have no port yet.
    pub(super) wanted: Option<SocketAddr>,
    pub(super) count: usize,
}

/// What descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum What {
    /// The lock of the data directory, held.
    Lock,
    /// The gateway's sockets at one address, each of one worker.
    Gateway,
    /// The gateway's one socket at an address, which somebody else holds too.
    GatewayShared,
    Admin,
    AdminSocket,
    Mesh,
    Takeover,
}

/// Replicas as the new one sees them. A round of these names all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seen {
    pub(super) replicas: Vec<SeenReplica>,
    /// The round goes on.
    pub(super) more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeenReplica {
    pub(super) replica: ReplicaId,
    /// None while no process of it listens.
    pub(super) address: Option<SocketAddr>,
    /// Whether it is Ready and attested; its health everybody finds out for himself.
    pub(super) serves: bool,
    /// What it may show, where it has an identity that has not ended.
    pub(super) certificates: Option<Certificates>,
}

/// SHA-256 of the certificate of a replica, and of the one before, with the time until which that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificates {
    pub(super) leaf: Bytes,
    pub(super) former: Option<(Bytes, Timestamp)>,
}

/// Sends a message.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &(impl Serialize + Sync),
) -> Result<()> {
    write_frame(stream, &serde_json::to_vec(message)?).await.context("failed to tell the other serviceos")
}

/// Reads one. Not to be given up and begun again.
pub(super) async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    let frame = read_frame(stream).await.context("the other serviceos says nothing any more")?;
    serde_json::from_slice(&frame).context("what the other serviceos says is malformed")
}
