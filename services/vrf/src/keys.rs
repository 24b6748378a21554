//! The service's keys: what the secrets `vrf-key` and `vrf-signing` hold, and which of it may be published.
//!
//! Only the current epoch proves and signs. Of the others nothing but the public half is kept, so that old answers can
//! still be checked.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use sdk::{Secret, SecretEpoch};
use sha2::{Digest, Sha256};
use thiserror::Error;
use types::wire::Message;
use zeroize::Zeroizing;

use crate::ecvrf::{PublicKey, SECRET_KEY_BYTES, SUITE, SecretKey};
use crate::hex;

/// The secret of proofs: a seed of 32 bytes for each epoch.
pub(crate) const PROVING_SECRET: &str = "vrf-key";
/// The secret of statements: an Ed25519 seed of 32 bytes for each epoch.
pub(crate) const SIGNING_SECRET: &str = "vrf-signing";

const KEY_ID_TAG: &[u8] = b"serviceos/vrf-key-id/v1\0";
/// How many bytes of the hash a key id shows.
const KEY_ID_BYTES: usize = 16;

/// All keys of the service.
pub(crate) struct Keys {
    /// The key that proves.
    pub(crate) proving: SecretKey,
    /// The key that signs statements.
    pub(crate) signing: Ed25519KeyPair,
    /// The public keys of proofs, ascending by epoch, never empty.
    published: Vec<Published>,
    /// The public keys of statements by epoch, ascending, never empty.
    signers: Vec<(u32, Vec<u8>)>,
}

/// What everybody may know of a key that proves.
#[derive(Clone)]
pub(crate) struct Published {
    /// The id that answers name.
    pub(crate) id: String,
    /// The epoch of the secret.
    pub(crate) epoch: u32,
    /// The key that verifies.
    pub(crate) public: PublicKey,
}

/// Why a secret is no key.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "VRF_KEY_UNAVAILABLE: epoch {epoch} of the secret {secret} must be a seed of {SECRET_KEY_BYTES} bytes, not {length}"
)]
pub(crate) struct KeyError {
    secret: &'static str,
    epoch: u32,
    length: usize,
}

impl Keys {
    /// Expands both secrets.
    pub(crate) fn load(proving: &Secret, signing: &Secret) -> Result<Self, KeyError> {
        Ok(Self {
            proving: prover(proving.current())?,
            signing: signer(signing.current())?,
            published: proving.epochs.iter().map(publish).collect::<Result<_, _>>()?,
            signers: signing.epochs.iter().map(publish_signer).collect::<Result<_, _>>()?,
        })
    }

    /// The public half of the key that proves.
    pub(crate) fn current(&self) -> &Published {
        self.published.last().expect("a secret has at least one epoch")
    }

    /// The key of that id, of whatever epoch.
    pub(crate) fn find(&self, id: &str) -> Option<&Published> {
        self.published.iter().find(|key| key.id == id)
    }

    /// Every key beside the key that signed its statements. The two secrets may be rotated apart, so that one key can
    /// stand beside several: what stands together in a row was in force when the higher of its two epochs began.
    pub(crate) fn rows(&self) -> Vec<(&Published, &[u8])> {
        let provers = self.published.iter().map(|key| key.epoch);
        let mut epochs: Vec<u32> = provers.chain(self.signers.iter().map(|(epoch, _)| *epoch)).collect();
        epochs.sort_unstable();
        epochs.dedup();
        let row = |epoch: u32| {
            let key = in_force(&self.published, epoch, |key| key.epoch);
            let (_, signer) = in_force(&self.signers, epoch, |(epoch, _)| *epoch);
            (key, signer.as_slice())
        };
        let mut rows: Vec<_> = epochs.into_iter().map(row).collect();
        rows.dedup_by(|a, b| a.0.epoch == b.0.epoch && a.1 == b.1);
        rows
    }
}

/// The latest key that is not later than the epoch, or the first one.
fn in_force<T>(ascending: &[T], epoch: u32, epoch_of: impl Fn(&T) -> u32) -> &T {
    let begun = ascending.partition_point(|key| epoch_of(key) <= epoch);
    &ascending[begun.saturating_sub(1)]
}

