//! Whoever writes the row of a service: when what it says is another, and again later where the store does not take it.

use std::future::pending;
use std::time::Duration;

use service_lifecycle::Rollouts;
use store::{Store, Transaction};
use tokio::sync::watch;
use tokio::time::sleep;
use types::ServiceName;

use super::row::Row;
use crate::up::background::told;
use crate::up::specs::Specs;

/// After how long what was not written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a row goes.
pub(super) struct Place {
    pub(super) store: Store,
    pub(super) key: String,
    pub(super) service: ServiceName,
}

impl Place {
    /// Keeps the row as things are, until it is told to end.
    pub(super) async fn keep(
        self,
        mut rollouts: watch::Receiver<Rollouts>,
        specs: Specs,
        mut written: Option<Row>,
        stopped: watch::Receiver<bool>,
    ) {
        let (mut changes, mut is_told) = (specs.changes(), false);
        let mut stopped = std::pin::pin!(told(stopped));
        loop {
            changes.borrow_and_update();
            let row = Row::of(&self.service, &rollouts.borrow_and_update(), &specs);
            let row = row.filter(|row| written.as_ref() != Some(row));
            let is_late = match row {
                Some(row) => match self.write(&row).await {
                    Ok(()) => {
                        if std::mem::take(&mut is_told) {
                            tracing::info!(service = %self.service, "how far the rollout is, is written down again");
                        }
                        written = Some(row);
                        false
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::warn!(
                                service = %self.service,
                                %error,
                                "what runs and how far a rollout is cannot be written down; it goes on, and is tried again"
                            );
                        }
                        true
                    }
                },
                None => false,
            };
            let again = async {
                match is_late {
                    true => sleep(AGAIN).await,
                    false => pending().await,
                }
            };
            tokio::select! {
                // What is another when it is told to end is written too.
                biased;
                // Its fleet has ended where nothing is told any more.
                Ok(()) = rollouts.changed() => {}
                Ok(()) = changes.changed() => {}
                () = &mut stopped => return,
                () = again => {}
            }
        }
    }

    async fn write(&self, row: &Row) -> Result<(), store::StoreError> {
        self.store.commit(Transaction::new().put(self.key.clone(), row.encode())).await.map(|_written| ())
    }
}
