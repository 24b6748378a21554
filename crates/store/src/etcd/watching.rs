//! A watch: a stream of its own to one member, begun again at another, after what came in last, whenever it ends.
//!
//! That a stream is silent says nothing about whether it lives: one to a member that is cut off, or stopped, is silent too. So
//! it is looked at from time to time, over another connection, whether there is something that it should have told. (etcd's own
//! notices of progress are of no use here: before 3.4.25 and 3.5.8 they may come before what they say was told.)

mod stream;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::stream::Stream;
use super::client::Client;
use super::keys::{key_value, stripped};
use super::messages::{Event, EventKind, WatchAnswer};
use super::refusal::Refusal;
use crate::backend::{Answer, Watching};
use crate::{Change, Changes, StoreError, Watched};

/// A stream that lived for this long was well.
const WELL_AFTER: Duration = Duration::from_secs(5);

/// A watch.
pub(super) struct EtcdWatch {
    client: Arc<Client>,
    prefix: Vec<u8>,
    /// The last revision that came in, or after which it began.
    after: u64,
    /// The last one that came in; 0 before.
    told: u64,
    /// What came in and was not handed out yet.
    ready: VecDeque<Changes>,
    source: Source,
    /// Streams in a row that were not to be had, or did not live for long.
    failures: u32,
    /// It was away, and that it is there again is still to be said.
    was_away: bool,
}

/// Where changes come from.
enum Source {
    /// From nowhere until then.
    None(Instant),
    /// From a stream, once it is there.
    Opening(Pin<Box<dyn Future<Output = Result<Stream, Ended>> + Send>>),
    Stream(Box<Stream>),
}

/// Why there is no stream, or no more of it.
enum Ended {
    /// Another one may be had.
    Broken(String),
    /// The watch is over.
    Over(StoreError),
}

impl EtcdWatch {
    pub(super) fn new(client: Arc<Client>, prefix: Vec<u8>, after: u64) -> Self {
        let (ready, source) = (VecDeque::new(), Source::None(Instant::now()));
        Self { client, prefix, after, told: 0, ready, source, failures: 0, was_away: false }
    }

    /// One step. Dropped at any point, it loses nothing: what it waits for is kept here.
    async fn step(&mut self) -> Result<Option<Watched>, Ended> {
        match &mut self.source {
            Source::None(until) => {
                sleep_until(*until).await;
                let opening = Stream::open(Arc::clone(&self.client), self.prefix.clone(), self.after);
                self.source = Source::Opening(Box::pin(opening));
            }
            Source::Opening(opening) => {
                self.source = Source::Stream(Box::new(opening.as_mut().await?));
                let was_away = std::mem::take(&mut self.was_away);
                return Ok(was_away.then_some(Watched::Resumed));
            }
            Source::Stream(stream) => {
                if let Some(message) = stream.message(self.after, self.told).await? {
                    self.take(message)?;
                }
            }
        }
        Ok(None)
    }

    /// Begins again, at once if it was well until now.
    fn broken(&mut self, reason: &str) {
        tracing::debug!(reason, "a watch on etcd is begun again");
        let before = std::mem::replace(&mut self.source, Source::None(Instant::now()));
        self.failures += 1;
        if let Source::Stream(stream) = before {
            self.client.bad(stream.member);
            if stream.opened.elapsed() > WELL_AFTER {
                self.failures = 0;
            }
        }
        if self.failures > 0 {
            // Each member is tried before it waits for longer.
            let round = self.failures / u32::try_from(self.client.count()).unwrap_or(1);
            self.source = Source::None(Instant::now() + self.client.pause(round));
        }
        self.was_away = true;
        self.client.presence().doubted();
    }

    /// Takes over what a message says.
    fn take(&mut self, message: WatchAnswer) -> Result<(), Ended> {
        if message.compact_revision.0 > 0 {
            let oldest = message.compact_revision.revision();
            return Err(Ended::Over(StoreError::Compacted { oldest }));
        }
        if message.canceled {
            let status = http::StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal::of(status, message.cancel_reason).into());
        }
        for event in message.events {
            self.take_event(event).map_err(Ended::Over)?;
        }
        if let Some(last) = self.ready.back() {
            (self.after, self.told) = (last.revision, last.revision);
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event) -> Result<(), StoreError> {
        let revision = event.kv.mod_revision.revision();
        let namespace = self.client.namespace();
        let change = match event.kind {
            EventKind::Put => Change::Put(key_value(namespace, event.kv)?),
            EventKind::Delete => Change::Deleted(stripped(namespace, event.kv.key.0)?),
        };
        match self.ready.back_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            last if revision > last.as_ref().map_or(self.after, |last| last.revision) => {
                self.ready.push_back(Changes { revision, changes: vec![change] });
            }
            _ => return Err(StoreError::Failed(format!("etcd told of revision {revision} in two parts"))),
        }
        Ok(())
    }
}

impl Watching for EtcdWatch {
    fn next(&mut self) -> Answer<'_, Watched> {
        Box::pin(async move {
            loop {
                if let Some(changes) = self.ready.pop_front() {
                    return Ok(Watched::Changes(changes));
                }
                match self.step().await {
                    Ok(None) => {}
                    Ok(Some(watched)) => return Ok(watched),
                    Err(Ended::Over(error)) => {
                        self.source = Source::None(Instant::now() + self.client.pause(0));
                        return Err(error);
                    }
                    Err(Ended::Broken(reason)) => self.broken(&reason),
                }
            }
        })
    }
}
