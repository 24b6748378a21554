//! The beginning of a mesh: its root key, and T_0, which names the mesh for ever.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use types::Mode;
use types::wire::Message;
use zeroize::Zeroizing;

use crate::SecretsError;

/// Which mesh this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The trust domain, such as `serviceos.dev.invalid`.
    pub trust_domain: String,
    /// The mode.
    pub mode: Mode,
}

impl Domain {
    /// T_0, the first link of the manifest's chain:
    /// SHA-256("serviceos/genesis/v1\0" ‖ lp(trustDomain) ‖ lp(mode) ‖ lp(rootSPKI)).
    pub fn genesis(&self, root_spki: &[u8]) -> [u8; 32] {
        let message = Message::tagged(b"serviceos/genesis/v1\0")
            .lp(&self.trust_domain)
            .lp(self.mode.as_str())
            .lp(root_spki);
        let hash = digest(&SHA256, &message.finish());
        hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }
}

/// The mesh root key, a P-256 key that is made at the first start.
pub(crate) struct RootKey {
    /// The public key as a DER SubjectPublicKeyInfo, uncompressed: 91 bytes.
    pub(crate) spki: Vec<u8>,
    /// The private key as PKCS #8.
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
}

impl RootKey {
    pub(crate) fn generate() -> Result<Self, SecretsError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| SecretsError::Crypto("making the mesh root key"))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| SecretsError::Crypto("writing the mesh root key"))?;
        Ok(Self { spki: spki(&pair)?, pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()) })
    }

    /// Whether the private key is the one of the public key that T_0 names.
    pub(crate) fn matches(pkcs8: &[u8], expected: &[u8]) -> bool {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .ok()
            .and_then(|pair| spki(&pair).ok())
            .is_some_and(|found| found == expected)
    }
}

fn spki(pair: &EcdsaKeyPair) -> Result<Vec<u8>, SecretsError> {
    let der =
        pair.public_key().as_der().map_err(|_| SecretsError::Crypto("writing the mesh root's public key"))?;
    Ok(der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_hash_agrees_with_an_independent_computation() {
        let domain = Domain { trust_domain: "serviceos.dev.invalid".into(), mode: Mode::Development };
        let hex: String = domain.genesis(&[7; 91]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0c1e6f648661f3f196e8a1f8aaf52bbfc8d932f32b6a2b375532b5a3d3fc869d");
    }

    #[test]
    fn a_root_key_knows_its_own_public_key_in_91_bytes() {
        let (root, other) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
        assert_eq!(root.spki.len(), 91);
        assert!(RootKey::matches(&root.pkcs8, &root.spki));
        assert!(!RootKey::matches(&root.pkcs8, &other.spki));
    }
}
