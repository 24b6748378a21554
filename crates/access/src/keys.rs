//! API keys: made and revoked by the control side, checked by every gateway worker against a published table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Outcome, Store, Transaction};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::{ALL_SCOPES, AccessError, ApiKey, Caller, KeyKind};

const RECORDS: &str = "access/keys/";
/// The id of the key that `up` prints in development.
const DEVELOPMENT_KEY: &str = "key_development";
/// Tables published so far in this process.
static TABLES: AtomicU64 = AtomicU64::new(0);

const MAX_SCOPES: usize = 32;
const MAX_WORD_BYTES: usize = 64;

/// What is kept of a key: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRecord {
    /// Its id, `key_` and a ULID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whom it acts for.
    pub tenant: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

/// A record with the keyed hash that finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredKey {
    hash: [u8; 32],
    record: KeyRecord,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKey {
    /// What people will call it, 1 to 64 bytes.
    pub name: String,
    /// What it may do: words of lower-case letters, digits and `:._-`.
    pub scopes: Vec<String>,
    /// Whom it acts for; `default` when left out.
    #[serde(default)]
    pub tenant: Option<String>,
    /// From when on it is refused; never when left out.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// Why a presented key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a key, or the checksum says that it was mistyped.
    Malformed,
    /// There is no such key, or it was revoked.
    Unknown,
    /// It was good until its expiry.
    Expired,
}

/// The key that one connection presented last, with what it was good for. Wiped when dropped.
pub struct RememberedKey {
    key: Zeroizing<String>,
    entry: Entry,
    table: u64,
}

/// The keys as the workers see them.
pub struct KeyTable {
    /// Different for every table that was ever published.
    number: u64,
    pepper: hmac::Key,
    by_hash: HashMap<[u8; 32], Entry>,
}

#[derive(Clone)]
struct Entry {
    caller: Arc<Caller>,
    expires_at: Option<Timestamp>,
}

impl Entry {
    fn at(&self, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        if self.expires_at.is_some_and(|expiry| now >= expiry) {
            return Err(Refusal::Expired);
        }
        Ok(Arc::clone(&self.caller))
    }
}

impl KeyTable {
    /// The caller that a presented key belongs to.
    ///
    /// The look-up is by keyed hash, so how long it takes says nothing about how much of a key was right.
    pub fn authenticate(&self, presented: &str, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        self.look_up(presented)?.at(now)
    }

    /// The same, for a connection that most likely presents the key that it presented before: that one is remembered
    /// until the next table, and hashed only once.
    pub fn authenticate_again(
        &self,
        remembered: &mut Option<RememberedKey>,
        presented: &str,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        if let Some(known) = remembered
            && known.table == self.number
            && verify_slices_are_equal(known.key.as_bytes(), presented.as_bytes()).is_ok()
        {
            return known.entry.at(now);
        }
        let entry = self.look_up(presented)?.clone();
        let caller = entry.at(now)?;
        *remembered = Some(RememberedKey { key: presented.to_owned().into(), entry, table: self.number });
        Ok(caller)
    }

    fn look_up(&self, presented: &str) -> Result<&Entry, Refusal> {
        if !ApiKey::is_well_formed(presented) {
            return Err(Refusal::Malformed);
        }
        self.by_hash.get(&hash(&self.pepper, presented)).ok_or(Refusal::Unknown)
    }
}

/// The keys as their owner sees them.
pub struct ApiKeys {
    store: Store,
    pepper: hmac::Key,
    kind: KeyKind,
    development_key: ApiKey,
    /// Changes are made one after the other, each in the store first.
    keys: Mutex<Vec<StoredKey>>,
    table: watch::Sender<Arc<KeyTable>>,
}

impl ApiKeys {
    /// Reads the keys. The pepper is a secret of 32 bytes; with another one no stored key is ever found.
    pub async fn open(store: Store, pepper: &Zeroizing<Vec<u8>>, kind: KeyKind) -> Result<Self, AccessError> {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper);
        let mut keys = Vec::new();
        for row in store.range(RECORDS).await? {
            let key = serde_json::from_slice(&row.value)
                .map_err(|_| AccessError::Damaged(String::from_utf8_lossy(&row.key).into_owned()))?;
            keys.push(key);
        }
        let bits = hmac::sign(&pepper, b"serviceos/development-key/v1\0");
        let bits: Zeroizing<[u8; 32]> =
            Zeroizing::new(bits.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes"));
        let development_key = ApiKey::from_bits(kind, &bits);
        let table = watch::Sender::new(Arc::new(table(&pepper, &keys, &development_key)));
        Ok(Self { store, pepper, kind, development_key, keys: Mutex::new(keys), table })
    }

