//! What a watcher is told, and how it is written as an event of a stream (the HTML standard, server-sent events).
//!
//! An event leads from what was told last to what is so now, and is made when the watcher can take it: for one that reads
//! slowly nothing is kept, and it is told less often.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service_registry::Snapshot;
use tokio::sync::watch;
use types::ServiceName;

use super::{InstanceChanges, Instances};
use crate::client::StreamEvent;

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum InstanceEvent {
    /// Everything, whatever was told before.
    Snapshot(Instances),
    /// What has changed since the event before.
    Changes(InstanceChanges),
}

/// One watcher's place in what happens.
pub(crate) struct Watch {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    service: Option<ServiceName>,
    run: u64,
    /// The epoch of what it knows.
    known: Option<u64>,
    /// The snapshot of that epoch, where it was looked at here.
    looked_at: Option<Arc<Snapshot>>,
}

impl Watch {
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        service: Option<ServiceName>,
        run: u64,
        known: Option<u64>,
    ) -> Self {
        Self { snapshots, service, run, known, looked_at: None }
    }

    /// The next event. Never returns once the registry is gone, so whoever awaits it knows when to end.
    pub(crate) async fn next(&mut self) -> InstanceEvent {
        loop {
            if let Some(event) = self.look() {
                return event;
            }
            if self.snapshots.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What there is to tell now.
    pub(super) fn look(&mut self) -> Option<InstanceEvent> {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let (service, known) = (self.service.as_ref(), self.known.replace(snapshot.epoch));
        let before = self.looked_at.replace(Arc::clone(&snapshot));
        let changes = known.and_then(|known| snapshot.changes_since(known, before.as_deref(), service));
        match changes {
            None => Some(InstanceEvent::Snapshot(Instances::of(&snapshot, service, self.run))),
            Some(changes) if changes.is_empty() => None,
            Some(changes) => Some(InstanceEvent::Changes(InstanceChanges::of(&snapshot, &changes, self.run))),
        }
    }
}

impl InstanceEvent {
    /// The bytes of the stream. JSON has no line ends, so the data is one line.
    pub(crate) fn encode(&self) -> Bytes {
        let (name, revision, data) = match self {
            Self::Snapshot(all) => ("snapshot", &all.revision, serde_json::to_string(all)),
            Self::Changes(changes) => ("changes", &changes.revision, serde_json::to_string(changes)),
        };
        let data = data.expect("documents of text and numbers are JSON");
        let mut text = String::with_capacity(data.len() + 64);
        let _to_a_string = write!(text, "event: {name}\nid: {revision}\ndata: {data}\n\n");
        text.into()
    }
}

impl StreamEvent for InstanceEvent {
    fn decode(name: &str, data: &str) -> Result<Self, String> {
        let event = match name {
            "snapshot" => serde_json::from_str(data).map(Self::Snapshot),
            "changes" => serde_json::from_str(data).map(Self::Changes),
            other => return Err(format!("an event {other:?}")),
        };
        event.map_err(|error| error.to_string())
    }
}
