//! The signatures of the mesh: ECDSA P-256 with SHA-256, raw r ‖ s.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use crate::TrustError;

/// A P-256 key that signs.
#[derive(Clone)]
pub struct Signer {
    pair: Arc<EcdsaKeyPair>,
    spki: Arc<[u8]>,
}

impl Signer {
    /// The key of a PKCS #8 document.
    ///
    /// # Errors
    /// It holds no P-256 key.
    pub fn new(pkcs8: &[u8]) -> Result<Self, TrustError> {
        let unreadable = || TrustError::Certificate("a signing key of the mesh cannot be read".into());
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| unreadable())?;
        let spki = pair.public_key().as_der().map_err(|_| unreadable())?.as_ref().into();
        Ok(Self { pair: Arc::new(pair), spki })
    }

    /// The public key, as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Signs.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TrustError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| TrustError::Randomness)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The key pair itself.
    pub(crate) fn pair(&self) -> &Arc<EcdsaKeyPair> {
        &self.pair
    }
}
