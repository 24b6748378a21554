//! The last lines that the replicas of each service have written, and what becomes of them.
//!
//! One thread writes here, and never waits. A reader is told what has come since it asked last when its connection has room for
//! it: nothing is queued for it, and what was let go meanwhile it has missed, and is told how many lines that are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use types::{ReplicaId, ServiceName};

use crate::client::StreamEvent;

/// Lines of a service that are kept.
const MAX_LINES: usize = 1000;
/// The same in bytes of their JSON.
const MAX_BYTES: usize = 1 << 20;
/// Streams of lines at once, on the port and on the socket together.
const MAX_FOLLOWERS: usize = 64;
/// What a reader is told at once, in bytes of JSON, give or take a line.
const TOLD_AT_ONCE: usize = 64 << 10;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// For who looks for a fault in a program.
    Trace,
    /// The same, less of it.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warn,
    /// What must not.
    Error,
}

/// A line that a replica has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When: what the line says of it itself, else when it was read.
    pub timestamp: Timestamp,
    /// What the line says of it itself, else `INFO`.
    pub level: LogLevel,
    /// Of which service.
    pub service: ServiceName,
    /// Which replica of it.
    pub replica: ReplicaId,
    /// Of which version.
    pub version: String,
    /// What it says.
    pub message: String,
    /// What else a line of JSON says.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// The document of `GET /v1/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// In the order in which they were read.
    pub lines: Vec<LogLine>,
}

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line.
    Line(Box<LogLine>),
    /// So many lines were let go before this reader has taken them.
    Missed(u64),
}

#[derive(Serialize, Deserialize)]
struct Missed {
    missed: u64,
}

/// Whose lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhoseLines {
    All,
    OfService(ServiceName),
    OfReplica(ReplicaId),
}

/// The lines of all services. Clones share them.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    /// Says that there is more than there was.
    news: watch::Sender<()>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    /// The number of the next line.
    next: u64,
    services: BTreeMap<ServiceName, OfService>,
}

#[derive(Default)]
struct OfService {
    lines: VecDeque<KeptLine>,
    bytes: usize,
    /// How many lines each replica has written.
    written: BTreeMap<ReplicaId, u64>,
    dropped_bytes: u64,
}

struct KeptLine {
    number: u64,
    /// Which one of its replica it is, from 1.
    of_replica: u64,
    replica: ReplicaId,
    read: Timestamp,
    json: Bytes,
}

/// One reader's place among the lines.
pub(crate) struct Follow {
    logs: Logs,
    news: watch::Receiver<()>,
    whose: WhoseLines,
    /// Older ones are not told at first.
    since: Option<Timestamp>,
    next: u64,
    /// How many lines of each replica are told or missed, as far as that is counted.
    told: BTreeMap<ReplicaId, u64>,
    has_looked: bool,
}

impl Default for Logs {
    fn default() -> Self {
        let (kept, places) = (Mutex::default(), Arc::new(Semaphore::new(MAX_FOLLOWERS)));
        Self(Arc::new(Shared { kept, news: watch::Sender::new(()), places }))
    }
}

impl Logs {
    /// Keeps lines, and lets the oldest of their service go where there are too many.
    pub fn push(&self, lines: &[LogLine]) {
        if lines.is_empty() {
            return;
        }
        let read = Timestamp::now();
        let mut kept = self.kept();
        for line in lines {
            let json = serde_json::to_vec(line).expect("lines of text and JSON are JSON");
            kept.push(line, read, json.into());
        }
        drop(kept);
        self.0.news.send_replace(());
    }

    /// Counts output that was not passed on.
    pub fn dropped(&self, service: &ServiceName, bytes: u64) {
        if bytes > 0 {
            self.kept().services.entry(service.clone()).or_default().dropped_bytes += bytes;
        }
    }

    /// How many bytes of a service's output were not passed on.
    pub fn dropped_of(&self, service: &ServiceName) -> u64 {
        self.kept().services.get(service).map_or(0, |service| service.dropped_bytes)
    }

    /// The lines of a service that are kept.
    pub fn last_lines(&self, service: &ServiceName) -> Vec<LogLine> {
        let kept = self.kept();
        let lines = kept.services.get(service).into_iter().flat_map(|service| &service.lines);
        lines.filter_map(|line| serde_json::from_slice(&line.json).ok()).collect()
    }

    /// How many bytes of each service's output were not passed on.
    pub(crate) fn dropped_bytes(&self) -> BTreeMap<ServiceName, u64> {
        let kept = self.kept();
        kept.services.iter().map(|(name, service)| (name.clone(), service.dropped_bytes)).collect()
    }

    /// Whether the replica has ever written a line here.
    pub(crate) fn knows(&self, replica: &ReplicaId) -> bool {
        self.kept().services.get(&replica.service).is_some_and(|of| of.written.contains_key(replica))
    }

    /// A reader that is told of lines read since a moment, or of all that are kept.
    pub(crate) fn follow(&self, whose: WhoseLines, since: Option<Timestamp>) -> Follow {
        let news = self.0.news.subscribe();
        Follow { logs: self.clone(), news, whose, since, next: 0, told: BTreeMap::new(), has_looked: false }
    }

