//! A key that signatures are verified with, and the algorithms that it is for.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;

/// The shortest secret of HS256, in bytes: as long as its hash (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What a token is signed with (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits.
    Rs256,
    /// RSASSA-PSS with SHA-256, 2048 to 8192 bits.
    Ps256,
    /// ECDSA on P-256 with SHA-256, the signature r ‖ s.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The one of this name, exactly.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A key. It has no `Debug`, as it may be a secret.
pub struct VerifyingKey {
    id: Option<String>,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    /// One for each algorithm that it may be used with: of RSA there may be two.
    Public(Vec<(Algorithm, ParsedPublicKey)>),
}

impl VerifyingKey {
    /// A secret of HS256; `None` when it is shorter than [`MIN_SECRET_BYTES`].
    pub fn secret(value: &[u8]) -> Option<Self> {
        let key = (value.len() >= MIN_SECRET_BYTES).then(|| hmac::Key::new(hmac::HMAC_SHA256, value))?;
        Some(Self { id: None, material: Material::Secret(Box::new(key)) })
    }

    pub(super) fn public(id: Option<String>, keys: Vec<(Algorithm, ParsedPublicKey)>) -> Self {
        Self { id, material: Material::Public(keys) }
    }

    /// What tokens call it.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it may be used with the algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match &self.material {
            Material::Secret(_) => algorithm == Algorithm::Hs256,
            Material::Public(keys) => keys.iter().any(|(own, _)| *own == algorithm),
        }
    }

    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => {
                algorithm == Algorithm::Hs256 && hmac::verify(key, signed, signature).is_ok()
            }
            Material::Public(keys) => {
                keys.iter().any(|(own, key)| *own == algorithm && key.verify_sig(signed, signature).is_ok())
            }
        }
    }
}
