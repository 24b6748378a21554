//! The rows of the secrets in the store, and what makes a changed one noticed:
//!
//! - `secrets/records/NAME/VERSION`: a sealed record;
//! - `secrets/made/NAME/VERSION`: u64 time ‖ lp(kind) ‖ tag, when and as what a version was made; not there for versions that
//!   are older than this row. The kind is empty for a value that an operator gave. The tag is an HMAC-SHA256 over
//!   "serviceos/secret-time/v1\0" ‖ lp(name) ‖ u64 version ‖ u64 time, and ‖ lp(kind) where it is known;
//! - `secrets/root`: u64 generation ‖ tag, an HMAC-SHA256 over u64 generation ‖ u32 count ‖ SHA-256(record)…, the records in the
//!   order of names and versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use store::{KeyValue, Store};
use types::wire::{Message, Reader};
use zeroize::Zeroizing;

use super::Generate;
use crate::SecretsError;
use crate::record::{Header, Origin, SealingKeys};

/// Where all of it is.
pub(super) const SECRETS: &str = "secrets/";
pub(super) const STORE_ROOT: &str = "secrets/root";
const RECORDS: &str = "secrets/records/";
const MADE: &str = "secrets/made/";

/// Every version of every secret, by name and version.
pub(super) type Records = BTreeMap<(String, u64), Arc<Stored>>;

/// One version as it is in the store, and what is known of it in the clear.
pub(super) struct Stored {
    pub(super) sealed: Vec<u8>,
    digest: [u8; 32],
    pub(super) epoch: u32,
    pub(super) origin: Origin,
    pub(super) made: Option<Made>,
    /// How long its value is.
    pub(super) bytes: usize,
}

/// When a version was made, in Unix seconds, and as what.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) at: u64,
    pub(super) generate: Option<Generate>,
}

/// What the store holds, verified.
pub(super) struct Found {
    pub(super) records: Records,
    pub(super) generation: u64,
    pub(super) root_revision: u64,
}

impl Stored {
    pub(super) fn seal(
        keys: &SealingKeys,
        header: &Header,
        value: &[u8],
        made: Option<Made>,
    ) -> Result<Self, SecretsError> {
        Ok(Self::new(keys.seal(header, value)?, header, value.len(), made))
    }

    fn new(sealed: Vec<u8>, header: &Header, bytes: usize, made: Option<Made>) -> Self {
        let digest = digest(&SHA256, &sealed).as_ref().try_into().expect("SHA-256 gives 32 bytes");
        Self { sealed, digest, epoch: header.epoch, origin: header.origin, made, bytes }
    }
}

/// Reads every row and verifies it. All of one revision: who else writes to the store must not look like damage.
pub(super) async fn read(store: &Store, keys: &SealingKeys) -> Result<Found, SecretsError> {
    let rows = store.range(SECRETS).await?.rows;
    let under = |prefix: &'static str| rows.iter().filter(move |row| row.key.starts_with(prefix.as_bytes()));
    let mut made = read_made(under(MADE), keys)?;
    let mut records = Records::new();
    for row in under(RECORDS) {
        let place = place(&row.key, RECORDS)?;
        let (header, value) = open_record(keys, &place.0, place.1, &row.value)?;
        let made = made.remove(&place);
        records.insert(place, Arc::new(Stored::new(row.value.clone(), &header, value.len(), made)));
    }
    if let Some(((name, version), _)) = made.first_key_value() {
        return Err(SecretsError::Tampered(format!("the time of {name} version {version}, which is gone")));
    }
    let root = rows.iter().find(|row| row.key == STORE_ROOT.as_bytes());
    let root = root.ok_or_else(|| SecretsError::Tampered("the hash over all records".into()))?;
    let generation = verify_root(keys, &root.value, &records)?;
    Ok(Found { records, generation, root_revision: root.mod_revision })
}

/// Whether these keys open anything at all, if there is anything to open.
pub(super) async fn any_opens(store: &Store, keys: &SealingKeys) -> Result<bool, SecretsError> {
    let records = store.range(RECORDS).await?.rows;
    Ok(records.is_empty() || records.iter().any(|row| keys.open(&row.value).is_some()))
}

/// The value of a record.
pub(super) fn open(
    keys: &SealingKeys,
    name: &str,
    version: u64,
    stored: &Stored,
) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    open_record(keys, name, version, &stored.sealed).map(|(_, value)| value)
}

