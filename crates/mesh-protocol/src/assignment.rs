//! What a replica is told at its start. Binary, not JSON: a text form of a key would be one more copy to wipe.

use std::collections::BTreeMap;

use types::ReplicaId;
use types::wire::{Message, Reader};
use zeroize::Zeroizing;

use crate::FrameError;

const TAG: &[u8] = b"serviceos/assignment/v1\0";

/// Everything a replica is given: who it is, its configuration and its secrets.
#[derive(Clone)]
pub struct Assignment {
    /// Which replica of which service it is.
    pub replica: ReplicaId,
    /// The label of its version.
    pub version: String,
    /// The service's `config`, a JSON object.
    pub config: serde_json::Value,
    /// The secrets that the service is allowed.
    pub secrets: SecretSet,
}

/// Secrets by name.
pub type SecretSet = BTreeMap<String, Secret>;

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
    /// The assignment as the payload of a frame; wiped when dropped.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let config = self.config.to_string();
        let secrets: usize = self
            .secrets
            .iter()
            .map(|(name, secret)| {
                8 + name.len() + secret.epochs.iter().map(|epoch| 8 + epoch.value.len()).sum::<usize>()
            })
            .sum();
        let room = TAG.len() + config.len() + self.version.len() + 128 + secrets;
        let mut message = Message::tagged(TAG).with_room(room);
        message =
            message.lp(self.replica.to_string()).lp(&self.version).lp(config).raw(count(self.secrets.len()));
        for (name, secret) in &self.secrets {
            message = message.lp(name).raw(count(secret.epochs.len()));
            for epoch in &secret.epochs {
                message = message.raw(epoch.epoch.to_be_bytes()).lp(epoch.value.as_slice());
            }
        }
        Zeroizing::new(message.finish())
    }

    /// Reads an assignment back.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        decode(payload).ok_or(FrameError::Malformed("assignment"))
    }
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("an assignment has a handful of secrets").to_be_bytes()
}

fn decode(payload: &[u8]) -> Option<Assignment> {
    let mut reader = Reader::new(payload);
    if reader.raw(TAG.len())? != TAG {
        return None;
    }
    let replica = text(&mut reader)?.parse().ok()?;
    let version = text(&mut reader)?.to_owned();
    let config = serde_json::from_slice(reader.lp()?).ok()?;
    let mut secrets = SecretSet::new();
    for _ in 0..u32::from_be_bytes(reader.array()?) {
        let name = text(&mut reader)?.to_owned();
        let mut epochs = Vec::new();
        for _ in 0..u32::from_be_bytes(reader.array()?) {
            let epoch = u32::from_be_bytes(reader.array()?);
            epochs.push(SecretEpoch { epoch, value: Zeroizing::new(reader.lp()?.to_vec()) });
        }
        let ascending = epochs.is_sorted_by(|a, b| a.epoch < b.epoch);
        if epochs.is_empty() || !ascending {
            return None;
        }
        secrets.insert(name, Secret { epochs });
    }
    reader.is_empty().then_some(Assignment { replica, version, config, secrets })
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    std::str::from_utf8(reader.lp()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        let epoch = |epoch, byte| SecretEpoch { epoch, value: Zeroizing::new(vec![byte; 32]) };
        Assignment {
            replica: "vrf/2".parse().unwrap(),
            version: "1.0.0".into(),
            config: serde_json::json!({"suite": "ed25519"}),
            secrets: SecretSet::from([(
                "vrf-key".to_owned(),
                Secret { epochs: vec![epoch(1, 7), epoch(3, 9)] },
            )]),
        }
    }

    #[test]
    fn an_assignment_reads_back_as_it_was_written() {
        let decoded = Assignment::decode(&assignment().encode()).unwrap();
        assert_eq!((decoded.replica.to_string().as_str(), decoded.version.as_str()), ("vrf/2", "1.0.0"));
        assert_eq!(decoded.config["suite"], "ed25519");
        let current = decoded.secrets["vrf-key"].current();
        assert_eq!((current.epoch, current.value.as_slice()), (3, &[9; 32][..]));
    }

    #[test]
    fn a_cut_or_padded_assignment_is_refused_at_every_length() {
        let bytes = assignment().encode();
        for length in 0..bytes.len() {
            assert!(Assignment::decode(&bytes[..length]).is_err(), "{length}");
        }
        let padded = [bytes.as_slice(), &[0]].concat();
        assert!(Assignment::decode(&padded).is_err());
    }
}
