//! etcd, with a mirror of the whole namespace in a file of this machine: a start while etcd is away reads from it what was so last.
//!
//! ```text
//! opened, etcd answers ───────────────────────────▶ Live: everything goes to etcd, the mirror is only written
//! opened, etcd is away ──▶ Stale: reads come from   ▲
//!                          the mirror, changes are  │ the etcd of the mirror answers
//!                          refused, watches wait  ──┘
//! ```
//!
//! There is no way back to Stale: who has heard etcd once keeps what it has read, as without a mirror.

mod file;
mod following;
mod stale;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::file::MirrorFile;
use self::following::Follower;
use self::stale::{Stale, StaleWatch};
use crate::backend::{Answer, Backend, Watching};
use crate::etcd::{Etcd, EtcdSettings};
use crate::{Availability, KeyValue, LeaseId, Outcome, Range, Store, StoreError, Transaction};

/// How long etcd may take to answer, before a start goes on without it.
const START_LIMIT: Duration = Duration::from_secs(5);

/// etcd and its mirror.
struct Mirrored {
    etcd: Arc<Etcd>,
    /// A start that found etcd away.
    stale: Option<Arc<Stale>>,
    follower: Arc<Follower>,
    following: JoinHandle<()>,
}

impl Drop for Mirrored {
    fn drop(&mut self) {
        self.following.abort();
        self.follower.write_the_rest();
    }
}

impl Store {
    /// The store in etcd, of which `file` becomes a mirror. When etcd does not answer now, what is read comes from the mirror that
    /// an earlier start has left, until etcd answers ([`Availability::Away`] says of which time it is), and
    /// [`StoreError::Unreachable`] is said of everything else; watches wait, and go on after what was read.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when etcd does not answer and there is no mirror that could stand for it, and those of
    /// [`Store::etcd`].
    pub async fn etcd_mirrored(settings: EtcdSettings, file: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Mirrored::open(settings, file).await?))
    }
}

impl Mirrored {
    async fn open(settings: EtcdSettings, path: &Path) -> Result<Self, StoreError> {
        let runtime = Handle::try_current().map_err(|error| StoreError::Failed(error.to_string()))?;
        let file = Arc::new(MirrorFile::new(path.to_owned(), settings.namespace.clone()));
        let etcd = Arc::new(Etcd::new(settings)?);
        let away = match timeout(START_LIMIT, etcd.look()).await {
            Err(_) => Some(format!("no answer within {START_LIMIT:?}")),
            Ok(Err(StoreError::Unreachable(reason))) => Some(reason),
            // Whoever asks first is told what else is wrong.
            Ok(_) => None,
        };
        let stale = match away {
            Some(reason) => Some(Arc::new(Stale::open(Arc::clone(&file), reason).await?)),
            None => None,
        };
        let follower = Arc::new(Follower::new(Arc::clone(&etcd), file));
        let following = runtime.spawn(run(Arc::clone(&etcd), stale.clone(), Arc::clone(&follower)));
        Ok(Self { etcd, stale, follower, following })
    }

    /// The mirror, while it stands for etcd.
    fn standing_in(&self) -> Option<&Stale> {
        self.stale.as_deref().filter(|stale| !stale.has_arrived())
    }

    /// Carries a change out, unless etcd has not answered yet.
    fn change<'a, T: 'a>(&'a self, change: impl FnOnce(&'a Etcd) -> Answer<'a, T>) -> Answer<'a, T> {
        match self.standing_in() {
            Some(stale) => {
                let refused = stale.refusal();
                Box::pin(async move { Err(refused) })
            }
            None => change(&self.etcd),
        }
    }
}

/// Waits for etcd where it was away, and follows it for ever.
async fn run(etcd: Arc<Etcd>, stale: Option<Arc<Stale>>, follower: Arc<Follower>) {
    let Some(stale) = stale else { return follower.follow().await };
    stale.wait_for(&etcd).await;
    tokio::join!(stale.pass_on(etcd.availability()), follower.follow());
}

impl Backend for Mirrored {
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<KeyValue>> {
        match self.standing_in() {
            Some(stale) => Box::pin(async move { Ok(stale.get_all(vec![key]).await?.pop().flatten()) }),
            None => self.etcd.get(key),
        }
    }

    fn get_all(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<KeyValue>>> {
        match self.standing_in() {
            Some(stale) => Box::pin(stale.get_all(keys)),
            None => self.etcd.get_all(keys),
        }
    }

    fn range(&self, prefix: Vec<u8>) -> Answer<'_, Range> {
        self.page(prefix, Vec::new(), usize::MAX)
    }

    fn page(&self, prefix: Vec<u8>, after: Vec<u8>, most: usize) -> Answer<'_, Range> {
        match self.standing_in() {
            Some(stale) => Box::pin(stale.page(prefix, after, most)),
            None => self.etcd.page(prefix, after, most),
        }
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.change(|etcd| Backend::commit(etcd, transaction))
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.change(|etcd| etcd.grant(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.change(|etcd| etcd.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.change(|etcd| etcd.revoke(lease))
    }

    fn watch(&self, prefix: Vec<u8>, after: u64) -> Box<dyn Watching> {
        // One that goes on after what the mirror held says that it was away in between.
        match self.stale.as_ref().filter(|stale| !stale.has_arrived() || after <= stale.revision()) {
            Some(stale) => {
                Box::new(StaleWatch::new(Arc::clone(stale), Arc::clone(&self.etcd), prefix, after))
            }
            None => self.etcd.watch(prefix, after),
        }
    }

    fn availability(&self) -> watch::Receiver<Availability> {
        match &self.stale {
            Some(stale) => stale.availability(),
            None => self.etcd.availability(),
        }
    }
}

#[cfg(test)]
mod tests;
