//! What a released secret is sealed and signed with; both ends make the same bytes.

use types::Mode;
use types::wire::Message;

use crate::{SealedSecret, sha256};

/// The `info` of HPKE: "serviceos/hpke/v1\0" ‖ RD.
pub fn hpke_info(report_data: &[u8; 64]) -> Vec<u8> {
    Message::tagged(b"serviceos/hpke/v1\0").raw(report_data).finish()
}

/// What somebody is given of the secrets, without the values: SHA-256("serviceos/granted/v1\0" ‖ lp(name) ‖ u64 version ‖ u32
/// epoch…), sorted. Whoever has joined makes it of what came, and the authority of what would come.
pub fn granted_digest<'a>(versions: impl IntoIterator<Item = (&'a str, u64, u32)>) -> [u8; 32] {
    let mut sorted: Vec<_> = versions.into_iter().collect();
    sorted.sort_unstable();
    let message = Message::tagged(b"serviceos/granted/v1\0");
    let add = |message: Message, (name, version, epoch): (&str, u64, u32)| {
        message.lp(name).raw(version.to_be_bytes()).raw(epoch.to_be_bytes())
    };
    sha256(&sorted.into_iter().fold(message, add).finish())
}

/// To whom a set of secrets is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release<'a> {
    /// The mode.
    pub mode: Mode,
    /// The trust domain.
    pub trust_domain: &'a str,
    /// T_n.
    pub transition: [u8; 32],
    /// The identity of the replica.
    pub spiffe_id: &'a str,
    /// SHA-256 of its certificate.
    pub leaf: [u8; 32],
}

impl Release<'_> {
    /// The associated data of one secret: "serviceos/release/v1\0" ‖ lp of mode, trust domain, T_n, identity, leaf, name, u64
    /// version, u32 epoch.
    pub fn associated_data(&self, name: &str, version: u64, epoch: u32) -> Vec<u8> {
        Message::tagged(b"serviceos/release/v1\0")
            .lp(self.mode.as_str())
            .lp(self.trust_domain)
            .lp(self.transition)
            .lp(self.spiffe_id)
            .lp(self.leaf)
            .lp(name)
            .lp(version.to_be_bytes())
            .lp(epoch.to_be_bytes())
            .finish()
    }

    /// What the authority signs: "serviceos/release-set/v1\0" ‖ lp(RD) ‖ lp(leaf) ‖ u32 count ‖ lp(SHA-256(enc ‖ ct))…, sorted by
    /// name and epoch.
    pub fn set_message(&self, report_data: &[u8; 64], secrets: &[SealedSecret]) -> Vec<u8> {
        let mut sorted: Vec<_> = secrets.iter().collect();
        sorted.sort_by(|a, b| (&a.name, a.epoch).cmp(&(&b.name, b.epoch)));
        let count = u32::try_from(sorted.len()).expect("a service has a handful of secrets");
        let mut message = Message::tagged(b"serviceos/release-set/v1\0")
            .lp(report_data)
            .lp(self.leaf)
            .raw(count.to_be_bytes());
        for secret in sorted {
            message = message.lp(sha256(&[secret.enc.0.as_slice(), &secret.ct.0].concat()));
        }
        message.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_what_is_given_knows_no_order_and_every_number() {
        let digest = granted_digest([("a", 1, 1), ("b", 2, 1), ("b", 3, 2)]);
        assert_eq!(digest, granted_digest([("b", 3, 2), ("a", 1, 1), ("b", 2, 1)]));
        for other in [
            &[("a", 1, 1), ("b", 2, 1)][..],
            &[("a", 2, 1), ("b", 2, 1), ("b", 3, 2)],
            &[("a", 1, 2), ("b", 2, 1), ("b", 3, 2)],
            &[("c", 1, 1), ("b", 2, 1), ("b", 3, 2)],
            &[],
        ] {
            assert_ne!(digest, granted_digest(other.iter().copied()), "{other:?}");
        }
    }
}
