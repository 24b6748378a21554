//! Values that are made inside.

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

use crate::SecretsError;

/// What kind of value is made for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generate {
    /// The 32-byte seed of an Ed25519 key.
    Ed25519,
    /// The private scalar of a P-256 key, 32 bytes, big-endian, from 1 to the group order minus 1.
    P256,
    /// 32 random bytes.
    Random,
}

impl Generate {
    const ALL: [Self; 3] = [Self::Ed25519, Self::P256, Self::Random];

    /// The word in the configuration and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::Random => "random",
        }
    }

    pub(super) fn of_word(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == word)
    }

    pub(super) fn make(self) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let failed = |_| SecretsError::Crypto("making a secret");
        match self {
            // Every 32-byte string is the seed of an Ed25519 key (RFC 8032 section 5.1.5).
            Self::Ed25519 | Self::Random => {
                let mut value = Zeroizing::new(vec![0; 32]);
                aws_lc_rs::rand::fill(&mut value).map_err(failed)?;
                Ok(value)
            }
            Self::P256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
                let scalar = pair.private_key().as_be_bytes().map_err(failed)?;
                Ok(Zeroizing::new(scalar.as_ref().to_vec()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};

    use super::*;

    #[test]
    fn every_kind_has_32_bytes_and_those_of_p256_are_a_private_key_of_the_curve() {
        for kind in Generate::ALL {
            let (one, other) = (kind.make().unwrap(), kind.make().unwrap());
            assert!(one.len() == 32 && one != other, "{}", kind.as_str());
            assert_eq!(Generate::of_word(kind.as_str().as_bytes()), Some(kind));
        }
        let scalar = Generate::P256.make().unwrap();
        let key = PrivateKey::from_private_key(&ECDH_P256, &scalar).unwrap();
        assert_eq!(key.compute_public_key().unwrap().as_ref().len(), 65);
    }
}
