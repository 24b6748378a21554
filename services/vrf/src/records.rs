//! What is kept of an answer, and under which keys. All of it is said in the answer: no secret is stored, and of a seed or an
//! `Idempotency-Key` nothing but its hash.
//!
//! | key | holds |
//! |---|---|
//! | `id/{ULID}/{tenant}` | the answer; in the order of time |
//! | `seed/{tenant and seed}` | which answer the seed has, and for which draw |
//! | `key/{tenant and key}` | what an `Idempotency-Key` was used for, and the answers that it got |
//! | `used/{ULID}/{tenant and key}` | nothing: when the key was used, in the order of time |
//!
//! In braces stand hashes over length-prefixed parts, so that no name of a tenant reaches the rows of another.

use sdk::{Bytes, StateWrite};
use sha2::{Digest, Sha256};
use types::wire::{Message, Reader};
use ulid::Ulid;

use crate::ecvrf::{BETA_BYTES, PROOF_BYTES};
use crate::hex;
use crate::range::Draw;

const TENANT_TAG: &[u8] = b"serviceos/vrf-tenant/v1\0";
const SEED_TAG: &[u8] = b"serviceos/vrf-seed/v1\0";
const KEY_TAG: &[u8] = b"serviceos/vrf-idempotency/v1\0";
const REQUEST_TAG: &[u8] = b"serviceos/vrf-request/v1\0";
const STATEMENT_TAG: &[u8] = b"serviceos/vrf-statement/v1\0";
/// What the id of an answer begins with.
const ID_PREFIX: &str = "rng_";
/// The form of all values here.
const FORMAT: u8 = 1;

/// How the keys of answers begin.
pub(crate) const RECORDS: &str = "id/";
/// How the keys begin that say when an `Idempotency-Key` was used.
pub(crate) const USES: &str = "used/";

/// SHA-256 of something that has a name.
pub(crate) type Hash = [u8; 32];

/// Whose answers.
pub(crate) struct Owner(Hash);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its id, and when it was made, in milliseconds.
    pub(crate) id: Ulid,
    /// What was drawn.
    pub(crate) draw: Draw,
    /// The input of the function.
    pub(crate) alpha: Vec<u8>,
    /// Its output.
    pub(crate) beta: [u8; BETA_BYTES],
    /// The proof that it is the output.
    pub(crate) proof: [u8; PROOF_BYTES],
    /// The id of the key that proved.
    pub(crate) key_id: String,
    /// The epoch of that.
    pub(crate) epoch: u32,
    /// The Ed25519 signature of [`Self::statement`], for whoever cannot check the proof itself (a smart contract).
    pub(crate) signature: Vec<u8>,
    /// The seed, hashed with its tenant.
    pub(crate) seed: Option<Hash>,
    /// Whether an `Idempotency-Key` leads to it.
    pub(crate) has_key: bool,
}

/// The answer that a seed has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seeded {
    pub(crate) id: Ulid,
    pub(crate) draw: Draw,
}

/// What an `Idempotency-Key` was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// What was asked for ([`request`]).
    pub(crate) request: Hash,
    /// When.
    pub(crate) moment: Ulid,
    /// The answers.
    pub(crate) ids: Vec<Ulid>,
}

impl Owner {
    /// A tenant.
    pub(crate) fn new(tenant: &str) -> Self {
        Self(hash(Message::tagged(TENANT_TAG).lp(tenant)))
    }

    /// Where an answer of this tenant is.
    pub(crate) fn record_key(&self, id: Ulid) -> String {
        format!("{RECORDS}{id}/{}", hex::encode(self.0))
    }
}

/// A seed of a tenant.
pub(crate) fn seed(tenant: &str, seed: &str) -> Hash {
    hash(Message::tagged(SEED_TAG).lp(tenant).lp(seed))
}

/// An `Idempotency-Key` of a tenant.
pub(crate) fn key(tenant: &str, key: &[u8]) -> Hash {
    hash(Message::tagged(KEY_TAG).lp(tenant).lp(key))
}

/// What is asked for: the path, and what its body means, so that the same request is the same however its JSON is written.
pub(crate) fn request<'a>(path: &str, asked: impl IntoIterator<Item = (&'a Draw, Option<&'a str>)>) -> Hash {
    let begun = Message::tagged(REQUEST_TAG).lp(path);
    hash(asked.into_iter().fold(begun, |message, (draw, seed)| {
        let message = message.raw(draw_bytes(draw)).raw([u8::from(seed.is_some())]);
        message.lp(seed.unwrap_or_default())
    }))
}