    /// A place for a stream, held while it lasts; `None` when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.places).try_acquire_owned().ok()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, line: &LogLine, read: Timestamp, json: Bytes) {
        let service = self.services.entry(line.service.clone()).or_default();
        let written = service.written.entry(line.replica.clone()).or_default();
        *written += 1;
        service.bytes += json.len();
        let (number, of_replica, replica) = (self.next, *written, line.replica.clone());
        service.lines.push_back(KeptLine { number, of_replica, replica, read, json });
        self.next += 1;
        while service.lines.len() > MAX_LINES || service.bytes > MAX_BYTES {
            let Some(oldest) = service.lines.pop_front() else { break };
            service.bytes -= oldest.json.len();
        }
    }

    fn of(&self, whose: &WhoseLines) -> impl Iterator<Item = &OfService> {
        let name = match whose {
            WhoseLines::All => None,
            WhoseLines::OfService(service) => Some(service),
            WhoseLines::OfReplica(replica) => Some(&replica.service),
        };
        self.services.iter().filter(move |(of, _)| name.is_none_or(|name| name == *of)).map(|(_, of)| of)
    }
}

impl OfService {
    /// From this number on.
    fn from(&self, number: u64) -> impl Iterator<Item = &KeptLine> {
        self.lines.range(self.lines.partition_point(|line| line.number < number)..)
    }
}

impl WhoseLines {
    fn are(&self, replica: &ReplicaId) -> bool {
        match self {
            Self::All | Self::OfService(_) => true,
            Self::OfReplica(wanted) => wanted == replica,
        }
    }
}

impl Follow {
    /// What comes next, as events of a stream (the HTML standard, server-sent events). Never returns where nothing comes.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            self.news.mark_unchanged();
            let (missed, lines) = self.look(TOLD_AT_ONCE);
            if missed > 0 || !lines.is_empty() {
                return encode(missed, &lines);
            }
            if self.news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// All that there is now, as the document [`LogLines`].
    pub(crate) fn all(mut self) -> Bytes {
        let mut document = b"{\"lines\":[".to_vec();
        for (index, line) in self.look(usize::MAX).1.iter().enumerate() {
            document.extend_from_slice(if index > 0 { b"," } else { b"" });
            document.extend_from_slice(line);
        }
        document.extend_from_slice(b"]}");
        document.into()
    }

    /// How many lines were let go since the last look, and those that have come, up to about so many bytes of them.
    fn look(&mut self, bytes: usize) -> (u64, Vec<Bytes>) {
        let logs = self.logs.clone();
        let kept = logs.kept();
        let mut missed = 0;
        if !self.has_looked {
            self.has_looked = true;
            self.begin(&kept);
        }
        let mut lines: Vec<_> = kept.of(&self.whose).flat_map(|service| service.from(self.next)).collect();
        lines.sort_unstable_by_key(|line| line.number);
        let (mut told, mut size) = (Vec::new(), 0);
        self.next = kept.next;
        for line in lines {
            if size >= bytes {
                self.next = line.number;
                break;
            }
            if !self.whose.are(&line.replica) {
                continue;
            }
            let before = self.told.entry(line.replica.clone()).or_default();
            missed += line.of_replica - 1 - *before;
            *before = line.of_replica;
            size += line.json.len();
            told.push(line.json.clone());
        }
        (missed, told)
    }

    /// What was let go before anybody asked has not been missed, and neither has what is too old.
    fn begin(&mut self, kept: &Kept) {
        for service in kept.of(&self.whose) {
            self.told.extend(service.written.iter().map(|(replica, written)| (replica.clone(), *written)));
        }
        let since = self.since.unwrap_or(Timestamp::MIN);
        let first = |service: &OfService| {
            service.lines.iter().find(|line| line.read >= since).map(|line| line.number)
        };
        self.next = kept.of(&self.whose).filter_map(first).min().unwrap_or(kept.next);
        for line in kept.of(&self.whose).flat_map(|service| service.from(self.next)) {
            let told = self.told.entry(line.replica.clone()).or_default();
            *told = (*told).min(line.of_replica - 1);
        }
    }
}

impl StreamEvent for LogEvent {
    fn decode(name: &str, data: &str) -> Result<Self, String> {
        let event = match name {
            "line" => serde_json::from_str(data).map(|line| Self::Line(Box::new(line))),
            "missed" => serde_json::from_str(data).map(|Missed { missed }| Self::Missed(missed)),
            other => return Err(format!("an event {other:?}")),
        };
        event.map_err(|error| error.to_string())
    }
}

fn encode(missed: u64, lines: &[Bytes]) -> Bytes {
    let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 32).sum());
    if missed > 0 {
        let data = serde_json::to_string(&Missed { missed }).expect("a number is JSON");
        text.extend_from_slice(format!("event: missed\ndata: {data}\n\n").as_bytes());
    }
    for line in lines {
        // JSON has no line ends, so the data is one line.
        text.extend_from_slice(b"event: line\ndata: ");
        text.extend_from_slice(line);
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}

#[cfg(test)]
mod tests;