fn prover(epoch: &SecretEpoch) -> Result<SecretKey, KeyError> {
    Ok(SecretKey::from_seed(&*seed(PROVING_SECRET, epoch)?))
}

fn signer(epoch: &SecretEpoch) -> Result<Ed25519KeyPair, KeyError> {
    let seed = seed(SIGNING_SECRET, epoch)?;
    Ok(Ed25519KeyPair::from_seed_unchecked(&*seed).expect("every 32 bytes are an Ed25519 seed"))
}

fn publish(epoch: &SecretEpoch) -> Result<Published, KeyError> {
    let public = *prover(epoch)?.public();
    Ok(Published { id: key_id(&public), epoch: epoch.epoch, public })
}

fn publish_signer(epoch: &SecretEpoch) -> Result<(u32, Vec<u8>), KeyError> {
    Ok((epoch.epoch, signer(epoch)?.public_key().as_ref().to_vec()))
}

fn seed(secret: &'static str, epoch: &SecretEpoch) -> Result<Zeroizing<[u8; SECRET_KEY_BYTES]>, KeyError> {
    let length = epoch.value.len();
    let mut seed = Zeroizing::new([0; SECRET_KEY_BYTES]);
    if length != seed.len() {
        return Err(KeyError { secret, epoch: epoch.epoch, length });
    }
    seed.copy_from_slice(&epoch.value);
    Ok(seed)
}

/// The first 16 bytes of SHA-256("serviceos/vrf-key-id/v1\0" ‖ lp(suite) ‖ lp(public key)), in hexadecimal.
fn key_id(public: &PublicKey) -> String {
    let hash = Sha256::digest(Message::tagged(KEY_ID_TAG).lp(SUITE).lp(public.as_bytes()).finish());
    hex::encode(&hash[..KEY_ID_BYTES])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn secret(epochs: &[u32]) -> Secret {
        let value = |epoch: u32| Zeroizing::new(vec![u8::try_from(epoch).unwrap(); 32]);
        Secret { epochs: epochs.iter().map(|&epoch| SecretEpoch { epoch, value: value(epoch) }).collect() }
    }

    /// Writes each row as the epoch of its key and the epoch of its signer.
    fn check(proving: &[u32], signing: &[u32], expected: &Expect) {
        let keys = Keys::load(&secret(proving), &secret(signing)).unwrap();
        let signer = |public| keys.signers.iter().find(|(_, signer)| signer == public).unwrap().0;
        let rows: Vec<_> = keys.rows().into_iter().map(|(key, public)| (key.epoch, signer(public))).collect();
        expected.assert_eq(&format!("{rows:?}"));
    }

    #[test]
    fn every_key_is_published_beside_its_signer_however_the_two_were_rotated() {
        check(&[1], &[1], &expect!["[(1, 1)]"]);
        check(&[1, 2], &[1, 2], &expect!["[(1, 1), (2, 2)]"]);
        check(&[1, 2, 3], &[1], &expect!["[(1, 1), (2, 1), (3, 1)]"]);
        check(&[1], &[1, 2], &expect!["[(1, 1), (1, 2)]"]);
        check(&[4, 5], &[2, 3], &expect!["[(4, 2), (4, 3), (5, 3)]"]);
    }

    #[test]
    fn only_seeds_of_32_bytes_are_keys() {
        let mut short = secret(&[1, 2]);
        short.epochs[1].value.pop();
        let good = secret(&[1]);
        let refusal =
            |proving: &Secret, signing: &Secret| Keys::load(proving, signing).err().unwrap().to_string();
        expect!["VRF_KEY_UNAVAILABLE: epoch 2 of the secret vrf-key must be a seed of 32 bytes, not 31"]
            .assert_eq(&refusal(&short, &good));
        expect!["VRF_KEY_UNAVAILABLE: epoch 2 of the secret vrf-signing must be a seed of 32 bytes, not 31"]
            .assert_eq(&refusal(&good, &short));
    }
}
