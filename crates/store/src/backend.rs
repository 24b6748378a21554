//! One store, whichever it is: what both implementations promise.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::embedded::Embedded;
use crate::transaction::within_limits;
use crate::{KeyValue, LEASE_TTL, LeaseId, MAX_OPERATIONS, Outcome, Range, StoreError, Transaction, Watch};

/// What the store answers, some time.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An open store. Clones share it.
///
/// Reads and transactions are linearizable: what is read holds everything that was acknowledged before it was asked for.
#[derive(Clone)]
pub struct Store(Arc<dyn Backend>);

/// Whether the store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Available,
    /// It does not.
    Away {
        /// Why, as it was said last.
        reason: String,
        /// It was away when it was opened, and has not answered since: what is read comes from the mirror, and of this time.
        stale: Option<SystemTime>,
    },
}

/// An implementation. `crates/store/tests/it` holds both to the same promises.
pub(crate) trait Backend: Send + Sync {
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<KeyValue>>;
    fn get_all(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<KeyValue>>>;
    fn range(&self, prefix: Vec<u8>) -> Answer<'_, Range>;
    /// Keys behind `after`, at most so many.
    fn page(&self, prefix: Vec<u8>, after: Vec<u8>, most: usize) -> Answer<'_, Range>;
    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome>;
    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId>;
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()>;
    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()>;
    fn watch(&self, prefix: Vec<u8>, after: u64) -> Box<dyn Watching>;
    fn availability(&self) -> watch::Receiver<Availability>;
    /// Lets go of what no other process can have meanwhile. Blocks.
    fn let_go(&self) {}
}

/// The pull side of a watch; `next` is cancel safe.
pub(crate) trait Watching: Send {
    fn next(&mut self) -> Answer<'_, crate::Watched>;
}

impl Store {
    pub(crate) fn of(backend: impl Backend + 'static) -> Self {
        Self(Arc::new(backend))
    }

    /// Opens the store in a file, or makes it. Blocks; an interrupted earlier run is repaired here.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Disk`] or [`StoreError::Unconfirmed`] when its disk
    /// fails, [`StoreError::Open`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Embedded::open(path)?))
    }

    /// The value of a key.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, StoreError> {
        self.0.get(key.into()).await
    }

    /// The values of at most [`MAX_OPERATIONS`] keys, in their order and as they were at one moment.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more keys, or where etcd answers with more than 8 MiB; else those of a store that is away.
    pub async fn get_all(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<KeyValue>>, StoreError> {
        if keys.len() > MAX_OPERATIONS {
            return Err(StoreError::TooLarge("128 keys"));
        }
        self.0.get_all(keys).await
    }

    /// Every key that begins with `prefix`, in order, all of one revision.
    pub async fn range(&self, prefix: impl Into<Vec<u8>>) -> Result<Range, StoreError> {
        self.0.range(prefix.into()).await
    }

    /// The first keys that begin with `prefix` and come behind `after`, at most so many; an empty `after` is before all of them.
    /// Pages that are read one after the other are of different revisions.
    pub async fn page(
        &self,
        prefix: impl Into<Vec<u8>>,
        after: impl Into<Vec<u8>>,
        most: usize,
    ) -> Result<Range, StoreError> {
        self.0.page(prefix.into(), after.into(), most).await
    }

    /// Carries a transaction out, durably, or changes nothing; only after [`StoreError::Unconfirmed`] and
    /// [`StoreError::Undecided`] this is not known.
    pub async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        within_limits(&transaction)?;
        self.0.commit(transaction).await
    }

    /// A lease that ends unless it is renewed within `ttl`, which is brought within [`LEASE_TTL`] and rounded up to whole seconds.
    /// After a start of the store, or a change of its leader, every lease has its whole `ttl` again.
    pub async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let ttl = ttl.clamp(*LEASE_TTL.start(), *LEASE_TTL.end());
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        self.0.grant(Duration::from_secs(seconds)).await
    }

    /// Renews a lease. It costs no write.
    ///
    /// # Errors
    /// [`StoreError::LeaseEnded`] when it is too late, and those of a store that is away.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.keep_alive(lease).await
    }

    /// Ends a lease, and removes what was written under it, in one revision. One that has ended already is no error.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.revoke(lease).await
    }

    /// The changes under a prefix after a revision: that of a [`Range`] which was read, so that nothing falls in between.
    pub fn watch(&self, prefix: impl Into<Vec<u8>>, after: u64) -> Watch {
        Watch::new(self.0.watch(prefix.into(), after))
    }

    /// Lets go of its file, so that another process can open it, once nobody reads or writes any more: whoever asks for something
    /// after that is refused. That it is away is not said, since it is not to those who go on elsewhere. Blocks.
    pub fn let_go(&self) {
        self.0.let_go();
    }

    /// Whether it answers, as it changes.
    pub fn availability(&self) -> watch::Receiver<Availability> {
        self.0.availability()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}
