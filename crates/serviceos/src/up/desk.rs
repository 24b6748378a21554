//! What the admin API asks of the configuration: it is read from the revisions, and changed by whoever applies it.

use control::{
    ConfigAnswer, ConfigChange, ConfigChanged, ConfigDesk, ConfigRefused, ConfigRevision, SharedConfigDesk,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

use super::revisions::History;

/// Changes that wait for the one before them.
const QUEUED_CHANGES: usize = 16;

/// A change that somebody asks for.
pub(super) struct Order {
    pub(super) change: ConfigChange,
    /// Nobody may be left who waits for it.
    pub(super) answer: oneshot::Sender<Result<ConfigChanged, ConfigRefused>>,
}

struct Desk {
    history: History,
    orders: mpsc::Sender<Order>,
}

/// A desk, and where its orders arrive.
pub(super) fn open(history: History) -> (SharedConfigDesk, mpsc::Receiver<Order>) {
    let (orders, arriving) = mpsc::channel(QUEUED_CHANGES);
    (Arc::new(Desk { history, orders }), arriving)
}

/// What whoever waits for a change is told when the end comes in the middle of it.
pub(super) fn cut_off() -> ConfigRefused {
    ConfigRefused::NotApplied(
        "serviceos is stopping, and whether it was applied is not known; `serviceos config show` says so after the next start"
            .to_owned(),
    )
}

impl ConfigDesk for Desk {
    fn in_force(&self) -> ConfigRevision {
        self.history.in_force()
    }

    fn revision_in_force(&self) -> u64 {
        self.history.number_in_force()
    }

    fn list(&self) -> ConfigAnswer<'_, Vec<ConfigRevision>> {
        Box::pin(self.history.list())
    }

    fn revision(&self, number: u64) -> ConfigAnswer<'_, ConfigRevision> {
        Box::pin(self.history.revision(number))
    }

    fn change(&self, change: ConfigChange) -> ConfigAnswer<'_, ConfigChanged> {
        Box::pin(async move {
            let stopping = || {
                ConfigRefused::NotApplied("serviceos is stopping, and applies nothing any more".to_owned())
            };
            let (answer, answered) = oneshot::channel();
            self.orders.send(Order { change, answer }).await.map_err(|_| stopping())?;
            answered.await.map_err(|_| stopping())?
        })
    }
}
