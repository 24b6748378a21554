//! All secrets of a mesh in the store.

mod generate;
mod listing;
mod reading;
mod rows;

pub use generate::Generate;
pub use listing::{Given, Summary, VersionInfo};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use store::{MAX_OPERATIONS, Outcome, Store, Transaction};
use zeroize::Zeroizing;

use self::rows::{Made, Records, Stored};
use crate::genesis::RootKey;
use crate::name::{INTERNAL, check_changeable, check_name, is_reserved};
use crate::record::{Header, Origin, SealingKeys};
use crate::{Domain, MasterKey, SecretsError};

/// Secrets that services may have, all of them together.
pub const MAX_SECRETS: usize = 1_000;
/// Versions that are kept of a secret that an operator gave; the oldest go.
pub const MAX_VERSIONS: usize = 16;
/// Epochs of a generated secret; all of them are kept.
pub const MAX_EPOCHS: u32 = 1_000;
/// The largest value that an operator may give, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

const ROOT_SPKI: &str = "mesh/root-spki";
const TRUST_DOMAIN: &str = "mesh/trust-domain";
/// The mesh root's private key is a secret like the others, under a name that no service can ask for.
const ROOT_NAME: &str = "mesh/root";
/// Versions that one transaction removes: two rows each, beside the hash over all records and the comparison of it.
const REMOVED_AT_ONCE: usize = (MAX_OPERATIONS - 2) / 2;

/// A secret's value in one epoch.
#[derive(Clone)]
pub struct Epoch {
    /// The number, from 1.
    pub number: u32,
    /// The value.
    pub value: Zeroizing<Vec<u8>>,
}

/// What a replica is given of a secret.
#[derive(Clone)]
pub struct Released {
    /// The version of the record, from 1.
    pub version: u64,
    /// The epoch, from 1; always 1 for a value that an operator gave.
    pub epoch: u32,
    /// The value.
    pub value: Zeroizing<Vec<u8>>,
}

/// How often a change is tried that another node was quicker than.
const TRIES: u32 = 8;

/// The open secrets of a mesh. In a process it has one owner, and whoever changes it does so through that owner; other nodes may
/// have the same store open.
pub struct Vault {
    store: Store,
    keys: SealingKeys,
    genesis: [u8; 32],
    root_spki: Vec<u8>,
    records: Records,
    /// How often the records were changed.
    generation: u64,
    /// The revision of the row with the hash over all records; `None` before there is one.
    root_revision: Option<u64>,
    /// A change was begun, and how it ended was not heard: it failed, or whoever asked for it waited no longer.
    unsettled: bool,
}

