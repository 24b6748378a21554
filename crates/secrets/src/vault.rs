//! All secrets of a mesh in the store.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use store::{Outcome, Store, Transaction};
use types::wire::{Message, Reader};
use zeroize::Zeroizing;

use crate::genesis::RootKey;
use crate::record::{Header, SealingKeys};
use crate::{Domain, MasterKey, SecretsError};

const ROOT_SPKI: &str = "mesh/root-spki";
const TRUST_DOMAIN: &str = "mesh/trust-domain";
const RECORDS: &str = "secrets/records/";
const STORE_ROOT: &str = "secrets/root";
/// The mesh root's private key is a secret like the others, under a name that no service can ask for.
const ROOT_NAME: &str = "mesh/root";

/// What kind of value is made for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generate {
    /// The 32-byte seed of an Ed25519 key.
    Ed25519,
    /// 32 random bytes.
    Random,
}

/// A secret's value in one epoch.
#[derive(Clone)]
pub struct Epoch {
    /// The number, from 1.
    pub number: u32,
    /// The value.
    pub value: Zeroizing<Vec<u8>>,
}

/// The open secrets of a mesh. It has one owner; whoever changes it does so through that owner.
pub struct Vault {
    store: Store,
    keys: SealingKeys,
    genesis: [u8; 32],
    generation: u64,
    /// Sealed records by name and version, as they are in the store.
    records: BTreeMap<(String, u64), Vec<u8>>,
}

impl Vault {
    /// Opens the secrets of the store, or begins a mesh where there is none: master key, root key and T_0 are made.
    ///
    /// # Errors
    /// Everything is verified before anything is handed out: a record or a key that does not fit is
    /// [`SecretsError::Tampered`], a data directory of another trust domain [`SecretsError::OtherDomain`].
    pub async fn open(store: Store, master_key: &Path, domain: Domain) -> Result<Self, SecretsError> {
        match store.get(ROOT_SPKI).await? {
            Some(row) => Self::reopen(store, master_key, domain, row.value).await,
            None => Self::begin(store, master_key, domain).await,
        }
    }

    async fn begin(store: Store, master_key: &Path, domain: Domain) -> Result<Self, SecretsError> {
        // A key file without a store is what a crash between the two leaves behind.
        let master = match MasterKey::read(master_key)? {
            Some(master) => master,
            None => MasterKey::create(master_key)?,
        };
        let root = RootKey::generate()?;
        let genesis = domain.genesis(&root.spki);
        let keys = SealingKeys::derive(&master, &domain, &genesis)?;
        let mut vault = Self { store, keys, genesis, generation: 0, records: BTreeMap::new() };
        let first = Transaction::new()
            .if_absent(ROOT_SPKI)
            .put(ROOT_SPKI, root.spki)
            .put(TRUST_DOMAIN, domain.trust_domain.as_bytes());
        match vault.add(first, Header { name: ROOT_NAME.into(), version: 1, epoch: 1 }, &root.pkcs8).await {
            Ok(()) => Ok(vault),
            // There are records, but what names their mesh is gone.
            Err(SecretsError::Conflict) => Err(SecretsError::Tampered("the mesh root's public key".into())),
            Err(other) => Err(other),
        }
    }

    async fn reopen(
        store: Store,
        master_key: &Path,
        domain: Domain,
        spki: Vec<u8>,
    ) -> Result<Self, SecretsError> {
        let found =
            store.get(TRUST_DOMAIN).await?.map(|row| String::from_utf8_lossy(&row.value).into_owned());
        let found = found.unwrap_or_default();
        if found != domain.trust_domain {
            return Err(SecretsError::OtherDomain { found, wanted: domain.trust_domain });
        }
        let master = MasterKey::read(master_key)?
            .ok_or_else(|| SecretsError::MasterKeyMissing(master_key.to_owned()))?;
        let genesis = domain.genesis(&spki);
        let keys = SealingKeys::derive(&master, &domain, &genesis)?;
        let records = read_records(&store).await?;
        let root = store.get(STORE_ROOT).await?.map(|row| row.value).unwrap_or_default();
        let generation = verify_root(&keys, &root, &records)?;
        let vault = Self { store, keys, genesis, generation, records };
        vault.verify_records(&spki)?;
        Ok(vault)
    }

    /// T_0 of this mesh.
    pub fn genesis(&self) -> &[u8; 32] {
        &self.genesis
    }

    /// The secret of that name, made now if there is none.
    pub async fn ensure(&mut self, name: &str, generate: Generate) -> Result<Vec<Epoch>, SecretsError> {
        if let Some(epochs) = self.reveal(name)? {
            return Ok(epochs);
        }
        let mut value = Zeroizing::new(vec![0; 32]);
        match generate {
            // Every 32-byte string is the seed of an Ed25519 key (RFC 8032 section 5.1.5).
            Generate::Ed25519 | Generate::Random => {
                aws_lc_rs::rand::fill(&mut value).map_err(|_| SecretsError::Crypto("making a secret"))?;
            }
        }
        self.add(Transaction::new(), Header { name: name.to_owned(), version: 1, epoch: 1 }, &value).await?;
        Ok(vec![Epoch { number: 1, value }])
    }