    /// The table in force, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<KeyTable>> {
        self.table.subscribe()
    }

    /// The key that development mode prints at each start: all scopes, derived from the pepper.
    pub fn development_key(&self) -> &ApiKey {
        &self.development_key
    }

    /// Makes a key. The returned key is in the clear here and nowhere else.
    ///
    /// Once begun it is carried out, also when nobody waits for it any more: what is in the store and what the workers see
    /// never differ.
    pub async fn create(
        self: &Arc<Self>,
        new: NewKey,
        now: Timestamp,
    ) -> Result<(KeyRecord, ApiKey), AccessError> {
        let keys = Arc::clone(self);
        carried_out(tokio::spawn(async move { keys.create_now(new, now).await })).await
    }

    async fn create_now(&self, new: NewKey, now: Timestamp) -> Result<(KeyRecord, ApiKey), AccessError> {
        check(&new, now)?;
        let mut bits = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *bits).map_err(|_| AccessError::Randomness)?;
        let key = ApiKey::from_bits(self.kind, &bits);
        let record = KeyRecord {
            id: format!("key_{}", Ulid::generate()),
            name: new.name,
            scopes: new.scopes,
            tenant: new.tenant.unwrap_or_else(|| types::headers::DEFAULT_TENANT.to_owned()),
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let stored = StoredKey { hash: hash(&self.pepper, key.expose()), record: record.clone() };
        let mut keys = self.keys.lock().await;
        self.write(&stored).await?;
        keys.push(stored);
        self.table.send_replace(Arc::new(table(&self.pepper, &keys, &self.development_key)));
        Ok((record, key))
    }

    /// Every key, also expired and revoked ones, in the order in which they were made.
    pub async fn list(&self) -> Vec<KeyRecord> {
        self.keys.lock().await.iter().map(|key| key.record.clone()).collect()
    }

    /// Revokes a key; once revoked it stays so, with the time of the first revocation.
    ///
    /// Once begun it is carried out, like [`Self::create`].
    pub async fn revoke(self: &Arc<Self>, id: &str, now: Timestamp) -> Result<KeyRecord, AccessError> {
        let (keys, id) = (Arc::clone(self), id.to_owned());
        carried_out(tokio::spawn(async move { keys.revoke_now(&id, now).await })).await
    }

    async fn revoke_now(&self, id: &str, now: Timestamp) -> Result<KeyRecord, AccessError> {
        let mut keys = self.keys.lock().await;
        let place = keys.iter().position(|key| key.record.id == id);
        let place = place.ok_or_else(|| AccessError::UnknownKey(id.to_owned()))?;
        let mut revoked = keys[place].clone();
        revoked.record.revoked_at.get_or_insert(now);
        self.write(&revoked).await?;
        keys[place] = revoked;
        self.table.send_replace(Arc::new(table(&self.pepper, &keys, &self.development_key)));
        Ok(keys[place].record.clone())
    }

    async fn write(&self, key: &StoredKey) -> Result<(), AccessError> {
        let value = serde_json::to_vec(key).expect("a key record is plain fields");
        let transaction = Transaction::new().put(format!("{RECORDS}{}", key.record.id), value);
        match self.store.commit(transaction).await? {
            Outcome::Committed { .. } => Ok(()),
            Outcome::Conflict { .. } => unreachable!("a transaction without comparisons has no conflict"),
        }
    }
}

async fn carried_out<T>(change: JoinHandle<Result<T, AccessError>>) -> Result<T, AccessError> {
    change.await.unwrap_or_else(|_| Err(AccessError::Unfinished))
}

fn hash(pepper: &hmac::Key, key: &str) -> [u8; 32] {
    hmac::sign(pepper, key.as_bytes()).as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
}

fn table(pepper: &hmac::Key, keys: &[StoredKey], development_key: &ApiKey) -> KeyTable {
    let valid = keys.iter().filter(|key| key.record.revoked_at.is_none());
    let mut by_hash: HashMap<_, _> = valid
        .map(|StoredKey { hash, record }| {
            let caller = Caller::new(&record.id, &record.tenant, record.scopes.clone());
            (*hash, Entry { caller: Arc::new(caller), expires_at: record.expires_at })
        })
        .collect();
    let development =
        Caller::new(DEVELOPMENT_KEY, types::headers::DEFAULT_TENANT, vec![ALL_SCOPES.to_owned()]);
    let entry = Entry { caller: Arc::new(development), expires_at: None };
    by_hash.insert(hash(pepper, development_key.expose()), entry);
    let number = TABLES.fetch_add(1, Ordering::Relaxed);
    KeyTable { number, pepper: pepper.clone(), by_hash }
}

fn check(new: &NewKey, now: Timestamp) -> Result<(), AccessError> {
    let invalid = |text: &str| Err(AccessError::Invalid(text.to_owned()));
    let word = |text: &str, others: &[u8]| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(allowed)
    };
    if new.name.is_empty() || new.name.len() > MAX_WORD_BYTES || new.name.chars().any(char::is_control) {
        return invalid("a key has a name of 1 to 64 bytes without control characters");
    }
    if new.scopes.is_empty() || new.scopes.len() > MAX_SCOPES {
        return invalid("a key has 1 to 32 scopes");
    }
    let lower = |scope: &String| !scope.bytes().any(|byte| byte.is_ascii_uppercase());
    if !new.scopes.iter().all(|scope| word(scope, b":._-") && lower(scope)) {
        return invalid("a scope is a word of lower-case letters, digits and :._- of at most 64 bytes");
    }
    if !new.tenant.as_deref().is_none_or(|tenant| word(tenant, b"._-")) {
        return invalid("a tenant is a word of letters, digits and ._- of at most 64 bytes");
    }
    if new.expires_at.is_some_and(|expiry| expiry <= now) {
        return invalid("a key expires in the future");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
