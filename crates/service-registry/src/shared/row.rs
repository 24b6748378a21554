//! What is written of a replica: everything that another node's gateway must know to send requests to it, and what `status`
//! shows of it there.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use types::wire::Message;
use types::{Description, ReplicaId, ServiceName};

use super::Seal;
use crate::{
    Appraised, Attestation, Attested, Channel, LifecycleState, Presence, Refusal, Registration, Replica,
    SpecDigest, Version,
};

/// Where all replicas are.
pub(super) const INSTANCES: &str = "instances/";
/// The largest row, in bytes.
const MAX_ROW_BYTES: usize = 64 << 10;

/// The key of a replica's row.
pub(super) fn key(replica: &ReplicaId) -> String {
    format!("{INSTANCES}{}/{}", replica.service, replica.instance())
}

/// The replica of a key.
pub(super) fn replica_of(key: &[u8]) -> Option<ReplicaId> {
    let (service, instance) = str::from_utf8(key).ok()?.strip_prefix(INSTANCES)?.split_once('/')?;
    ReplicaId::of_instance(service.parse::<ServiceName>().ok()?, instance).ok().filter(|id| id.node.is_some())
}

/// The facts of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    v: u32,
    /// The claim under which it was written: with it, the number of the run says which run it is.
    pub(super) token: u64,
    pub(super) run: Option<Run>,
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) since: Timestamp,
    pub(super) restarts: u32,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) attestation: Attested,
    pub(super) attested_since: Timestamp,
    pub(super) refusal: Option<Refusal>,
    pub(super) appraised: Option<Appraised>,
    #[serde(default)]
    pub(super) presence: Said,
}

/// Why a replica is there, as it is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Said {
    #[default]
    Given,
    Vacant,
    Registered(SaidOfItself),
}

/// A registration with the node that holds its lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SaidOfItself {
    lease: String,
    fencing_token: u64,
    description: Description,
}

/// A run that listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) address: SocketAddr,
    /// The label of its version.
    pub(super) version: String,
    /// What the version is made of; what wrote none knows nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spec: Option<String>,
    pub(super) spiffe_id: String,
    /// The SHA-256 of the certificate in force.
    pub(super) leaf: [u8; 32],
    /// The one before, and until when it may be shown.
    pub(super) former: Option<([u8; 32], Timestamp)>,
}

/// The seed's four states, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Starting,
    Ready,
    Draining,
    Stopped,
}

/// A row as it is stored.
#[derive(Serialize, Deserialize)]
struct Sealed {
    row: String,
    /// When it was signed, in Unix milliseconds; of one replica's rows, a later one is never less.
    at: u64,
    signature: String,
}

impl Run {
    /// The version that it says.
    pub(super) fn version(&self) -> Version {
        match self.spec.as_deref().and_then(SpecDigest::from_hex) {
            Some(spec) => Version::new(&self.version, spec),
            None => self.version.as_str().into(),
        }
    }
}

impl Row {
    /// What is to be written of a replica of this node.
    pub(super) fn of(replica: &Replica, token: u64, now: Timestamp) -> Self {
        let run = replica.instance.as_ref().and_then(|instance| match &instance.channel {
            Channel::Mesh(peer) => {
                let (leaf, former) = peer.certificates(now)?;
                Some(Run {
                    number: instance.incarnation,
                    address: instance.address,
                    version: instance.version.label().to_owned(),
                    spec: instance.version.spec().map(|spec| spec.to_string()),
                    spiffe_id: peer.spiffe_id().to_owned(),
                    leaf,
                    former,
                })
            }
            Channel::Plain | Channel::Tls(_) => None,
        });
        let attestation = &replica.attestation;
        Self {
            v: 1,
            token,
            run,
            state: replica.state.into(),
            reason: replica.reason.clone(),
            since: replica.since,
            restarts: replica.restarts,
            weight: replica.weight,
            priority: replica.priority,
            attestation: attestation.value,
            attested_since: attestation.since,
            refusal: attestation.reason.as_deref().cloned(),
            appraised: attestation.appraised.as_deref().cloned(),
            presence: Said::of(&replica.presence),
        }
    }

