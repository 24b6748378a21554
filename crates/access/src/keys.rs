//! API keys: made and revoked by the control side, checked by every gateway worker against a published table.

mod following;
mod record;
mod rotating;
mod signing;

pub use record::{DEFAULT_OVERLAP, KeyRecord, MAX_OVERLAP, NewKey, NewRotation};
pub use rotating::MadeRotation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use store::{Outcome, Store, StoreError, Transaction};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinHandle;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::public_key::PublicKey;
use crate::{ALL_SCOPES, AccessError, Allowance, ApiKey, Caller, KeyKind, Tiers};
use record::{Credential, StoredKey, check};

const RECORDS: &str = "access/keys/";
/// The id of the key that `up` prints in development.
const DEVELOPMENT_KEY: &str = "key_development";
/// Tables published so far in this process.
static TABLES: AtomicU64 = AtomicU64::new(0);

/// Why a presented key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a key, or the checksum says that it was mistyped.
    Malformed,
    /// It is a key of the other mode.
    OtherMode,
    /// There is no such key, or it was revoked, or its time after a rotation is over.
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
    kind: KeyKind,
    pepper: hmac::Key,
    by_hash: HashMap<[u8; 32], Entry>,
    /// Whose requests are signed, by the id of the key.
    signers: HashMap<String, Vec<Signer>>,
}

#[derive(Clone)]
struct Entry {
    caller: Arc<Caller>,
    expires_at: Option<Timestamp>,
    /// From when on another secret stands in this one's place.
    ends_at: Option<Timestamp>,
}

/// One public key of a key: the one that it has, or the one that it had.
struct Signer {
    key: Arc<PublicKey>,
    entry: Entry,
}

impl Entry {
    fn at(&self, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        if self.ends_at.is_some_and(|end| now >= end) {
            return Err(Refusal::Unknown);
        }
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
        presented: &[u8],
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        if let Some(known) = remembered
            && known.table == self.number
            && verify_slices_are_equal(known.key.as_bytes(), presented).is_ok()
        {
            return known.entry.at(now);
        }
        let presented = std::str::from_utf8(presented).map_err(|_| Refusal::Malformed)?;
        let entry = self.look_up(presented)?.clone();
        let caller = entry.at(now)?;
        *remembered = Some(RememberedKey { key: presented.to_owned().into(), entry, table: self.number });
        Ok(caller)
    }

    fn look_up(&self, presented: &str) -> Result<&Entry, Refusal> {
        match ApiKey::kind_of(presented) {
            None => return Err(Refusal::Malformed),
            Some(kind) if kind != self.kind => return Err(Refusal::OtherMode),
            Some(_) => {}
        }
        self.by_hash.get(&hash(&self.pepper, presented)).ok_or(Refusal::Unknown)
    }
}

/// The keys as their owner sees them.
pub struct ApiKeys {
    store: Store,
    pepper: hmac::Key,
    kind: KeyKind,
    development_key: Option<ApiKey>,
    /// Changes are made one after the other, each in the store first.
    ring: Mutex<Ring>,
    table: watch::Sender<Arc<KeyTable>>,
}

/// A key that was made and is good for nothing yet.
pub struct MadeKey {
    stored: StoredKey,
    key: Option<ApiKey>,
}

impl MadeKey {
    /// What will be kept of it.
    pub fn record(&self) -> &KeyRecord {
        &self.stored.record
    }
}

/// What is known of the keys between two changes.
struct Ring {
    /// None is ever taken out.
    keys: Vec<HeldKey>,
    /// Where each of them stands, by its id.
    places: HashMap<String, usize>,
    tiers: Tiers,
    /// The tiers that keys have and nothing defines, as far as the operator was told.
    unknown_tiers: BTreeSet<String>,
}

/// A stored key with its caller, which outlives every table: so does the bucket in it, and a change of one key refills no
/// other's.
struct HeldKey {
    stored: StoredKey,
    caller: Arc<Caller>,
}