/// What a transaction writes, and the records once it has.
struct Change {
    transaction: Transaction,
    records: Records,
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
        let mut vault = Self::empty(store, &master, &domain, root.spki.clone())?;
        let mut change = vault.change();
        change.transaction = change
            .transaction
            .if_absent(ROOT_SPKI)
            .put(ROOT_SPKI, root.spki)
            .put(TRUST_DOMAIN, domain.trust_domain.as_bytes());
        let header = Header { name: ROOT_NAME.into(), version: 1, epoch: 1, origin: Origin::Generated };
        let change = change.add(&vault.keys, header, &root.pkcs8, None)?;
        match vault.commit(change).await {
            Ok(()) => Ok(vault),
            Err(SecretsError::Conflict) => match vault.store.get(ROOT_SPKI).await? {
                // Another node was quicker: its mesh is the mesh.
                Some(row) => Self::reopen(vault.store, master_key, domain, row.value).await,
                // There are records, but what names their mesh is gone.
                None => Err(SecretsError::Tampered("the mesh root's public key".into())),
            },
            Err(other) => Err(other),
        }
    }

    async fn reopen(
        store: Store,
        master_key: &Path,
        domain: Domain,
        spki: Vec<u8>,
    ) -> Result<Self, SecretsError> {
        let found = Self::trust_domain_in(&store).await?.unwrap_or_default();
        if found != domain.trust_domain {
            return Err(SecretsError::OtherDomain { found, wanted: domain.trust_domain });
        }
        let master = MasterKey::read(master_key)?
            .ok_or_else(|| SecretsError::MasterKeyMissing(master_key.to_owned()))?;
        let mut vault = Self::empty(store, &master, &domain, spki)?;
        match vault.load().await {
            Err(SecretsError::Tampered(_)) if !rows::any_opens(&vault.store, &vault.keys).await? => {
                Err(SecretsError::OtherMasterKey(master_key.to_owned()))
            }
            loaded => loaded.map(|()| vault),
        }
    }

    fn empty(
        store: Store,
        master: &MasterKey,
        domain: &Domain,
        root_spki: Vec<u8>,
    ) -> Result<Self, SecretsError> {
        let genesis = domain.genesis(&root_spki);
        let keys = SealingKeys::derive(master, domain, &genesis)?;
        let records = Records::new();
        Ok(Self {
            store,
            keys,
            genesis,
            root_spki,
            records,
            generation: 0,
            root_revision: None,
            unsettled: false,
        })
    }

    /// The trust domain of the mesh that a store holds; `None` where it holds none yet.
    ///
    /// # Errors
    /// The store fails.
    pub async fn trust_domain_in(store: &Store) -> Result<Option<String>, SecretsError> {
        let row = store.get(TRUST_DOMAIN).await?;
        Ok(row.map(|row| String::from_utf8_lossy(&row.value).into_owned()))
    }

    /// T_0 of this mesh.
    pub fn genesis(&self) -> &[u8; 32] {
        &self.genesis
    }

    /// Which mesh this is.
    pub fn domain(&self) -> &Domain {
        &self.keys.domain
    }

    /// The key of the mesh's root, as DER SubjectPublicKeyInfo.
    pub fn root_spki(&self) -> &[u8] {
        &self.root_spki
    }

    /// The mesh root's private key, as PKCS #8.
    ///
    /// # Errors
    /// [`SecretsError::Tampered`].
    pub fn root_key(&self) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let (version, stored) =
            self.newest(ROOT_NAME).ok_or_else(|| SecretsError::Tampered("the mesh root key".into()))?;
        rows::open(&self.keys, ROOT_NAME, version, stored)
    }

    /// The secret of that name, made now if there is none; `now` is in Unix seconds. Ascending epochs, as [`Self::reveal`].
    ///
    /// # Errors
    /// The name is none, there are [`MAX_SECRETS`], or the store fails.
    pub async fn ensure(
        &mut self,
        name: &str,
        generate: Generate,
        now: u64,
    ) -> Result<Vec<Epoch>, SecretsError> {
        check_name(name)?;
        let value = generate.make()?;
        for _ in 0..TRIES {
            self.settle().await?;
            if let Some(epochs) = self.reveal(name)? {
                return Ok(epochs);
            }
            self.check_room()?;
            let header = Header { name: name.to_owned(), version: 1, epoch: 1, origin: Origin::Generated };
            let made = Made { at: now, generate: Some(generate) };
            let change = self.change().add(&self.keys, header, &value, Some(made))?;
            match self.commit(change).await {
                Err(SecretsError::Conflict) => {}
                Err(other) => return Err(other),
                Ok(()) => return Ok(vec![Epoch { number: 1, value }]),
            }
        }
        Err(SecretsError::Conflict)
    }

    /// A secret of the mesh itself, made now if there is none. Its name is apart from all that services and operators name.
    ///
    /// # Errors
    /// What `make` says, and as [`Self::ensure`].
    pub async fn ensure_internal<E: From<SecretsError>>(
        &mut self,
        name: &str,
        make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Zeroizing<Vec<u8>>, E> {
        check_name(name)?;
        let name = format!("{INTERNAL}{name}");
        self.settle().await?;
        if let Some((version, stored)) = self.newest(&name) {
            return Ok(rows::open(&self.keys, &name, version, stored)?);
        }
        let value = make()?;
        for _ in 0..TRIES {
            self.settle().await?;
            if let Some((version, stored)) = self.newest(&name) {
                return Ok(rows::open(&self.keys, &name, version, stored)?);
            }
            let header = Header { name: name.clone(), version: 1, epoch: 1, origin: Origin::Generated };
            let change = self.change().add(&self.keys, header, &value, None)?;
            match self.commit(change).await {
                Err(SecretsError::Conflict) => {}
                Err(other) => return Err(other.into()),
                Ok(()) => return Ok(value),
            }
        }
        Err(SecretsError::Conflict.into())
    }

    /// Takes a value that an operator gives, as a new version, and gives its number. Of the versions [`MAX_VERSIONS`] are kept.
    /// `now` is in Unix seconds.
    ///
    /// # Errors
    /// The name is none or the mesh's own, the secret was generated, a limit is reached, or the store fails.
    pub async fn set(&mut self, name: &str, value: &[u8], now: u64) -> Result<u64, SecretsError> {
        self.settle().await?;
        let version = self.check_set(name, value.len())?;
        let header = Header { name: name.to_owned(), version, epoch: 1, origin: Origin::Set };
        let made = Made { at: now, generate: None };
        let change = self.change().add(&self.keys, header, value, Some(made))?;
        let surplus = (self.versions(name).count() + 1).saturating_sub(MAX_VERSIONS);
        let change = self
            .versions(name)
            .take(surplus)
            .fold(change, |change, (version, _)| change.remove(name, version));
        self.commit(change).await?;
        Ok(version)
    }

    /// Makes a new epoch of a generated secret, and gives its number; the earlier ones stay. `now` is in Unix seconds.
    ///
    /// A secret that is older than the note of its kind gets 32 random bytes, as it was made of.
    ///
    /// # Errors
    /// There is no such secret, it was set or is the mesh's own, there are [`MAX_EPOCHS`], or the store fails.
    pub async fn rotate(&mut self, name: &str, now: u64) -> Result<u32, SecretsError> {
        self.settle().await?;
        let epoch = self.check_rotate(name)?;
        let version = self.newest(name).map_or(1, |(version, _)| version + 1);
        let generate = self.kind(name);
        let value = generate.unwrap_or(Generate::Random).make()?;
        let header = Header { name: name.to_owned(), version, epoch, origin: Origin::Generated };
        let change = self.change().add(&self.keys, header, &value, Some(Made { at: now, generate }))?;
        self.commit(change).await?;
        Ok(epoch)
    }

    /// Removes a secret with all of its versions, at once, but for a secret of more versions than one transaction takes: that
    /// one goes in parts, the oldest first, and if a part fails, the rest is there to be removed again.
    ///
    /// # Errors
    /// There is no such secret, it is the mesh's own, or the store fails.
    pub async fn remove(&mut self, name: &str) -> Result<(), SecretsError> {
        self.settle().await?;
        self.check_remove(name)?;
        let versions: Vec<u64> = self.versions(name).map(|(version, _)| version).collect();
        for part in versions.chunks(REMOVED_AT_ONCE) {
            let change = part.iter().fold(self.change(), |change, version| change.remove(name, *version));
            self.commit(change).await?;
        }
        Ok(())
    }

    /// Whether [`Self::set`] would take a value of so many bytes now, and as which version.
    ///
    /// # Errors
    /// What [`Self::set`] would refuse it for.
    pub fn check_set(&self, name: &str, bytes: usize) -> Result<u64, SecretsError> {
        check_changeable(name)?;
        if bytes > MAX_VALUE_BYTES {
            return Err(SecretsError::TooLarge);
        }
        match self.newest(name) {
            Some((_, newest)) if newest.origin == Origin::Generated => {
                Err(SecretsError::Immutable(name.to_owned()))
            }
            Some((version, _)) => Ok(version + 1),
            None => self.check_room().map(|()| 1),
        }
    }

    /// Whether [`Self::rotate`] would make an epoch now, and which.
    ///
    /// # Errors
    /// What [`Self::rotate`] would refuse it for.
    pub fn check_rotate(&self, name: &str) -> Result<u32, SecretsError> {
        check_changeable(name)?;
        let (_, newest) = self.newest(name).ok_or_else(|| SecretsError::Unknown(name.to_owned()))?;
        if newest.origin == Origin::Set {
            return Err(SecretsError::NotGenerated(name.to_owned()));
        }
        if newest.epoch >= MAX_EPOCHS {
            return Err(SecretsError::TooManyEpochs(name.to_owned()));
        }
        Ok(newest.epoch + 1)
    }

    /// Whether [`Self::remove`] would remove a secret now.
    ///
    /// # Errors
    /// What [`Self::remove`] would refuse it for.
    pub fn check_remove(&self, name: &str) -> Result<(), SecretsError> {
        check_changeable(name)?;
        self.newest(name).map(|_there| ()).ok_or_else(|| SecretsError::Unknown(name.to_owned()))
    }

    /// Every epoch of a secret, ascending; `None` when there is no secret of that name. A secret that an operator gave has one,
    /// with the newest value.
    ///
    /// # Errors
    /// [`SecretsError::Tampered`].
    pub fn reveal(&self, name: &str) -> Result<Option<Vec<Epoch>>, SecretsError> {
        let epochs = self.current(name).map(|(version, stored)| {
            let value = rows::open(&self.keys, name, version, stored)?;
            Ok(Epoch { number: stored.epoch, value })
        });
        let epochs = epochs.collect::<Result<Vec<_>, SecretsError>>()?;
        Ok((!epochs.is_empty()).then_some(epochs))
    }

    /// What a replica is given: the newest version of a secret that an operator gave, every epoch of a generated one,
    /// ascending. `None` when there is no such secret, and for the mesh's own.
    ///
    /// # Errors
    /// [`SecretsError::Tampered`].
    pub fn release(&self, name: &str) -> Result<Option<Vec<Released>>, SecretsError> {
        if is_reserved(name) {
            return Ok(None);
        }
        let released = self.current(name).map(|(version, stored)| {
            let value = rows::open(&self.keys, name, version, stored)?;
            Ok(Released { version, epoch: stored.epoch, value })
        });
        let released = released.collect::<Result<Vec<_>, SecretsError>>()?;
        Ok((!released.is_empty()).then_some(released))
    }

    /// The versions of a secret, ascending.
    fn versions(&self, name: &str) -> impl DoubleEndedIterator<Item = (u64, &Stored)> {
        self.records
            .range((name.to_owned(), 0)..=(name.to_owned(), u64::MAX))
            .map(|((_, version), stored)| (*version, stored.as_ref()))
    }

    fn newest(&self, name: &str) -> Option<(u64, &Stored)> {
        self.versions(name).next_back()
    }

    /// The versions that count: the newest of a secret that an operator gave, all of a generated one.
    fn current(&self, name: &str) -> impl Iterator<Item = (u64, &Stored)> {
        let newest = self.newest(name);
        let first =
            newest.filter(|(_, stored)| stored.origin == Origin::Set).map_or(0, |(version, _)| version);
        self.versions(name).skip_while(move |(version, _)| *version < first)
    }

    /// What kind of value a generated secret has, as far as it is known.
    fn kind(&self, name: &str) -> Option<Generate> {
        self.versions(name).rev().find_map(|(_, stored)| stored.made?.generate)
    }

    fn check_room(&self) -> Result<(), SecretsError> {
        let names: BTreeSet<_> =
            self.records.keys().map(|(name, _)| name).filter(|name| !is_reserved(name)).collect();
        if names.len() < MAX_SECRETS { Ok(()) } else { Err(SecretsError::TooMany) }
    }

    fn change(&self) -> Change {
        Change { transaction: Transaction::new(), records: self.records.clone() }
    }

    /// Writes a change together with the hash over all records, if nobody else has written that meanwhile.
    async fn commit(&mut self, change: Change) -> Result<(), SecretsError> {
        let generation = self.generation + 1;
        let transaction = match self.root_revision {
            Some(revision) => change.transaction.if_revision(rows::STORE_ROOT, revision),
            None => change.transaction.if_absent(rows::STORE_ROOT),
        };
        let root = rows::root_bytes(&self.keys, generation, &change.records);
        self.unsettled = true;
        match self.store.commit(transaction.put(rows::STORE_ROOT, root)).await? {
            Outcome::Committed { revision } => {
                (self.records, self.generation, self.root_revision) =
                    (change.records, generation, Some(revision));
                self.unsettled = false;
                Ok(())
            }
            Outcome::Conflict { .. } => Err(SecretsError::Conflict),
        }
    }
}

impl Change {
    /// One version more, sealed.
    fn add(
        mut self,
        keys: &SealingKeys,
        header: Header,
        value: &[u8],
        made: Option<Made>,
    ) -> Result<Self, SecretsError> {
        let stored = Stored::seal(keys, &header, value, made)?;
        let Header { name, version, .. } = header;
        let key = rows::record_key(&name, version);
        self.transaction = self.transaction.if_absent(key.clone()).put(key, stored.sealed.clone());
        if let Some(made) = made {
            let row = rows::made_bytes(keys, &name, version, &made);
            self.transaction = self.transaction.put(rows::made_key(&name, version), row);
        }
        self.records.insert((name, version), Arc::new(stored));
        Ok(self)
    }

    fn remove(mut self, name: &str, version: u64) -> Self {
        self.transaction =
            self.transaction.delete(rows::record_key(name, version)).delete(rows::made_key(name, version));
        self.records.remove(&(name.to_owned(), version));
        self
    }
}

#[cfg(test)]
mod tests;
