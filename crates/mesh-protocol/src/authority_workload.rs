//! What the authority runs now, said by the mesh's root. A replica that an earlier authority has launched was told of that one; without
//! this it would take the next one, built anew, for a stranger, and could not renew.

use serde::{Deserialize, Serialize};
use types::wire::Message;

use crate::{Bytes, is_signed_by};

/// The workload digest of the authority in one transition, with the signature of the mesh's root over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityWorkload {
    /// What its evidence shows.
    pub workload: Bytes,
    /// Over [`message`](Self::message).
    pub signature: Bytes,
}

impl AuthorityWorkload {
    /// What the root signs: "serviceos/authority/v1\0" ‖ lp(trust domain) ‖ lp(T_n) ‖ lp(workload digest).
    pub fn message(trust_domain: &str, transition: [u8; 32], workload: [u8; 32]) -> Vec<u8> {
        let message = Message::tagged(b"serviceos/authority/v1\0").lp(trust_domain.as_bytes());
        message.lp(transition).lp(workload).finish()
    }

    /// The digest, if the root has signed it for this transition of this mesh.
    pub fn verify(&self, root_spki: &[u8], trust_domain: &str, transition: [u8; 32]) -> Option<[u8; 32]> {
        let workload = self.workload.0.as_slice().try_into().ok()?;
        let message = Self::message(trust_domain, transition, workload);
        is_signed_by(root_spki, &message, &self.signature.0).then_some(workload)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    const DOMAIN: &str = "test.dev.invalid";

    fn key() -> (EcdsaKeyPair, Vec<u8>) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        (pair, spki)
    }

    #[test]
    fn what_the_root_has_signed_counts_for_its_mesh_and_its_transition_alone() {
        let (pair, root) = key();
        let message = AuthorityWorkload::message(DOMAIN, [1; 32], [7; 32]);
        let signature = Bytes(pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec());
        let said = AuthorityWorkload { workload: Bytes(vec![7; 32]), signature };
        assert_eq!(said.verify(&root, DOMAIN, [1; 32]), Some([7; 32]));
        assert_eq!(said.verify(&key().1, DOMAIN, [1; 32]), None, "another root");
        assert_eq!(said.verify(&root, "other.dev.invalid", [1; 32]), None, "another mesh");
        assert_eq!(said.verify(&root, DOMAIN, [2; 32]), None, "another transition");
        let claimed = |workload| AuthorityWorkload { workload: Bytes(workload), ..said.clone() };
        assert_eq!(claimed(vec![8; 32]).verify(&root, DOMAIN, [1; 32]), None, "another authority");
        assert_eq!(claimed(vec![7; 31]).verify(&root, DOMAIN, [1; 32]), None, "no digest");
    }
}