    /// Every epoch of a secret, ascending; `None` when there is no secret of that name.
    pub fn reveal(&self, name: &str) -> Result<Option<Vec<Epoch>>, SecretsError> {
        let mut epochs = BTreeMap::new();
        for ((owner, version), record) in
            self.records.range((name.to_owned(), 0)..=(name.to_owned(), u64::MAX))
        {
            let (header, value) = self.open_record(owner, *version, record)?;
            epochs.insert(header.epoch, value);
        }
        let epochs: Vec<_> = epochs.into_iter().map(|(number, value)| Epoch { number, value }).collect();
        Ok((!epochs.is_empty()).then_some(epochs))
    }

    fn open_record(
        &self,
        name: &str,
        version: u64,
        record: &[u8],
    ) -> Result<(Header, Zeroizing<Vec<u8>>), SecretsError> {
        self.keys
            .open(record)
            .filter(|(header, _)| header.name == name && header.version == version)
            .ok_or_else(|| SecretsError::Tampered(format!("record {name} version {version}")))
    }

    fn verify_records(&self, spki: &[u8]) -> Result<(), SecretsError> {
        for ((name, version), record) in &self.records {
            self.open_record(name, *version, record)?;
        }
        let root =
            self.reveal(ROOT_NAME)?.ok_or_else(|| SecretsError::Tampered("the mesh root key".into()))?;
        if root.iter().all(|epoch| RootKey::matches(&epoch.value, spki)) {
            Ok(())
        } else {
            Err(SecretsError::Tampered("the mesh root key".into()))
        }
    }

    /// Seals a value and writes it together with the hash over all records and with `transaction`.
    async fn add(
        &mut self,
        transaction: Transaction,
        header: Header,
        value: &[u8],
    ) -> Result<(), SecretsError> {
        let record = self.keys.seal(&header, value)?;
        let key = (header.name, header.version);
        let mut records = self.records.clone();
        records.insert(key.clone(), record.clone());
        let generation = self.generation + 1;
        let transaction = transaction
            .if_absent(store_key(&key))
            .put(store_key(&key), record)
            .put(STORE_ROOT, root_bytes(&self.keys, generation, &records));
        match self.store.commit(transaction).await? {
            Outcome::Committed { .. } => {
                (self.records, self.generation) = (records, generation);
                Ok(())
            }
            Outcome::Conflict { .. } => Err(SecretsError::Conflict),
        }
    }
}

fn store_key((name, version): &(String, u64)) -> String {
    format!("{RECORDS}{name}/{version:016x}")
}

async fn read_records(store: &Store) -> Result<BTreeMap<(String, u64), Vec<u8>>, SecretsError> {
    let mut records = BTreeMap::new();
    for row in store.range(RECORDS).await? {
        let text = String::from_utf8_lossy(&row.key[RECORDS.len()..]).into_owned();
        let place = text
            .rsplit_once('/')
            .and_then(|(name, version)| Some((name.to_owned(), u64::from_str_radix(version, 16).ok()?)));
        let place = place.ok_or_else(|| SecretsError::Tampered(format!("key {text}")))?;
        records.insert(place, row.value);
    }
    Ok(records)
}

/// HMAC over u64 generation ‖ u32 count ‖ SHA-256(record)…, the records in the order of their keys.
fn root_message(generation: u64, records: &BTreeMap<(String, u64), Vec<u8>>) -> Vec<u8> {
    let count = u32::try_from(records.len()).expect("a mesh has a handful of secrets");
    let message = Message::untagged(&generation.to_be_bytes()).raw(count.to_be_bytes());
    records.values().fold(message, |message, record| message.raw(digest(&SHA256, record))).finish()
}

fn root_bytes(keys: &SealingKeys, generation: u64, records: &BTreeMap<(String, u64), Vec<u8>>) -> Vec<u8> {
    let tag = aws_lc_rs::hmac::sign(&keys.store_root, &root_message(generation, records));
    Message::untagged(&generation.to_be_bytes()).raw(tag).finish()
}

fn verify_root(
    keys: &SealingKeys,
    root: &[u8],
    records: &BTreeMap<(String, u64), Vec<u8>>,
) -> Result<u64, SecretsError> {
    let tampered = || SecretsError::Tampered("the hash over all records".into());
    let mut reader = Reader::new(root);
    let generation = u64::from_be_bytes(reader.array().ok_or_else(tampered)?);
    let tag: [u8; 32] = reader.array().filter(|_| root.len() == 40).ok_or_else(tampered)?;
    aws_lc_rs::hmac::verify(&keys.store_root, &root_message(generation, records), &tag)
        .map_err(|_| tampered())?;
    Ok(generation)
}

#[cfg(test)]
mod tests;
