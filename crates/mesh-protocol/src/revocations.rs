//! What is no longer trusted: a list with an epoch that only grows, signed by the mesh's root.

use serde::{Deserialize, Serialize};
use types::wire::Message;

use crate::{
    AuthorityWorkload, Bytes, NotCanonical, SpiffeId, WantedConfig, canonical, is_signed_by, to_hex,
};

/// How long a list says it holds, in seconds; a reader that gets none for longer than it allows counts everything as revoked.
const NEXT: u64 = 60;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevokedType {
    /// A replica, by its SPIFFE ID.
    Instance,
    /// A certificate, by its SHA-256.
    Leaf,
    /// A measurement.
    Measurement,
    /// A machine, by its hardware id.
    Platform,
    /// Every platform that an advisory applies to.
    Advisory,
}

/// One thing that is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// What it is about.
    #[serde(rename = "type")]
    pub about: RevokedType,
    /// Which one; hexadecimal in lower case.
    pub value: String,
    /// Since when, in Unix seconds.
    pub at: u64,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revocations {
    /// The version of this form: 1.
    pub v: u8,
    /// Grows with each change.
    pub epoch: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// When the next one is there at the latest, Unix seconds.
    pub next_at: u64,
    /// T_n.
    pub t_n: Bytes,
    /// What is revoked, in the order in which it was.
    pub entries: Vec<Revoked>,
}

/// The list with the signature of the mesh's root over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRevocations {
    /// The list.
    pub revocations: Revocations,
    /// Over "serviceos/revocations/v1\0" ‖ lp(canonical JSON).
    pub signature: Bytes,
}

impl Revocations {
    /// A list in which nothing is revoked.
    pub fn none(transition: [u8; 32], now: u64) -> Self {
        let t_n = Bytes(transition.to_vec());
        Self { v: 1, epoch: 0, issued_at: now, next_at: now + NEXT, t_n, entries: Vec::new() }
    }

    /// The same list, said again now.
    #[must_use]
    pub fn renewed(&self, transition: [u8; 32], now: u64) -> Self {
        Self { issued_at: now, next_at: now + NEXT, t_n: Bytes(transition.to_vec()), ..self.clone() }
    }

    /// What the root signs: "serviceos/revocations/v1\0" ‖ lp(canonical JSON).
    ///
    /// # Errors
    /// A number is too large for canonical JSON.
    pub fn message(&self) -> Result<Vec<u8>, NotCanonical> {
        let json = serde_json::to_value(self).expect("a list has no map with keys that JSON cannot write");
        Ok(Message::tagged(b"serviceos/revocations/v1\0").lp(canonical(&json)?).finish())
    }

    /// Whether a certificate that verifies names somebody who is revoked.
    pub fn revokes(&self, id: &SpiffeId, leaf: &[u8; 32]) -> bool {
        let (id, leaf) = (id.to_string(), to_hex(leaf));
        self.entries.iter().any(|entry| match entry.about {
            RevokedType::Instance => entry.value == id,
            RevokedType::Leaf => entry.value == leaf,
            RevokedType::Measurement | RevokedType::Platform | RevokedType::Advisory => false,
        })
    }
}

impl SignedRevocations {
    /// The list, if the root has signed it.
    pub fn verify(&self, root_spki: &[u8]) -> Option<&Revocations> {
        let message = self.revocations.message().ok()?;
        is_signed_by(root_spki, &message, &self.signature.0).then_some(&self.revocations)
    }
}

/// `GET /v1/watch?epoch=E&tn=T&granted=G&config=C`, answered at once where the epoch is another than E, T_n another than T, what
/// the caller's service is given another than G, or the number of its configuration another than C, else within 20 seconds.
///
/// The two ends may be of different binaries: whoever reads it passes over what it does not know, and misses nothing but the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// What is revoked.
    pub revocations: SignedRevocations,
    /// [`granted_digest`](crate::granted_digest) of what a join would give the caller now; none for whoever is no replica of a
    /// service that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Bytes>,
    /// Which configuration the caller is to work with. It is never older than the transition that the list names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<WantedConfig>,
    /// What the authority runs in the transition that the list names; an earlier one does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityWorkload>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_answer_can_be_read_by_a_replica_of_an_earlier_binary_and_by_one_of_a_later() {
        let list = Revocations::none([0; 32], 1);
        let revocations = SignedRevocations { revocations: list, signature: Bytes::default() };
        let answer = WatchAnswer { revocations, granted: None, config: None, authority: None };
        let mut document = serde_json::to_value(&answer).unwrap();
        assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), ["revocations"]);
        let read = |document: &Value| serde_json::from_value::<WatchAnswer>(document.clone()).unwrap();
        assert_eq!(read(&document), answer, "of an earlier authority");
        document["said"] = json!({"by": "a later one"});
        assert_eq!(read(&document), answer);
    }
}
