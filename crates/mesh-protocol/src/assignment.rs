//! What a replica is told at its start. It holds nothing secret but the ticket: secrets are released to those who have joined.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use types::{Description, Mode, ReplicaId, ServiceName};
use zeroize::Zeroizing;

use crate::{Bytes, FrameError};

/// Everything a replica is given before it joins: who it is, its configuration, and where and how it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// Which replica of which service it is.
    #[serde(with = "as_text")]
    pub replica: ReplicaId,
    /// The label of its version.
    pub version: String,
    /// The service's `config`, a JSON object.
    pub config: serde_json::Value,
    /// The mesh that it joins.
    pub mesh: MeshCoordinates,
    /// The launch ticket.
    pub ticket: Bytes,
    /// The services that may call it beside the gateways.
    #[serde(with = "as_texts")]
    pub allow: Vec<ServiceName>,
    /// Who tells the mesh where it listens.
    pub registered_by: RegisteredBy,
    /// How a command learns that its `config` is another.
    pub config_reload: ConfigReload,
}

/// How a command learns that the file of its `config` was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigReload {
    /// It looks at the file by itself.
    File,
    /// It gets a SIGHUP.
    Signal,
}

/// Who tells the mesh where a replica listens, and that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegisteredBy {
    /// The `serviceos up` that has started it.
    Supervisor,
    /// The replica itself, which somebody else has started.
    Itself(OwnWords),
}

/// What whoever starts a replica has it say of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnWords {
    /// Where it listens, with port 0 where the system is to choose one; where the mesh API is, unless this says otherwise.
    pub listen: Option<SocketAddr>,
    /// What else is said of it.
    pub description: Description,
}

/// Where a mesh is, and by what its authority is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshCoordinates {
    /// Where its API listens.
    pub address: SocketAddr,
    /// The key of its root, as DER SubjectPublicKeyInfo.
    pub root_spki: Bytes,
    /// Its trust domain.
    pub trust_domain: String,
    /// Its mode.
    pub mode: Mode,
    /// T_n.
    pub transition: Bytes,
    /// The development root that evidence leads to, DER; none in production.
    pub evidence_root: Option<Bytes>,
    /// What the authority itself runs, as its evidence measures it.
    pub authority_workload: Bytes,
}

/// Secrets by name.
pub type SecretSet = std::collections::BTreeMap<String, Secret>;

/// One secret with its epochs, ascending and never empty; the last one is current.
#[derive(Clone)]
pub struct Secret {
    /// The epochs, ascending.
    pub epochs: Vec<SecretEpoch>,
}

/// The value of a secret during one epoch.
#[derive(Clone)]
pub struct SecretEpoch {
    /// Its number, from 1; each rotation adds one.
    pub epoch: u32,
    /// The value; wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// The epoch in force.
    pub fn current(&self) -> &SecretEpoch {
        self.epochs.last().expect("a secret has at least one epoch")
    }
}

impl Assignment {
    /// Where its callers find it: where the mesh API is reached, unless somebody has said otherwise.
    pub fn listen(&self) -> SocketAddr {
        let said = match &self.registered_by {
            RegisteredBy::Supervisor => None,
            RegisteredBy::Itself(words) => words.listen,
        };
        said.unwrap_or_else(|| SocketAddr::new(self.mesh.address.ip(), 0))
    }

    /// The assignment as the payload of a frame.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an assignment has no map with keys that JSON cannot write")
    }

    /// Reads an assignment back.
    ///
    /// # Errors
    /// The payload holds something else.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(payload).map_err(|_| FrameError::Malformed("assignment"))
    }
}

/// A word of the shared vocabulary as its text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(word: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(word)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Several of them.
mod as_texts {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use types::ServiceName;

    pub(super) fn serialize<S: Serializer>(names: &[ServiceName], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(ServiceName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<ServiceName>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        Assignment {
            replica: "vrf/2".parse().unwrap(),
            version: "1.0.0".into(),
            config: serde_json::json!({"suite": "ed25519", "price": 1.10}),
            mesh: MeshCoordinates {
                address: "127.0.0.1:7071".parse().unwrap(),
                root_spki: Bytes(vec![1; 91]),
                trust_domain: "serviceos.dev.invalid".into(),
                mode: Mode::Development,
                transition: Bytes(vec![2; 32]),
                evidence_root: Some(Bytes(vec![3; 9])),
                authority_workload: Bytes(vec![4; 32]),
            },
            ticket: Bytes(vec![5; 40]),
            allow: vec!["oracle".parse().unwrap()],
            registered_by: RegisteredBy::Itself(OwnWords::default()),
            config_reload: ConfigReload::Signal,
        }
    }

    #[test]
    fn an_assignment_reads_back_as_it_was_written() {
        assert_eq!(Assignment::decode(&assignment().encode()).unwrap(), assignment());
    }

    #[test]
    fn a_replica_listens_where_the_mesh_is_reached_unless_it_is_told_otherwise() {
        let mut assignment = assignment();
        assert_eq!(assignment.listen().to_string(), "127.0.0.1:0");
        let listen = "10.0.0.7:7443".parse().ok();
        assignment.registered_by = RegisteredBy::Itself(OwnWords { listen, ..OwnWords::default() });
        assert_eq!(Some(assignment.listen()), listen);
        assignment.registered_by = RegisteredBy::Supervisor;
        assert_eq!(assignment.listen().to_string(), "127.0.0.1:0");
    }

    #[test]
    fn a_cut_or_padded_assignment_is_refused_at_every_length() {
        let bytes = assignment().encode();
        for length in 0..bytes.len() {
            assert!(Assignment::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Assignment::decode(&[bytes.as_slice(), b"x"].concat()).is_err());
    }
}