impl ApiKeys {
    /// Reads the keys. The pepper is a secret of 32 bytes; with another one no stored key is ever found.
    pub async fn open(
        store: Store,
        pepper: &Zeroizing<Vec<u8>>,
        kind: KeyKind,
        tiers: Tiers,
    ) -> Result<Self, AccessError> {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, pepper);
        let mut keys = Vec::new();
        for row in store.range(RECORDS).await? {
            let stored: StoredKey = serde_json::from_slice(&row.value)
                .map_err(|_| AccessError::Damaged(String::from_utf8_lossy(&row.key).into_owned()))?;
            keys.push(HeldKey::new(stored, &tiers));
        }
        let places = keys.iter().enumerate();
        let places = places.map(|(place, key)| (key.stored.record.id.clone(), place)).collect();
        let mut ring = Ring { keys, places, tiers, unknown_tiers: BTreeSet::new() };
        ring.warn_of_unknown_tiers();
        let development_key = (kind == KeyKind::Test).then(|| development_key(&pepper));
        let first = table(&pepper, kind, &ring.keys, development_key.as_ref());
        let table = watch::Sender::new(Arc::new(first));
        Ok(Self { store, pepper, kind, development_key, ring: Mutex::new(ring), table })
    }

    /// The table in force, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<KeyTable>> {
        self.table.subscribe()
    }

    /// The key that development mode prints at each start: all scopes, derived from the pepper. In production there is none.
    pub fn development_key(&self) -> Option<&ApiKey> {
        self.development_key.as_ref()
    }

    /// Makes a key that is good for nothing until it is added, so that it can be written down elsewhere before.
    pub async fn make(&self, new: NewKey, now: Timestamp) -> Result<MadeKey, AccessError> {
        check(&new, now)?;
        let tier = new.tier.unwrap_or_else(|| self.kind.default_tier().to_owned());
        self.ring.lock().await.check_tier(&tier)?;
        let (credential, key) = self.credential(new.public_key.as_deref())?;
        let public_key = match &credential {
            Credential::Secret(_) => None,
            Credential::Public(key) => Some(key.info()),
        };
        let record = KeyRecord {
            id: format!("key_{}", Ulid::generate()),
            name: new.name,
            scopes: new.scopes,
            tenant: new.tenant.unwrap_or_else(|| types::headers::DEFAULT_TENANT.to_owned()),
            tier,
            public_key,
            created_at: now,
            expires_at: new.expires_at,
            rotated_at: None,
            previous_ends_at: None,
            revoked_at: None,
        };
        Ok(MadeKey { stored: StoredKey { credential, previous: None, rotations: 0, record }, key })
    }

    /// The public key that somebody has, or a new secret.
    fn credential(&self, public_key: Option<&str>) -> Result<(Credential, Option<ApiKey>), AccessError> {
        if let Some(pem) = public_key {
            return Ok((Credential::Public(Arc::new(PublicKey::from_pem(pem)?)), None));
        }
        let mut bits = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *bits).map_err(|_| AccessError::Randomness)?;
        let key = ApiKey::from_bits(self.kind, &bits);
        Ok((Credential::Secret(hash(&self.pepper, key.expose())), Some(key)))
    }

    /// Lets a key that was made do what its record says. Its secret, if it has one, is in the clear here and nowhere else.
    ///
    /// Once begun it is carried out, also when nobody waits for it any more: what is in the store and what the workers see
    /// never differ, unless the disk failed while it was written: then the next start says whether the key is there.
    pub async fn add(self: &Arc<Self>, made: MadeKey) -> Result<(KeyRecord, Option<ApiKey>), AccessError> {
        let keys = Arc::clone(self);
        carried_out(tokio::spawn(async move { keys.add_now(made).await })).await
    }

    async fn add_now(&self, made: MadeKey) -> Result<(KeyRecord, Option<ApiKey>), AccessError> {
        let MadeKey { stored, key } = made;
        let record = stored.record.clone();
        let mut ring = self.ring.lock().await;
        self.write(&stored, Written::First).await?;
        // Whoever follows the store may have seen it already.
        ring.take_over(stored);
        self.publish(&ring);
        Ok((record, key))
    }

    /// Every key, also expired and revoked ones, in the order in which they were made.
    pub async fn list(&self) -> Vec<KeyRecord> {
        self.ring.lock().await.keys.iter().map(|key| key.stored.record.clone()).collect()
    }

    /// Revokes a key; once revoked it stays so, with the time of the first revocation.
    ///
    /// Once begun it is carried out, like [`Self::add`].
    pub async fn revoke(self: &Arc<Self>, id: &str, now: Timestamp) -> Result<KeyRecord, AccessError> {
        let (keys, id) = (Arc::clone(self), id.to_owned());
        carried_out(tokio::spawn(async move { keys.revoke_now(&id, now).await })).await
    }

    async fn revoke_now(&self, id: &str, now: Timestamp) -> Result<KeyRecord, AccessError> {
        let mut ring = self.ring.lock().await;
        let place = ring.places.get(id).copied();
        let place = place.ok_or_else(|| AccessError::UnknownKey(id.to_owned()))?;
        let mut revoked = ring.keys[place].stored.clone();
        revoked.record.revoked_at.get_or_insert(now);
        self.write(&revoked, Written::Again).await?;
        let record = revoked.record.clone();
        ring.keys[place].stored = revoked;
        self.publish(&ring);
        Ok(record)
    }

    /// Waits until no other change is under way, which may be as long as the disk takes, and begins one of the tiers. Nothing
    /// has changed when it is given up.
    pub async fn begin_tiers(&self) -> TiersChange<'_> {
        TiersChange { keys: self, ring: self.ring.lock().await }
    }

    fn publish(&self, ring: &Ring) {
        let next = table(&self.pepper, self.kind, &ring.keys, self.development_key.as_ref());
        self.table.send_replace(Arc::new(next));
    }

    /// What is undecided is written once more: it is the same in the store whether it is there once or twice.
    async fn write(&self, key: &StoredKey, written: Written) -> Result<(), AccessError> {
        let value = serde_json::to_vec(key).expect("a key record is plain fields");
        let place = format!("{RECORDS}{}", key.record.id);
        let transaction = Transaction::new().put(place.clone(), value);
        let transaction = match written {
            // However late it comes, it takes no revocation back.
            Written::First => transaction.if_absent(place),
            Written::Again => transaction,
        };
        match self.store.commit(transaction.clone()).await {
            Err(StoreError::Undecided(_)) => {
                // A conflict: the first one is there.
                self.store.commit(transaction).await?;
                Ok(())
            }
            Ok(Outcome::Conflict { .. }) => Err(AccessError::Unfinished),
            Ok(Outcome::Committed { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

/// Whether there was a record of the key before.
#[derive(Clone, Copy)]
enum Written {
    First,
    Again,
}

/// A change of the tiers that nothing is in the way of any more.
pub struct TiersChange<'a> {
    keys: &'a ApiKeys,
    ring: MutexGuard<'a, Ring>,
}

impl TiersChange<'_> {
    /// Puts other tiers in force. A key whose tier allows the same as before keeps its bucket; in one that is changed, what
    /// was used of the burst stays used. A key whose tier is known no longer falls to `free`, and the operator is warned.
    ///
    /// `now_ns` is the time that [`Gcra::check`] is asked with. A request that is checked against the table before this
    /// one, in the moment of the change, may be missing in a changed bucket.
    pub fn set(mut self, tiers: Tiers, now_ns: u64) {
        for key in &mut self.ring.keys {
            key.change_tier(&tiers, now_ns);
        }
        self.ring.tiers = tiers;
        self.ring.warn_of_unknown_tiers();
        self.keys.publish(&self.ring);
    }
}

impl Ring {
    fn check_tier(&self, name: &str) -> Result<(), AccessError> {
        if self.tiers.contains(name) {
            return Ok(());
        }
        let known = self.tiers.names().join(", ");
        Err(AccessError::Invalid(format!("there is no tier {name:?}; there are {known}")))
    }

    fn warn_of_unknown_tiers(&mut self) {
        for (tier, keys) in self.newly_unknown_tiers() {
            tracing::warn!(tier, keys, "keys of a tier that is not defined are held to the tier free");
        }
    }

    /// The tiers that keys have, nothing defines, and nobody was warned of, each with the number of its keys.
    fn newly_unknown_tiers(&mut self) -> BTreeMap<String, usize> {
        let mut unknown = BTreeMap::new();
        for HeldKey { stored: StoredKey { record, .. }, .. } in &self.keys {
            if record.revoked_at.is_none() && !self.tiers.contains(&record.tier) {
                *unknown.entry(record.tier.clone()).or_default() += 1;
            }
        }
        let warned_of = std::mem::replace(&mut self.unknown_tiers, unknown.keys().cloned().collect());
        unknown.retain(|tier, _| !warned_of.contains(tier));
        unknown
    }
}

impl HeldKey {
    fn new(stored: StoredKey, tiers: &Tiers) -> Self {
        let KeyRecord { id, tenant, scopes, tier, .. } = &stored.record;
        let allowance = Arc::new(Allowance::new(&format!("key:{id}"), tier, tiers));
        let caller = Caller::new(id, tenant, scopes.clone()).allowed(allowance);
        Self { caller: Arc::new(caller), stored }
    }

    fn change_tier(&mut self, tiers: &Tiers, now_ns: u64) {
        let tier = &self.stored.record.tier;
        let Some(allowance) = self.caller.allowance() else { return };
        if !allowance.is_the_same_under(tier, tiers) {
            let changed = Arc::new(allowance.under(tier, tiers, now_ns));
            self.caller = Arc::new(Caller::clone(&self.caller).allowed(changed));
        }
    }
}

async fn carried_out<T>(change: JoinHandle<Result<T, AccessError>>) -> Result<T, AccessError> {
    change.await.unwrap_or_else(|_| Err(AccessError::Unfinished))
}

fn hash(pepper: &hmac::Key, key: &str) -> [u8; 32] {
    #[cfg(test)]
    tests::HASHED.set(tests::HASHED.get() + 1);
    hmac::sign(pepper, key.as_bytes()).as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
}

fn development_key(pepper: &hmac::Key) -> ApiKey {
    let bits = hmac::sign(pepper, b"serviceos/development-key/v1\0");
    let bits: Zeroizing<[u8; 32]> =
        Zeroizing::new(bits.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes"));
    ApiKey::from_bits(KeyKind::Test, &bits)
}

fn table(pepper: &hmac::Key, kind: KeyKind, keys: &[HeldKey], development_key: Option<&ApiKey>) -> KeyTable {
    let number = TABLES.fetch_add(1, Ordering::Relaxed);
    let (by_hash, signers) = (HashMap::with_capacity(keys.len() + 1), HashMap::new());
    let mut table = KeyTable { number, kind, pepper: pepper.clone(), by_hash, signers };
    for HeldKey { stored, caller } in keys.iter().filter(|key| key.stored.record.revoked_at.is_none()) {
        let entry = Entry { caller: Arc::clone(caller), expires_at: stored.record.expires_at, ends_at: None };
        if let Some(previous) = &stored.previous {
            table.admit(previous, Entry { ends_at: stored.record.previous_ends_at, ..entry.clone() });
        }
        table.admit(&stored.credential, entry);
    }
    if let Some(key) = development_key {
        let scopes = vec![ALL_SCOPES.to_owned()];
        let caller = Caller::new(DEVELOPMENT_KEY, types::headers::DEFAULT_TENANT, scopes);
        let entry = Entry { caller: Arc::new(caller), expires_at: None, ends_at: None };
        table.by_hash.insert(hash(pepper, key.expose()), entry);
    }
    table
}

impl KeyTable {
    fn admit(&mut self, credential: &Credential, entry: Entry) {
        match credential {
            Credential::Secret(hash) => {
                self.by_hash.insert(*hash, entry);
            }
            Credential::Public(key) => {
                let id = String::from_utf8_lossy(entry.caller.subject()).into_owned();
                self.signers.entry(id).or_default().push(Signer { key: Arc::clone(key), entry });
            }
        }
    }
}

#[cfg(test)]
mod tests;
