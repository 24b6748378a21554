//! The key that an operator's values are sealed to on their way to the authority. It is made at each start, is nowhere but in
//! memory, and is proved by the authority's evidence over a nonce of whoever asks.
//!
//! Both ends are here, so that they cannot disagree about a byte. HPKE is of base mode 0x0020/0x0001/0x0002 (X25519,
//! HKDF-SHA256, AES-256-GCM), one encapsulation for each value.

use aws_lc_rs::digest::{SHA512, digest};
use mesh_protocol::Bytes;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use types::Mode;
use types::wire::Message;
use zeroize::Zeroizing;

use crate::TrustError;

/// What a value is sealed to: a key, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealKey {
    /// The mode.
    pub mode: Mode,
    /// The trust domain.
    pub trust_domain: String,
    /// The key of the mesh's root, as DER SubjectPublicKeyInfo.
    pub root_spki: Vec<u8>,
    /// The X25519 key.
    pub hpke_public: [u8; 32],
}

/// A value on its way to the authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedValue {
    /// The encapsulated key.
    pub enc: Bytes,
    /// The ciphertext.
    pub ct: Bytes,
}

impl SealKey {
    /// RD_S, what the evidence for the key must be bound to: SHA-512("serviceos/seal-key/v1\0" ‖ lp of nonce(32), the X25519 key,
    /// the root's SPKI, trust domain, mode).
    pub fn report_data(&self, nonce: &[u8; 32]) -> [u8; 64] {
        let message = Message::tagged(b"serviceos/seal-key/v1\0")
            .lp(nonce)
            .lp(self.hpke_public)
            .lp(&self.root_spki)
            .lp(&self.trust_domain)
            .lp(self.mode.as_str());
        digest(&SHA512, &message.finish()).as_ref().try_into().expect("SHA-512 gives 64 bytes")
    }

    /// Seals the value of a secret, for the name that it is to have and no other.
    ///
    /// # Errors
    /// The library's: the key is none, or there is no randomness.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<SealedValue, rustls::Error> {
        let key = HpkePublicKey(self.hpke_public.to_vec());
        let (enc, ct) =
            DH_KEM_X25519_HKDF_SHA256_AES_256.seal(&self.info(), &associated_data(name), value, &key)?;
        Ok(SealedValue { enc: Bytes(enc.0), ct: Bytes(ct) })
    }

    /// The `info` of HPKE: "serviceos/seal/v1\0" ‖ lp of mode, trust domain, the root's SPKI.
    fn info(&self) -> Vec<u8> {
        Message::tagged(b"serviceos/seal/v1\0")
            .lp(self.mode.as_str())
            .lp(&self.trust_domain)
            .lp(&self.root_spki)
            .finish()
    }
}

/// The associated data of a value: "serviceos/set-secret/v1\0" ‖ lp(name).
fn associated_data(name: &str) -> Vec<u8> {
    Message::tagged(b"serviceos/set-secret/v1\0").lp(name).finish()
}

/// The authority's half.
pub(crate) struct OpeningKey {
    pub(crate) public: SealKey,
    private: HpkePrivateKey,
}

impl OpeningKey {
    /// Another one than any before.
    pub(crate) fn generate(mode: Mode, trust_domain: &str, root_spki: &[u8]) -> Result<Self, TrustError> {
        let (public, private) =
            DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair().map_err(|_| TrustError::Randomness)?;
        let hpke_public = public.0.as_slice().try_into().map_err(|_| TrustError::Failed)?;
        let (trust_domain, root_spki) = (trust_domain.to_owned(), root_spki.to_vec());
        Ok(Self { public: SealKey { mode, trust_domain, root_spki, hpke_public }, private })
    }

    pub(crate) fn open(&self, name: &str, sealed: &SealedValue) -> Result<Zeroizing<Vec<u8>>, TrustError> {
        let enc = EncapsulatedSecret(sealed.enc.0.clone());
        let opened = DH_KEM_X25519_HKDF_SHA256_AES_256.open(
            &enc,
            &self.public.info(),
            &associated_data(name),
            &sealed.ct.0,
            &self.private,
        );
        opened.map(Zeroizing::new).map_err(|_| TrustError::NotSealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OpeningKey {
        OpeningKey::generate(Mode::Development, "serviceos.dev.invalid", &[7; 91]).unwrap()
    }

    #[test]
    fn a_value_is_opened_for_the_name_that_it_was_sealed_for_and_with_the_key_of_this_start() {
        let key = key();
        let sealed = key.public.seal("token", b"value").unwrap();
        assert_eq!(key.open("token", &sealed).unwrap().as_slice(), b"value");
        assert!(matches!(key.open("other", &sealed), Err(TrustError::NotSealed)));
        let another_start = self::key();
        assert!(matches!(another_start.open("token", &sealed), Err(TrustError::NotSealed)));
        assert!(!sealed.ct.0.windows(5).any(|window| window == b"value"));
    }

    #[test]
    fn a_value_that_was_sealed_to_another_mesh_or_changed_on_its_way_is_not_opened() {
        let key = key();
        for other in [
            SealKey { mode: Mode::Production, ..key.public.clone() },
            SealKey { trust_domain: "other.dev.invalid".into(), ..key.public.clone() },
            SealKey { root_spki: vec![8; 91], ..key.public.clone() },
        ] {
            let sealed = other.seal("token", b"value").unwrap();
            assert!(matches!(key.open("token", &sealed), Err(TrustError::NotSealed)));
        }
        let sealed = key.public.seal("token", b"value").unwrap();
        for place in 0..sealed.ct.0.len() {
            let mut changed = sealed.clone();
            changed.ct.0[place] ^= 1;
            assert!(matches!(key.open("token", &changed), Err(TrustError::NotSealed)), "byte {place}");
        }
        for enc in [Vec::new(), vec![0; 32], vec![1; 33]] {
            let changed = SealedValue { enc: Bytes(enc), ..sealed.clone() };
            assert!(matches!(key.open("token", &changed), Err(TrustError::NotSealed)));
        }
    }

    #[test]
    fn the_report_data_agrees_with_an_independent_computation_and_names_every_field() {
        let key = SealKey {
            mode: Mode::Development,
            trust_domain: "serviceos.dev.invalid".into(),
            root_spki: vec![7; 91],
            hpke_public: [4; 32],
        };
        let own = key.report_data(&[1; 32]);
        assert_eq!(
            mesh_protocol::to_hex(&own),
            "74fb09e2ed3a4263fc310effb438a33ee7d7e7dd0422993048836f06a0dfac25647e29ae2fa6f06a65023409bde7484698b1c09407eda34e63608cc4e3e6d43f"
        );
        let others = [
            key.report_data(&[2; 32]),
            SealKey { mode: Mode::Production, ..key.clone() }.report_data(&[1; 32]),
            SealKey { trust_domain: "a".into(), ..key.clone() }.report_data(&[1; 32]),
            SealKey { root_spki: vec![8; 91], ..key.clone() }.report_data(&[1; 32]),
            SealKey { hpke_public: [5; 32], ..key.clone() }.report_data(&[1; 32]),
        ];
        assert!(others.iter().all(|other| *other != own));
    }
}
