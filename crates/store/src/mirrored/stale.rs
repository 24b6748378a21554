//! The mirror in etcd's place, from a start without etcd until the first answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::file::{Head, MirrorFile};
use crate::backend::{Answer, Backend, Watching};
use crate::etcd::Etcd;
use crate::{Availability, KeyValue, Range, StoreError, Watched};

/// How often it is looked at whether etcd answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A mirror that stands for etcd.
pub(super) struct Stale {
    file: Arc<MirrorFile>,
    head: Head,
    /// Whether etcd has answered.
    arrived: watch::Sender<bool>,
    availability: watch::Sender<Availability>,
}

impl Stale {
    /// # Errors
    /// There is no mirror that can stand for etcd, which is away for that reason.
    pub(super) async fn open(file: Arc<MirrorFile>, reason: String) -> Result<Self, StoreError> {
        let mirror = Arc::clone(&file);
        let head = tokio::task::spawn_blocking(move || mirror.head()).await;
        let head = head.unwrap_or_else(|error| Err(error.to_string())).map_err(|unusable| {
            let path = file.path().display();
            StoreError::Unreachable(format!(
                "{reason}; its mirror {path}, which could stand for it, is no use: {unusable}"
            ))
        })?;
        let away = Availability::Away { reason, stale: Some(head.at) };
        Ok(Self { file, head, arrived: watch::Sender::new(false), availability: watch::Sender::new(away) })
    }

    /// Whether etcd has answered.
    pub(super) fn has_arrived(&self) -> bool {
        *self.arrived.borrow()
    }

    /// Up to which revision the mirror is whole.
    pub(super) fn revision(&self) -> u64 {
        self.head.revision
    }

    pub(super) fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.subscribe()
    }

    /// What is said to whoever wants to change something.
    pub(super) fn refusal(&self) -> StoreError {
        StoreError::Unreachable(match &*self.availability.borrow() {
            Availability::Away { reason, .. } => reason.clone(),
            Availability::Available => "it is just coming back".to_owned(),
        })
    }

    pub(super) async fn get_all(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<KeyValue>>, StoreError> {
        self.read(move |file| file.get_all(&keys)).await
    }

    pub(super) async fn page(
        &self,
        prefix: Vec<u8>,
        after: Vec<u8>,
        most: usize,
    ) -> Result<Range, StoreError> {
        self.read(move |file| file.page(&prefix, &after, most)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MirrorFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || work(&file)).await;
        read.map_err(|error| StoreError::Failed(error.to_string()))?
    }

    /// Waits until the etcd of the mirror answers. Another one is none, nor is one that was put back to an earlier state: what this
    /// process knows is not of it.
    pub(super) async fn wait_for(&self, etcd: &Etcd) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let reason = match etcd.look().await {
                Ok(seen) if seen.cluster != self.head.cluster => self.differs(&format!(
                    "is the cluster {:x}, and the mirror is of the cluster {:x}",
                    seen.cluster, self.head.cluster
                )),
                Ok(seen) if seen.revision < self.head.revision => self.differs(&format!(
                    "is at revision {}, and the mirror at the later revision {}",
                    seen.revision, self.head.revision
                )),
                Ok(_) => {
                    tracing::info!("etcd answers; nothing is read from its mirror any more");
                    self.arrived.send_replace(true);
                    return;
                }
                Err(StoreError::Unreachable(reason)) => reason,
                Err(other) => other.to_string(),
            };
            self.say(reason);
        }
    }

    fn differs(&self, how: &str) -> String {
        format!(
            "the etcd that answers {how}, with which this serviceos was started ({}); bring that state back, or start serviceos again to go \
             on with what etcd has now",
            self.file.path().display()
        )
    }

    fn say(&self, reason: String) {
        let now = Availability::Away { reason, stale: Some(self.head.at) };
        let is_new = self.availability.send_if_modified(|before| {
            let is_new = *before != now;
            before.clone_from(&now);
            is_new
        });
        if is_new && let Availability::Away { reason, .. } = now {
            tracing::warn!(reason, "etcd is away since the start; what is read comes from its mirror");
        }
    }

    /// Says what etcd's own says, for ever.
    pub(super) async fn pass_on(&self, mut of_etcd: watch::Receiver<Availability>) {
        loop {
            let now = of_etcd.borrow_and_update().clone();
            self.availability.send_replace(now);
            if of_etcd.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A watch that begins once etcd answers.
pub(super) struct StaleWatch {
    stale: Arc<Stale>,
    etcd: Arc<Etcd>,
    prefix: Vec<u8>,
    after: u64,
    watching: Option<Box<dyn Watching>>,
}

impl StaleWatch {
    pub(super) fn new(stale: Arc<Stale>, etcd: Arc<Etcd>, prefix: Vec<u8>, after: u64) -> Self {
        Self { stale, etcd, prefix, after, watching: None }
    }
}

impl Watching for StaleWatch {
    fn next(&mut self) -> Answer<'_, Watched> {
        Box::pin(async move {
            if let Some(watching) = &mut self.watching {
                return watching.next().await;
            }
            let mut arrivals = self.stale.arrived.subscribe();
            if arrivals.wait_for(|arrived| *arrived).await.is_ok() {
                self.watching = Some(self.etcd.watch(self.prefix.clone(), self.after));
            }
            Ok(Watched::Resumed)
        })
    }
}