pub(super) fn record_key(name: &str, version: u64) -> String {
    row_key(RECORDS, name, version)
}

pub(super) fn made_key(name: &str, version: u64) -> String {
    row_key(MADE, name, version)
}

pub(super) fn made_bytes(keys: &SealingKeys, name: &str, version: u64, made: &Made) -> Vec<u8> {
    let tag = hmac::sign(&keys.store_root, &made_message(name, version, made));
    let kind = made.generate.map_or("", Generate::as_str);
    Message::untagged(&made.at.to_be_bytes()).lp(kind).raw(tag).finish()
}

pub(super) fn root_bytes(keys: &SealingKeys, generation: u64, records: &Records) -> Vec<u8> {
    let tag = hmac::sign(&keys.store_root, &root_message(generation, records));
    Message::untagged(&generation.to_be_bytes()).raw(tag).finish()
}

fn open_record(
    keys: &SealingKeys,
    name: &str,
    version: u64,
    record: &[u8],
) -> Result<(Header, Zeroizing<Vec<u8>>), SecretsError> {
    keys.open(record)
        .filter(|(header, _)| header.name == name && header.version == version)
        .ok_or_else(|| SecretsError::Tampered(format!("record {name} version {version}")))
}

fn read_made<'a>(
    rows: impl Iterator<Item = &'a KeyValue>,
    keys: &SealingKeys,
) -> Result<BTreeMap<(String, u64), Made>, SecretsError> {
    let mut found = BTreeMap::new();
    for row in rows {
        let (name, version) = place(&row.key, MADE)?;
        let made = verify_made(keys, &name, version, &row.value)
            .ok_or_else(|| SecretsError::Tampered(format!("the time of {name} version {version}")))?;
        found.insert((name, version), made);
    }
    Ok(found)
}

fn verify_made(keys: &SealingKeys, name: &str, version: u64, row: &[u8]) -> Option<Made> {
    let mut reader = Reader::new(row);
    let at = u64::from_be_bytes(reader.array()?);
    let generate = match reader.lp()? {
        [] => None,
        word => Some(Generate::of_word(word)?),
    };
    let tag: [u8; 32] = reader.array()?;
    let made = Made { at, generate };
    hmac::verify(&keys.store_root, &made_message(name, version, &made), &tag).ok()?;
    reader.is_empty().then_some(made)
}

fn made_message(name: &str, version: u64, made: &Made) -> Vec<u8> {
    let message = Message::tagged(b"serviceos/secret-time/v1\0")
        .lp(name)
        .raw(version.to_be_bytes())
        .raw(made.at.to_be_bytes());
    match made.generate {
        Some(kind) => message.lp(kind.as_str()).finish(),
        None => message.finish(),
    }
}

/// The name and version of a key, which has no other way to be written.
fn place(key: &[u8], prefix: &str) -> Result<(String, u64), SecretsError> {
    let text = String::from_utf8_lossy(key);
    let place = text
        .strip_prefix(prefix)
        .and_then(|place| place.rsplit_once('/'))
        .and_then(|(name, version)| Some((name.to_owned(), u64::from_str_radix(version, 16).ok()?)))
        .filter(|(name, version)| row_key(prefix, name, *version) == text);
    place.ok_or_else(|| SecretsError::Tampered(format!("key {text}")))
}

fn row_key(prefix: &str, name: &str, version: u64) -> String {
    format!("{prefix}{name}/{version:016x}")
}

fn root_message(generation: u64, records: &Records) -> Vec<u8> {
    let count = u32::try_from(records.len()).expect("a mesh has far fewer than 4 billion records");
    let message = Message::untagged(&generation.to_be_bytes()).raw(count.to_be_bytes());
    records.values().fold(message, |message, stored| message.raw(stored.digest)).finish()
}

fn verify_root(keys: &SealingKeys, root: &[u8], records: &Records) -> Result<u64, SecretsError> {
    let tampered = || SecretsError::Tampered("the hash over all records".into());
    let mut reader = Reader::new(root);
    let generation = u64::from_be_bytes(reader.array().ok_or_else(tampered)?);
    let tag: [u8; 32] = reader.array().filter(|_| root.len() == 40).ok_or_else(tampered)?;
    hmac::verify(&keys.store_root, &root_message(generation, records), &tag).map_err(|_| tampered())?;
    Ok(generation)
}
