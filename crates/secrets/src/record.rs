//! One sealed record, byte for byte:
//!
//! header = "SOSS" ‖ u8 1 ‖ u8 mode ‖ u32 kekId ‖ u64 version ‖ u32 epoch ‖ u8 origin ‖ lp(trustDomain) ‖ lp(name), then
//! n1(12) ‖ lp(wrapped data key) ‖ n2(12) ‖ lp(ciphertext), both AES-256-GCM-SIV (RFC 8452) with the header as
//! associated data.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use types::wire::{Message, Reader};
use zeroize::Zeroizing;

use crate::{Domain, MasterKey, SecretsError};

/// The one key-encryption key there is until master keys are rotated.
const KEK_ID: u32 = 1;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An operator gave it. Each time makes a new version, and the newest counts.
    Set = 0,
    /// It was made inside, for ever; each rotation adds an epoch.
    Generated = 1,
}

impl Origin {
    fn of_number(number: u8) -> Option<Self> {
        [Self::Set, Self::Generated].into_iter().find(|origin| *origin as u8 == number)
    }
}

/// What a record says in the clear; every byte of it is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) epoch: u32,
    pub(crate) origin: Origin,
}

/// The keys that follow from the master key and T_0.
pub(crate) struct SealingKeys {
    pub(crate) domain: Domain,
    kek: LessSafeKey,
    /// The key of the hash over all records, and of the hash over the time of each.
    pub(crate) store_root: aws_lc_rs::hmac::Key,
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl SealingKeys {
    pub(crate) fn derive(
        master: &MasterKey,
        domain: &Domain,
        genesis: &[u8; 32],
    ) -> Result<Self, SecretsError> {
        let kek = derive(
            master,
            genesis,
            &Message::tagged(b"serviceos/kek/v1\0").raw(KEK_ID.to_be_bytes()).finish(),
        )?;
        let store_root = derive(master, genesis, b"serviceos/store-root/v1\0")?;
        Ok(Self {
            domain: domain.clone(),
            kek: aead_key(&kek)?,
            store_root: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &*store_root),
        })
    }

    /// Seals a value under a fresh data key.
    pub(crate) fn seal(&self, header: &Header, value: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let head = self.header_bytes(header);
        let mut data_key = Zeroizing::new([0; 32]);
        let (mut n1, mut n2) = ([0; 12], [0; 12]);
        for buffer in [&mut data_key[..], &mut n1, &mut n2] {
            aws_lc_rs::rand::fill(buffer).map_err(|_| SecretsError::Crypto("randomness for a record"))?;
        }
        let wrapped = encrypt(&self.kek, n1, b"serviceos/dek/v1\0", &head, &*data_key)?;
        let ciphertext = encrypt(&aead_key(&data_key)?, n2, b"serviceos/secret/v1\0", &head, value)?;
        Ok(Message::untagged(&head).raw(n1).lp(wrapped).raw(n2).lp(ciphertext).finish())
    }

    /// Opens a record; `None` when a single bit of it is not as it was sealed.
    pub(crate) fn open(&self, record: &[u8]) -> Option<(Header, Zeroizing<Vec<u8>>)> {
        let (header, mut reader) = self.read_header(record)?;
        let head = self.header_bytes(&header);
        if !record.starts_with(&head) {
            return None;
        }
        let (n1, wrapped) = (reader.array()?, reader.lp()?);
        let (n2, ciphertext) = (reader.array()?, reader.lp()?);
        if !reader.is_empty() {
            return None;
        }
        let data_key = decrypt(&self.kek, n1, b"serviceos/dek/v1\0", &head, wrapped)?;
        let data_key: &[u8; 32] = data_key.as_slice().try_into().ok()?;
        let value = decrypt(&aead_key(data_key).ok()?, n2, b"serviceos/secret/v1\0", &head, ciphertext)?;
        Some((header, value))
    }

    fn header_bytes(&self, header: &Header) -> Vec<u8> {
        Message::untagged(b"SOSS\x01")
            .raw([self.domain.mode.number()])
            .raw(KEK_ID.to_be_bytes())
            .raw(header.version.to_be_bytes())
            .raw(header.epoch.to_be_bytes())
            .raw([header.origin as u8])
            .lp(&self.domain.trust_domain)
            .lp(&header.name)
            .finish()
    }

    fn read_header<'a>(&self, record: &'a [u8]) -> Option<(Header, Reader<'a>)> {
        let mut reader = Reader::new(record);
        let _magic_format_mode_and_kek = reader.raw(10)?;
        let version = u64::from_be_bytes(reader.array()?);
        let epoch = u32::from_be_bytes(reader.array()?);
        let [origin] = reader.array()?;
        let _trust_domain = reader.lp()?;
        let name = String::from_utf8(reader.lp()?.to_vec()).ok()?;
        Some((Header { name, version, epoch, origin: Origin::of_number(origin)? }, reader))
    }
}

fn derive(master: &MasterKey, genesis: &[u8; 32], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, genesis)
        .extract(&*master.0)
        .expand(&[info], Bytes32)
        .and_then(|output| output.fill(&mut *key))
        .map_err(|_| SecretsError::Crypto("deriving a key"))?;
    Ok(key)
}

fn aead_key(key: &[u8; 32]) -> Result<LessSafeKey, SecretsError> {
    let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| SecretsError::Crypto("loading a key"))?;
    Ok(LessSafeKey::new(key))
}

fn encrypt(
    key: &LessSafeKey,
    nonce: [u8; 12],
    tag: &[u8],
    head: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SecretsError> {
    // Room for the authentication tag, so that the plaintext is encrypted where it lies and never moved.
    let mut sealed = Vec::with_capacity(value.len() + AES_256_GCM_SIV.tag_len());
    sealed.extend_from_slice(value);
    let aad = Aad::from([tag, head].concat());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
        .map_err(|_| SecretsError::Crypto("sealing"))?;
    Ok(sealed)
}

fn decrypt(
    key: &LessSafeKey,
    nonce: [u8; 12],
    tag: &[u8],
    head: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let aad = Aad::from([tag, head].concat());
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Mode;

    fn keys(byte: u8) -> SealingKeys {
        let domain = Domain { trust_domain: "serviceos.dev.invalid".into(), mode: Mode::Development };
        SealingKeys::derive(&MasterKey(Zeroizing::new([byte; 32])), &domain, &[9; 32]).unwrap()
    }

    fn header() -> Header {
        Header { name: "vrf-key".into(), version: 2, epoch: 3, origin: Origin::Generated }
    }

    #[test]
    fn a_record_opens_with_its_header_and_value() {
        for origin in [Origin::Set, Origin::Generated] {
            let header = Header { origin, ..header() };
            let record = keys(1).seal(&header, b"value").unwrap();
            let (found, value) = keys(1).open(&record).unwrap();
            assert_eq!((found, value.as_slice()), (header, &b"value"[..]));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_a_cut_and_another_key_are_noticed() {
        let record = keys(1).seal(&header(), b"value").unwrap();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys(1).open(&flipped).is_none(), "bit {bit}");
        }
        for length in 0..record.len() {
            assert!(keys(1).open(&record[..length]).is_none(), "length {length}");
        }
        assert!(keys(2).open(&record).is_none());
    }

    #[test]
    fn the_value_is_not_in_the_record() {
        let value = b"canary-canary-canary";
        let record = keys(1).seal(&header(), value).unwrap();
        assert!(!record.windows(6).any(|window| window == b"canary"));
    }
}
