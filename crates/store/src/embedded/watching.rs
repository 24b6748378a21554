//! A watch: it holds the next revision that it wants, waits until the store is there, and pulls from the history. Nobody queues
//! anything for it, so one that is slow costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Progress, Shared, history};
use crate::backend::{Answer, Watching};
use crate::{Availability, Changes, StoreError, Watched};

/// A watch of a store in a file.
pub(super) struct EmbeddedWatch {
    shared: Arc<Shared>,
    prefix: Vec<u8>,
    /// The first revision that is not pulled yet.
    next: u64,
    pulled: VecDeque<Changes>,
    progress: watch::Receiver<Progress>,
    availability: watch::Receiver<Availability>,
}

impl EmbeddedWatch {
    pub(super) fn new(shared: Arc<Shared>, prefix: Vec<u8>, after: u64) -> Self {
        let (progress, availability) = (shared.progress.subscribe(), shared.held.availability());
        Self {
            shared,
            prefix,
            next: after.saturating_add(1),
            pulled: VecDeque::new(),
            progress,
            availability,
        }
    }

    async fn pull(&mut self) -> Result<(), StoreError> {
        let next = self.next;
        let wanted = |progress: &Progress| progress.revision >= next || progress.over.is_some();
        let reached = self.progress.wait_for(wanted).await;
        let over = reached.map_or_else(|_| Some(super::writer::stopped()), |progress| progress.over.clone());
        if let Some(over) = over {
            return Err(over);
        }
        let prefix = self.prefix.clone();
        match self.shared.read(move |database| history::pull(database, &prefix, next)).await {
            Ok(pulled) => {
                (self.pulled, self.next) = (pulled.changes, pulled.next);
                Ok(())
            }
            Err(StoreError::Disk(_)) => {
                let _sender_is_ours = self.availability.wait_for(|now| *now == Availability::Available).await;
                Ok(())
            }
            Err(other) => Err(other),
        }
    }
}

impl Watching for EmbeddedWatch {
    fn next(&mut self) -> Answer<'_, Watched> {
        Box::pin(async move {
            self.shared.keep_time();
            loop {
                if let Some(changes) = self.pulled.pop_front() {
                    return Ok(Watched::Changes(changes));
                }
                self.pull().await?;
            }
        })
    }
}
