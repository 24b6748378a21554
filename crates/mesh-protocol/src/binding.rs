//! What evidence is bound to: the 64 bytes that a trusted execution environment puts into its report.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use types::Mode;
use types::wire::Message;

use crate::EvidenceKind;

/// What the evidence of a replica that joins says beside its measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinBinding<'a> {
    /// The authority's nonce of this join.
    pub authority_nonce: [u8; 32],
    /// The replica's own nonce.
    pub replica_nonce: [u8; 32],
    /// Of which kind the evidence is.
    pub kind: EvidenceKind,
    /// The key that the certificate is for, as DER SubjectPublicKeyInfo.
    pub identity_spki: &'a [u8],
    /// The X25519 key that secrets are sealed to.
    pub hpke_public: [u8; 32],
    /// The key that signs receipts, as DER SubjectPublicKeyInfo.
    pub receipt_spki: &'a [u8],
    /// Which service it is.
    pub service: &'a str,
    /// The label of its version.
    pub version: &'a str,
    /// Which of the service's replicas it is.
    pub instance: &'a str,
    /// The trust domain that it joins.
    pub trust_domain: &'a str,
    /// The key of the mesh listener, as the replica saw it in the handshake.
    pub authority_spki: &'a [u8],
    /// The key of the mesh's root.
    pub root_spki: &'a [u8],
    /// T_n, the transition of the manifest.
    pub transition: [u8; 32],
    /// The mode.
    pub mode: Mode,
    /// The workload digest W.
    pub workload: [u8; 32],
    /// SHA-256 of the canonical `config`.
    pub config_digest: [u8; 32],
    /// SHA-256 of the certificate that is renewed; `None` at the first join.
    pub previous_leaf: Option<[u8; 32]>,
}

impl JoinBinding<'_> {
    /// RD, the report data: SHA-512("serviceos/join/v1\0" ‖ lp of each field).
    pub fn report_data(&self) -> [u8; 64] {
        let previous: &[u8] = self.previous_leaf.as_ref().map_or(&[], |leaf| leaf);
        let message = Message::tagged(b"serviceos/join/v1\0")
            .lp(self.authority_nonce)
            .lp(self.replica_nonce)
            .lp(self.kind.as_str())
            .lp(self.identity_spki)
            .lp(self.hpke_public)
            .lp(self.receipt_spki)
            .lp(self.service)
            .lp(self.version)
            .lp(self.instance)
            .lp(self.trust_domain)
            .lp(self.authority_spki)
            .lp(self.root_spki)
            .lp(self.transition)
            .lp(self.mode.as_str())
            .lp(self.workload)
            .lp(self.config_digest)
            .lp(previous);
        sha512(&message.finish())
    }
}

/// What the evidence of the authority says beside its measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityBinding<'a> {
    /// The nonce of whoever asks, or the root of a tree of nonces.
    pub nonce: [u8; 32],
    /// The key of the mesh listener.
    pub authority_spki: &'a [u8],
    /// The key of the mesh's root.
    pub root_spki: &'a [u8],
    /// The trust domain.
    pub trust_domain: &'a str,
    /// T_n.
    pub transition: [u8; 32],
    /// The mode.
    pub mode: Mode,
}

impl AuthorityBinding<'_> {
    /// RD_A, the report data: SHA-512("serviceos/authority/v1\0" ‖ lp of each field).
    pub fn report_data(&self) -> [u8; 64] {
        let message = Message::tagged(b"serviceos/authority/v1\0")
            .lp(self.nonce)
            .lp(self.authority_spki)
            .lp(self.root_spki)
            .lp(self.trust_domain)
            .lp(self.transition)
            .lp(self.mode.as_str());
        sha512(&message.finish())
    }
}

/// T_n = SHA-256("serviceos/transition/v1\0" ‖ u64 n ‖ SHA-256(canonical manifest) ‖ T_{n-1}).
pub fn transition(n: u64, manifest_hash: &[u8; 32], previous: &[u8; 32]) -> [u8; 32] {
    let message =
        Message::tagged(b"serviceos/transition/v1\0").raw(n.to_be_bytes()).raw(manifest_hash).raw(previous);
    sha256(&message.finish())
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    digest(&SHA512, bytes).as_ref().try_into().expect("SHA-512 gives 64 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_report_data_of_a_join_agrees_with_an_independent_computation() {
        let binding = JoinBinding {
            authority_nonce: [1; 32],
            replica_nonce: [2; 32],
            kind: EvidenceKind::Simulated,
            identity_spki: &[3; 91],
            hpke_public: [4; 32],
            receipt_spki: &[5; 91],
            service: "vrf",
            version: "1.0.0",
            instance: "0",
            trust_domain: "serviceos.dev.invalid",
            authority_spki: &[6; 91],
            root_spki: &[7; 91],
            transition: [8; 32],
            mode: Mode::Development,
            workload: [9; 32],
            config_digest: [10; 32],
            previous_leaf: None,
        };
        assert_eq!(
            hex(&binding.report_data()),
            "eff04a8f992fac38c0ba78006ec2f72b05bdf28d62d36e13ddb7d4347c6792a8277eb75cdcffeecb90731a65b440dbb76520fe01aae3286b9b446b4979ad6eaf"
        );
    }

    #[test]
    fn the_first_transition_agrees_with_an_independent_computation() {
        let genesis: Vec<u8> = (0..32)
            .map(|place| {
                let hex = "0c1e6f648661f3f196e8a1f8aaf52bbfc8d932f32b6a2b375532b5a3d3fc869d";
                u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap()
            })
            .collect();
        let first = transition(1, &[11; 32], genesis.as_slice().try_into().unwrap());
        assert_eq!(hex(&first), "1341eb99df8ddb9542d7ba0fba17611618d46a57885edf242115df870a418948");
    }
}
