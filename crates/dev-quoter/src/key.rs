//! A P-256 key that signs certificates (ASN.1 signatures) and reports (r ‖ s).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::DevQuoterError;

pub(crate) struct Key {
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

impl Key {
    pub(crate) fn generate() -> Result<Self, DevQuoterError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| DevQuoterError::Crypto("making a development key"))?;
        Self::from_pkcs8(&pkcs8(&pair)?).ok_or(DevQuoterError::Crypto("reading a development key back"))
    }

    /// `None` where the bytes are no such key.
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let asn1 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        let fixed = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        Some(Self { asn1, fixed })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, DevQuoterError> {
        pkcs8(&self.fixed)
    }

    /// x ‖ y.
    pub(crate) fn coordinates(&self) -> [u8; 64] {
        let point = self.fixed.public_key().as_ref();
        point[1..].try_into().expect("an uncompressed point is 4, x and y")
    }

    /// The signature r ‖ s.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], DevQuoterError> {
        let signature = self.fixed.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| DevQuoterError::Crypto("signing"))?;
        Ok(signature.as_ref().try_into().expect("r and s have 32 bytes each"))
    }
}

fn pkcs8(pair: &EcdsaKeyPair) -> Result<Zeroizing<Vec<u8>>, DevQuoterError> {
    let document = pair.to_pkcs8v1().map_err(|_| DevQuoterError::Crypto("writing a development key"))?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.asn1.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.asn1.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
    }
}
