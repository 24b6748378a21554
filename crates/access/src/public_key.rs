//! The public keys that callers sign their requests with: read strictly, from PEM or DER SubjectPublicKeyInfo, in one of three
//! forms and no other.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::AccessError;

/// The longest text that is read: an RSA key of 8192 bits has 1.5 KiB.
const MAX_PEM_BYTES: usize = 4096;
const MIN_RSA_BITS: usize = 2048;
/// What stands before the 32 bytes of an Ed25519 key (RFC 8410 section 4).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 64 bytes of an uncompressed point of P-256 (RFC 5480 section 2).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// The algorithm of an RSA key (RFC 3279 section 2.3.1), which follows the length of the whole, of two bytes.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// How requests are signed, by the names of RFC 9421 section 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA over P-256 with SHA-256; the signature is `r` and `s`, 64 bytes.
    #[serde(rename = "ecdsa-p256-sha256")]
    P256,
    /// RSASSA-PSS with SHA-512 and a salt of 64 bytes.
    #[serde(rename = "rsa-pss-sha512")]
    RsaPss,
}

impl SignatureAlgorithm {
    /// Its name in a signature's `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "ecdsa-p256-sha256",
            Self::RsaPss => "rsa-pss-sha512",
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::RsaPss => &RSA_PSS_2048_8192_SHA512,
        }
    }
}

/// What a list of keys shows of a public one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicKeyInfo {
    /// How its holder signs.
    pub algorithm: SignatureAlgorithm,
    /// The SHA-256 of its DER SubjectPublicKeyInfo, 64 digits.
    pub sha256: String,
}

/// A public key that was read and can be used.
#[derive(Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    algorithm: SignatureAlgorithm,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Reads PEM SubjectPublicKeyInfo, one key and nothing beside it.
    ///
    /// # Errors
    /// What it is instead, in words for whoever made the file.
    pub fn from_pem(text: &str) -> Result<Self, AccessError> {
        const WANTED: &str = "expected one PEM block `PUBLIC KEY`, as `openssl pkey -pubout` writes it";
        let invalid = |why: &str| AccessError::Invalid(format!("public key: {why}"));
        if text.contains("PRIVATE KEY") {
            let why = "this is a private key, which nobody but its owner should have; give the public one";
            return Err(invalid(why));
        }
        if text.len() > MAX_PEM_BYTES {
            return Err(invalid(WANTED));
        }
        let body = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
        let body: String = body.ok_or_else(|| invalid(WANTED))?.split_ascii_whitespace().collect();
        Self::from_spki(&STANDARD.decode(body).map_err(|_| invalid(WANTED))?)
    }

    /// Reads DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Which keys are taken.
    pub fn from_spki(spki: &[u8]) -> Result<Self, AccessError> {
        let unfit = || {
            AccessError::Invalid(format!(
                "public key: expected Ed25519, P-256 with an uncompressed point, or RSA of {MIN_RSA_BITS} to 8192 bits"
            ))
        };
        let algorithm = algorithm_of(spki).ok_or_else(unfit)?;
        let parsed = ParsedPublicKey::new(algorithm.verification(), spki).map_err(|_| unfit())?;
        Ok(Self { spki: spki.to_vec(), algorithm, parsed })
    }

    /// How its holder signs.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// What a list shows of it.
    pub fn info(&self) -> PublicKeyInfo {
        let hash = digest::digest(&digest::SHA256, &self.spki);
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        PublicKeyInfo { algorithm: self.algorithm, sha256 }
    }

    /// Whether its holder has signed the message.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    pub(crate) fn encoded(&self) -> String {
        STANDARD.encode(&self.spki)
    }

    pub(crate) fn decode(encoded: &str) -> Option<Self> {
        Self::from_spki(&STANDARD.decode(encoded).ok()?).ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({} {})", self.algorithm.as_str(), self.info().sha256)
    }
}

/// Which of the three forms it is.
fn algorithm_of(spki: &[u8]) -> Option<SignatureAlgorithm> {
    let has = |prefix: &[u8], after: usize| spki.starts_with(prefix) && spki.len() == prefix.len() + after;
    if has(ED25519_PREFIX, 32) {
        return Some(SignatureAlgorithm::Ed25519);
    }
    if has(P256_PREFIX, 64) {
        return Some(SignatureAlgorithm::P256);
    }
    // An RSA key of 2048 bits or more is longer than 255 bytes.
    let (head, rest) = spki.split_first_chunk::<4>()?;
    let [0x30, 0x82, high, low] = *head else { return None };
    let is_rsa =
        rest.len() == usize::from(u16::from_be_bytes([high, low])) && rest.starts_with(RSA_ALGORITHM);
    let is_long = || PublicEncryptingKey::from_der(spki).is_ok_and(|key| key.key_size_bits() >= MIN_RSA_BITS);
    (is_rsa && is_long()).then_some(SignatureAlgorithm::RsaPss)
}

#[cfg(test)]
mod tests;