/// Where the row of a seed is.
pub(crate) fn seed_key(seed: &Hash) -> String {
    format!("seed/{}", hex::encode(seed))
}

/// Where the row of an `Idempotency-Key` is.
pub(crate) fn key_key(key: &Hash) -> String {
    format!("key/{}", hex::encode(key))
}

/// Where it says when that was used.
pub(crate) fn use_key(moment: Ulid, key: &Hash) -> String {
    format!("{USES}{moment}/{}", hex::encode(key))
}

/// The moment of a row that is kept in the order of time, and what stands behind it.
pub(crate) fn in_time<'a>(key: &'a [u8], prefix: &str) -> Option<(Ulid, &'a str)> {
    let key = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?;
    let (moment, rest) = key.split_once('/')?;
    Some((moment.parse().ok()?, rest))
}

/// The ULID of an id, if it is one as it is given.
pub(crate) fn parse_id(text: &str) -> Option<Ulid> {
    let id: Ulid = text.strip_prefix(ID_PREFIX)?.parse().ok()?;
    (id_text(id) == text).then_some(id)
}

/// An id as it is given.
pub(crate) fn id_text(id: Ulid) -> String {
    format!("{ID_PREFIX}{id}")
}

/// A row that is not there yet.
pub(crate) fn create(key: String, value: Vec<u8>) -> StateWrite {
    StateWrite::Create { key: Bytes(key.into_bytes()), value: Bytes(value) }
}

impl Record {
    /// The bytes that name all of it but the integers, which follow from `beta`: "serviceos/vrf-statement/v1\0" ‖ lp of id,
    /// SHA-256(alpha), beta, SHA-256(proof), key id ‖ u32 epoch.
    pub(crate) fn statement(&self) -> Vec<u8> {
        Message::tagged(STATEMENT_TAG)
            .lp(id_text(self.id))
            .lp(Sha256::digest(&self.alpha))
            .lp(self.beta)
            .lp(Sha256::digest(self.proof))
            .lp(&self.key_id)
            .raw(self.epoch.to_be_bytes())
            .finish()
    }

    /// How many rows it takes.
    pub(crate) fn rows(&self) -> usize {
        1 + usize::from(self.seed.is_some())
    }

    /// Its rows.
    pub(crate) fn writes(&self, owner: &Owner) -> Vec<StateWrite> {
        let record = create(owner.record_key(self.id), self.encode());
        let seeded = Seeded { id: self.id, draw: self.draw };
        let seed = self.seed.map(|seed| create(seed_key(&seed), seeded.encode()));
        [Some(record), seed].into_iter().flatten().collect()
    }

    fn encode(&self) -> Vec<u8> {
        Message::untagged(&[FORMAT])
            .raw(self.id.to_bytes())
            .raw(draw_bytes(&self.draw))
            .lp(&self.alpha)
            .raw(self.beta)
            .raw(self.proof)
            .lp(&self.key_id)
            .raw(self.epoch.to_be_bytes())
            .lp(&self.signature)
            .lp(self.seed.as_ref().map_or(&[][..], |seed| seed))
            .raw([u8::from(self.has_key)])
            .finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = reader(value)?;
        let record = Self {
            id: read_id(&mut reader)?,
            draw: read_draw(&mut reader)?,
            alpha: reader.lp()?.to_vec(),
            beta: reader.array()?,
            proof: reader.array()?,
            key_id: String::from_utf8(reader.lp()?.to_vec()).ok()?,
            epoch: u32::from_be_bytes(reader.array()?),
            signature: reader.lp()?.to_vec(),
            seed: match reader.lp()? {
                [] => None,
                seed => Some(seed.try_into().ok()?),
            },
            has_key: reader.array()? == [1],
        };
        reader.is_empty().then_some(record)
    }
}

impl Seeded {
    fn encode(&self) -> Vec<u8> {
        Message::untagged(&[FORMAT]).raw(self.id.to_bytes()).raw(draw_bytes(&self.draw)).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = reader(value)?;
        let seeded = Self { id: read_id(&mut reader)?, draw: read_draw(&mut reader)? };
        reader.is_empty().then_some(seeded)
    }
}