    /// The attestation that it says.
    pub(super) fn attestation(&self) -> Attestation {
        Attestation {
            value: self.attestation,
            since: self.attested_since,
            reason: self.refusal.clone().map(Arc::new),
            appraised: self.appraised.clone().map(Arc::new),
        }
    }

    /// Its bytes in the store, signed for its key.
    pub(super) fn seal(&self, key: &str, at: u64, seal: &dyn Seal) -> Result<Vec<u8>, String> {
        let row = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let signature = hex(&seal.sign(&message(key, at, &row))?);
        serde_json::to_vec(&Sealed { row, at, signature }).map_err(|error| error.to_string())
    }

    /// The row in these bytes, and when it was signed; or why it is none that the mesh has written for this key.
    pub(super) fn open(key: &str, bytes: &[u8], seal: &dyn Seal) -> Result<(Self, u64), &'static str> {
        if bytes.len() > MAX_ROW_BYTES {
            return Err("it is too large");
        }
        let sealed: Sealed = serde_json::from_slice(bytes).map_err(|_| "it cannot be read")?;
        let signature = from_hex(&sealed.signature).ok_or("its signature cannot be read")?;
        if !seal.is_signed(&message(key, sealed.at, &sealed.row), &signature) {
            return Err("it is not signed by the mesh");
        }
        let row: Self =
            serde_json::from_str(&sealed.row).map_err(|_| "it is of another version of serviceos")?;
        if row.v == 1 { Ok((row, sealed.at)) } else { Err("it is of another version of serviceos") }
    }
}

impl Said {
    fn of(presence: &Presence) -> Self {
        match presence {
            Presence::Given => Self::Given,
            Presence::Vacant => Self::Vacant,
            Presence::Registered(registration) => {
                let Registration { lease, fencing_token, description } = registration.as_ref().clone();
                Self::Registered(SaidOfItself { lease, fencing_token, description })
            }
        }
    }

    /// As the registry says it.
    pub(super) fn presence(&self) -> Presence {
        match self {
            Self::Given => Presence::Given,
            Self::Vacant => Presence::Vacant,
            Self::Registered(said) => {
                let SaidOfItself { lease, fencing_token, description } = said.clone();
                Presence::Registered(Arc::new(Registration { lease, fencing_token, description }))
            }
        }
    }
}

fn message(key: &str, at: u64, row: &str) -> Vec<u8> {
    Message::tagged(b"serviceos/instance/v1\0").lp(key).raw(at.to_be_bytes()).lp(row).finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

impl From<LifecycleState> for State {
    fn from(state: LifecycleState) -> Self {
        match state {
            LifecycleState::Starting => Self::Starting,
            LifecycleState::Ready => Self::Ready,
            LifecycleState::Draining => Self::Draining,
            LifecycleState::Stopped => Self::Stopped,
        }
    }
}

impl From<State> for LifecycleState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Ready => Self::Ready,
            State::Draining => Self::Draining,
            State::Stopped => Self::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_says_nothing_of_what_its_version_is_made_of_has_a_label() {
        let leaf = vec!["1"; 32].join(",");
        let text = |more: &str| {
            format!(
                r#"{{"number":7,"address":"10.0.0.1:4000","version":"1.0.0","spiffeId":"a","leaf":[{leaf}],"former":null{more}}}"#
            )
        };
        let version = |more: &str| serde_json::from_str::<Run>(&text(more)).unwrap().version();
        assert_eq!(version(""), "1.0.0".into());
        assert_eq!(version(r#","spec":"none that is known here""#), "1.0.0".into());
        let spec = format!(r#","spec":"{}""#, "3f".repeat(32));
        assert_eq!(version(&spec), Version::new("1.0.0", SpecDigest([0x3f; 32])));
    }
}
