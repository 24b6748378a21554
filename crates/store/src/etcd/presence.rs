//! Whether etcd answers, as requests find it, and as a light request of its own finds it when nobody asks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::client::Client;
use crate::Availability;

/// How long nobody need ask before it is found that etcd is away.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long after it came back it is found at the latest, beside what the look itself takes.
const LOOK_INTERVAL_AWAY: Duration = Duration::from_millis(500);

/// What is known of etcd.
pub(super) struct Presence {
    known: watch::Sender<Availability>,
    doubted: Notify,
}

impl Presence {
    pub(super) fn new() -> Self {
        Self { known: watch::Sender::new(Availability::Available), doubted: Notify::new() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Availability> {
        self.known.subscribe()
    }

    pub(super) fn is_away(&self) -> bool {
        *self.known.borrow() != Availability::Available
    }

    /// A majority has answered.
    pub(super) fn answered(&self) {
        self.known.send_if_modified(|known| {
            let is_back = *known != Availability::Available;
            *known = Availability::Available;
            is_back
        });
    }

    /// Nobody has.
    pub(super) fn silent(&self, reason: &str) {
        self.known.send_if_modified(|known| {
            let is_new = *known == Availability::Available;
            *known = Availability::Away { reason: reason.to_owned(), stale: None };
            is_new
        });
    }

    /// It may be away: that is looked at at once.
    pub(super) fn doubted(&self) {
        self.doubted.notify_one();
    }
}

/// Looks from time to time, for as long as there is a client.
pub(super) async fn look(client: Weak<Client>) {
    loop {
        {
            let Some(client) = client.upgrade() else { return };
            // What it says is noted where every answer is.
            let _answered = client.look().await;
        }
        let Some(presence) = client.upgrade().map(|client| Arc::clone(client.presence())) else { return };
        let interval = if presence.is_away() { LOOK_INTERVAL_AWAY } else { LOOK_INTERVAL };
        tokio::select! {
            () = sleep(interval) => {}
            () = presence.doubted.notified() => {}
        }
    }
}