impl Use {
    /// The rows of a key that is used so.
    pub(crate) fn writes(&self, key: &Hash) -> [StateWrite; 2] {
        [create(key_key(key), self.encode()), create(use_key(self.moment, key), Vec::new())]
    }

    fn encode(&self) -> Vec<u8> {
        let message = Message::untagged(&[FORMAT]).raw(self.request).raw(self.moment.to_bytes());
        self.ids.iter().fold(message, |message, id| message.raw(id.to_bytes())).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = reader(value)?;
        let (request, moment, mut ids) = (reader.array()?, read_id(&mut reader)?, Vec::new());
        while !reader.is_empty() {
            ids.push(read_id(&mut reader)?);
        }
        Some(Self { request, moment, ids })
    }
}

fn hash(message: Message) -> Hash {
    Sha256::digest(message.finish()).into()
}

fn draw_bytes(draw: &Draw) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&draw.min().to_be_bytes());
    bytes[8..16].copy_from_slice(&draw.max().to_be_bytes());
    bytes[16..].copy_from_slice(&draw.count().to_be_bytes());
    bytes
}

fn reader(value: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader::new(value);
    (reader.array()? == [FORMAT]).then_some(reader)
}

fn read_id(reader: &mut Reader<'_>) -> Option<Ulid> {
    reader.array().map(Ulid::from_bytes)
}

fn read_draw(reader: &mut Reader<'_>) -> Option<Draw> {
    let (min, max) = (i64::from_be_bytes(reader.array()?), i64::from_be_bytes(reader.array()?));
    Draw::new(min, max, u32::from_be_bytes(reader.array()?).into()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn record(seed: Option<Hash>) -> Record {
        Record {
            id: Ulid::from_parts(1_700_000_000_123, 7),
            draw: Draw::new(-5, 5, 3).unwrap(),
            alpha: vec![1, 2, 3],
            beta: [4; BETA_BYTES],
            proof: [5; PROOF_BYTES],
            key_id: "key".into(),
            epoch: 3,
            signature: vec![6; 64],
            seed,
            has_key: seed.is_none(),
        }
    }

    #[test]
    fn what_is_kept_reads_back_and_what_is_cut_or_longer_does_not() {
        for record in [record(None), record(Some([9; 32]))] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..length]), None, "{length}");
            }
            assert_eq!(Record::decode(&[bytes.as_slice(), &[0]].concat()), None);
        }
        let id = record(None).id;
        let seeded = Seeded { id, draw: Draw::new(1, 6, 1).unwrap() };
        assert_eq!(Seeded::decode(&seeded.encode()), Some(seeded));
        let used = Use { request: [1; 32], moment: id, ids: vec![id, id] };
        assert_eq!(Use::decode(&used.encode()), Some(used));
    }

    #[test]
    fn an_id_is_known_only_as_it_is_given() {
        let id = record(None).id;
        assert_eq!(parse_id(&id_text(id)), Some(id));
        let lower = id_text(id).to_lowercase();
        for other in
            ["", "rng_", "01HF7YAT3V0000000000000007", lower.as_str(), "rng_01HF7YAT3V000000000000000"]
        {
            assert_eq!(parse_id(other), None, "{other}");
        }
        assert_eq!(in_time(Owner::new("acme").record_key(id).as_bytes(), RECORDS).unwrap().0, id);
    }

    proptest! {
        #[test]
        fn no_two_tenants_share_a_row(
            names in proptest::collection::btree_set("[a-z/\\x00]{0,4}", 2..6), text in "[a-z/\\x00]{0,4}",
        ) {
            let id = record(None).id;
            let (mut keys, count) = (BTreeSet::new(), names.len());
            for tenant in &names {
                keys.insert(Owner::new(tenant).record_key(id));
                keys.insert(seed_key(&seed(tenant, &text)));
                keys.insert(key_key(&key(tenant, text.as_bytes())));
            }
            prop_assert_eq!(keys.len(), 3 * count);
            // What of it is the tenant's name and what is the seed is never in doubt.
            let moved = |(tenant, seed_text): (&str, &str)| seed(tenant, seed_text);
            prop_assert_ne!(moved(("ab", &format!("c{text}"))), moved((&format!("abc{text}"), "")));
        }
    }
}
