//! What has happened to replicas and services, and what happens: who wanted it, and why.
//!
//! A reader is told what came since it was told last, when its connection has room for it. Nothing is queued for it: what was let
//! go meanwhile it has missed, and is told how many events that are.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service_registry::{Event, Events, Subject, What};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use types::ServiceName;

use crate::client::StreamEvent;

/// Streams of events at once, on the port and on the socket together.
const MAX_FOLLOWERS: usize = 64;
/// What a reader is told at once.
const TOLD_AT_ONCE: usize = 256;

/// An event, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventEntry {
    /// Its place among the events of this run of `up`; a text to be brought back.
    pub id: String,
    /// When it happened.
    pub time: Timestamp,
    /// To which service; none where it is the process.
    pub service: Option<String>,
    /// To which replica of it; none where it is the whole service.
    pub replica: Option<String>,
    /// What: `state`, `crashLoop`, `scaled`, `rollout` or `takeover`.
    pub kind: String,
    /// What was before: a state, a number of replicas, or that of a process.
    pub from: Option<String>,
    /// What is since: a state, a number of replicas or that of a process, or how far a rollout has come.
    pub to: Option<String>,
    /// Why, where that is not plain.
    pub cause: Option<String>,
    /// Who wanted it: `supervisor`, `operator`, `configuration`, `rollout`, `replica` or `authority`.
    pub actor: String,
}

/// The document of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntries {
    /// The oldest first.
    pub events: Vec<EventEntry>,
}

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToldEvent {
    /// Something happened.
    Happened(Box<EventEntry>),
    /// So many events, of those that it has asked for, were let go before this reader has taken them.
    Missed(u64),
}

#[derive(Serialize, Deserialize)]
struct Missed {
    missed: u64,
}

/// The events of one run of `up`. Clones share them.
#[derive(Clone)]
pub struct EventLog {
    events: Events,
    run: u64,
    places: Arc<Semaphore>,
}

/// One reader's place among the events.
pub(crate) struct FollowEvents {
    log: EventLog,
    last: watch::Receiver<u64>,
    service: Option<ServiceName>,
    /// The number of the last one that it knows.
    known: u64,
    /// How many of its service it was told or has missed, where it asks for one and that is known.
    of_service: Option<u64>,
}

impl EventLog {
    /// The events of a run that began at this moment, which tells it from every other run.
    pub fn new(events: Events, began: Timestamp) -> Self {
        let run = u64::try_from(began.as_millisecond()).unwrap_or_default();
        Self { events, run, places: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }

    /// What came after an event, of one service or of all; everything that is kept where that is no event of this run.
    pub(crate) fn after(&self, id: &str, service: Option<&ServiceName>) -> EventEntries {
        let after = self.events.after(self.number(id));
        let wanted =
            |event: &&Arc<Event>| service.is_none_or(|service| event.subject.service() == Some(service));
        EventEntries { events: after.iter().filter(wanted).map(|event| self.entry(event)).collect() }
    }

    /// The same, and what comes.
    pub(crate) fn follow(&self, id: &str, service: Option<ServiceName>) -> FollowEvents {
        let (last, known) = (self.events.last(), self.number(id));
        FollowEvents { log: self.clone(), last, service, known, of_service: None }
    }

    /// A place for a stream, held while it lasts; `None` when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Whether something of this service was ever written down.
    pub(crate) fn knows(&self, service: &ServiceName) -> bool {
        self.events.after(0).iter().any(|event| event.subject.service() == Some(service))
    }

    fn number(&self, id: &str) -> u64 {
        let number = id.split_once('-').filter(|(run, _)| u64::from_str_radix(run, 16) == Ok(self.run));
        number.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
    }

    fn entry(&self, event: &Event) -> EventEntry {
        let (kind, from, to) = match &event.what {
            What::State { from, to } => ("state", Some(from.to_string()), Some(to.to_string())),
            What::CrashLoop => ("crashLoop", None, None),
            What::Scaled { from, to } => ("scaled", Some(from.to_string()), Some(to.to_string())),
            What::Rollout(stage) => ("rollout", None, Some(stage.clone())),
            What::Takeover { from, to } => ("takeover", Some(from.to_string()), Some(to.to_string())),
        };
        EventEntry {
            id: format!("{:x}-{}", self.run, event.number),
            time: event.time,
            service: event.subject.service().map(ToString::to_string),
            replica: match &event.subject {
                Subject::Replica(id) => Some(id.to_string()),
                Subject::Service(_) | Subject::Process => None,
            },
            kind: kind.to_owned(),
            from,
            to,
            cause: event.cause.clone(),
            actor: event.actor.to_string(),
        }
    }
}

impl FollowEvents {
    /// What comes next, as events of a stream (the HTML standard, server-sent events). Never returns where nothing comes.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            self.last.mark_unchanged();
            let told = self.look();
            if !told.is_empty() {
                return told.into();
            }
            if self.last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn look(&mut self) -> String {
        let mut told = String::new();
        let events = self.log.events.after(self.known);
        let Some(first) = events.first() else { return told };
        // Whoever has just come, and knows nothing, misses nothing.
        let mut missed = if self.known > 0 { first.number - self.known - 1 } else { 0 };
        let mut written = 0;
        for event in &events {
            self.known = event.number;
            if self.service.as_ref().is_some_and(|service| event.subject.service() != Some(service)) {
                continue;
            }
            if self.service.is_some() {
                missed = self.missed_of_service(missed, event.of_service);
            }
            if missed > 0 {
                write_event(&mut told, "missed", None, &Missed { missed: std::mem::take(&mut missed) });
            }
            let entry = self.log.entry(event);
            write_event(&mut told, "happened", Some(&entry.id), &entry);
            written += 1;
            if written == TOLD_AT_ONCE {
                break;
            }
        }
        told
    }

    /// How many of its service it has missed before this one of them. One that came back to a place which was let go cannot know that;
    /// it is told the most that it may be.
    fn missed_of_service(&mut self, of_all: u64, of_service: u64) -> u64 {
        let before = of_service - 1;
        let known = self.of_service.replace(of_service);
        before - known.unwrap_or_else(|| before.saturating_sub(of_all)).min(before)
    }
}

/// JSON has no line ends, so the data is one line.
fn write_event(to: &mut String, name: &str, id: Option<&str>, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("documents of text and numbers are JSON");
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let _to_a_string = write!(to, "event: {name}\n{id}data: {data}\n\n");
}

impl StreamEvent for ToldEvent {
    fn decode(name: &str, data: &str) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| error.to_string();
        match name {
            "happened" => serde_json::from_str(data).map(Self::Happened).map_err(wrong),
            "missed" => {
                serde_json::from_str(data).map(|Missed { missed }| Self::Missed(missed)).map_err(wrong)
            }
            other => Err(format!("an event {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests;
