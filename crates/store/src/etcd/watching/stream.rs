//! The stream of one watch: messages out of the body of an answer that does not end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Ended;
use crate::StoreError;
use crate::etcd::client::{Client, NoAnswer, TRY_LIMIT, body_of};
use crate::etcd::connection::{Connection, Unanswered, described, request};
use crate::etcd::keys::range_of;
use crate::etcd::messages::{
    RangeAnswer, Streamed, WatchAnswer, WatchCreation, WatchRequest, Whole, error_text,
};
use crate::etcd::reading::written_after;
use crate::etcd::refusal::Refusal;

/// After this long without a word it is looked at whether the stream lives.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// The largest message: after a long absence etcd puts up to 1,000 revisions into one. Whoever watches reads everything again rather
/// than have more than this in memory.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// An open stream.
pub(super) struct Stream {
    client: Arc<Client>,
    prefix: Vec<u8>,
    /// The member's place.
    pub(super) member: usize,
    pub(super) opened: Instant,
    body: Incoming,
    buffered: BytesMut,
    /// How much of it was searched for the end of a message.
    searched: usize,
    heard: Instant,
    look: Option<Look>,
    /// A write that the stream had not told of when it was looked at last.
    untold: Option<u64>,
    _connection: Connection,
}

type Look = Pin<Box<dyn Future<Output = Result<Looked, Ended>> + Send>>;

/// What the member knows beside the stream.
struct Looked {
    /// The revision of the whole store.
    revision: u64,
    /// That of some write under the prefix which should have been told, or is about to be.
    untold: Option<u64>,
}

/// Why a member gave no stream.
enum Unopened {
    Token,
    Ended(Ended),
}

impl From<Ended> for Unopened {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl Stream {
    /// Asks the member that answered last for one; where it gives none, another one is the next to be asked.
    pub(super) async fn open(client: Arc<Client>, prefix: Vec<u8>, after: u64) -> Result<Self, Ended> {
        let deadline = Instant::now() + TRY_LIMIT;
        let mut token = client.token(0, deadline).await?;
        let (member, _) = client.good();
        let mut opened = Self::open_at(&client, member, &prefix, after, token.header).await;
        if matches!(opened, Err(Unopened::Token)) {
            token = client.token(token.number, deadline).await?;
            opened = Self::open_at(&client, member, &prefix, after, token.header).await;
        }
        opened.map_err(|unopened| match unopened {
            Unopened::Token => Ended::Over(Refusal::Token.into_error()),
            Unopened::Ended(ended) => {
                client.bad(member);
                ended
            }
        })
    }

    async fn open_at(
        client: &Arc<Client>,
        member: usize,
        prefix: &[u8],
        after: u64,
        token: Option<http::HeaderValue>,
    ) -> Result<Self, Unopened> {
        let (key, range_end) = range_of(client.namespace(), prefix);
        let start_revision = Whole::of_revision(after + 1);
        let create_request = WatchCreation { key, range_end, start_revision, fragment: false };
        let place = client.member(member);
        let mut connection = place.connect().await.map_err(Ended::from)?;
        let body = body_of(&WatchRequest { create_request });
        let request = request(&place.at, "/v3/watch", token, body);
        let now = Instant::now();
        let late = |_| Ended::Broken(format!("{}: no watch within {TRY_LIMIT:?}", place.at));
        let answer = timeout_at(now + TRY_LIMIT, connection.send(request)).await.map_err(late)?;
        let (head, body) = answer.map_err(Ended::from)?.into_parts();
        let mut stream = Self {
            client: Arc::clone(client),
            prefix: prefix.to_vec(),
            member,
            opened: now,
            body,
            buffered: BytesMut::new(),
            searched: 0,
            heard: now,
            look: None,
            untold: None,
            _connection: connection,
        };
        let first = timeout_at(now + TRY_LIMIT, stream.first(head.status, after)).await.map_err(late)?;
        match first {
            Ok(()) => Ok(stream),
            Err(Refusal::Token) if client.has_login() => Err(Unopened::Token),
            Err(refusal) => Err(Unopened::Ended(refusal.into())),
        }
    }

    /// The first message says that the watch is there, or why not.
    async fn first(&mut self, status: http::StatusCode, after: u64) -> Result<(), Refusal> {
        let broken = |ended| match ended {
            Ended::Broken(reason) => Refusal::Undecided(reason),
            Ended::Over(error) => Refusal::Failed(error.to_string()),
        };
        let line = loop {
            if let Some(line) = self.line(after).map_err(broken)? {
                break line;
            }
            match self.read().await {
                Ok(()) => {}
                // An error has no line end, but an end.
                Err(_) if !status.is_success() => break self.buffered.split(),
                Err(ended) => return Err(broken(ended)),
            }
        };
        if !status.is_success() {
            let error = serde_json::from_slice(&line).unwrap_or_default();
            return Err(Refusal::of(status, error_text(&error)));
        }
        let message = parsed(&line)?;
        if message.canceled && message.compact_revision.0 == 0 {
            return Err(Refusal::of(http::StatusCode::SERVICE_UNAVAILABLE, message.cancel_reason));
        }
        if !message.created {
            return Err(Refusal::Failed("etcd began a watch without saying so".to_owned()));
        }
        Ok(())
    }

    /// The next message; `None` after a step that brought none yet. Dropped at any point, it loses nothing.
    /// `after` is the last revision that came in, or after which the watch began; `told` the last one that etcd told of.
    pub(super) async fn message(&mut self, after: u64, told: u64) -> Result<Option<WatchAnswer>, Ended> {
        if let Some(line) = self.line(after)? {
            return Ok(Some(parsed(&line).map_err(Ended::from)?));
        }
        let silent = self.heard + SILENCE_LIMIT;
        let (body, look) = (&mut self.body, &mut self.look);
        let (client, member, prefix) = (&self.client, self.member, &self.prefix);
        let looked = async {
            sleep_until(silent).await;
            let begin = || -> Look { Box::pin(looked_at(Arc::clone(client), member, prefix.clone(), after)) };
            look.get_or_insert_with(begin).await
        };
        tokio::select! {
            frame = body.frame() => self.received(frame)?,
            looked = looked => self.compare(&looked?, after, told)?,
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<(), Ended> {
        let frame = self.body.frame().await;
        self.received(frame)
    }

    fn received(
        &mut self,
        frame: Option<Result<hyper::body::Frame<bytes::Bytes>, hyper::Error>>,
    ) -> Result<(), Ended> {
        self.heard = Instant::now();
        self.look = None;
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffered.extend_from_slice(&data);
                }
                Ok(())
            }
            Some(Err(error)) => Err(Ended::Broken(described(&error))),
            None => Err(Ended::Broken("the member ended the watch".to_owned())),
        }
    }

    /// Messages stand in a line each.
    fn line(&mut self, after: u64) -> Result<Option<BytesMut>, Ended> {
        let found = self.buffered[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = found else {
            self.searched = self.buffered.len();
            if self.searched > MAX_MESSAGE_BYTES {
                // What comes next is more than can be told.
                return Err(Ended::Over(StoreError::Compacted { oldest: after + 2 }));
            }
            return Ok(None);
        };
        let line = self.buffered.split_to(self.searched + end + 1);
        self.searched = 0;
        Ok(Some(line))
    }

    fn compare(&mut self, looked: &Looked, after: u64, told: u64) -> Result<(), Ended> {
        self.heard = Instant::now();
        self.look = None;
        if looked.revision < told {
            // It was put back to an earlier state.
            return Err(Ended::Over(StoreError::Compacted { oldest: looked.revision + 1 }));
        }
        if self.untold.is_some_and(|revision| revision > after) {
            return Err(Ended::Broken("the member tells nothing any more".to_owned()));
        }
        self.untold = looked.untold;
        Ok(())
    }
}

async fn looked_at(client: Arc<Client>, member: usize, prefix: Vec<u8>, after: u64) -> Result<Looked, Ended> {
    let request = written_after(&client, &prefix, after);
    let answer: RangeAnswer = client.call_at(member, "/v3/kv/range", &request).await?;
    let untold = answer.kvs.first().map(|row| row.mod_revision.revision());
    Ok(Looked { revision: answer.header.revision.revision(), untold })
}

fn parsed(line: &[u8]) -> Result<WatchAnswer, Refusal> {
    match serde_json::from_slice(line) {
        Ok(Streamed::Result(message)) => Ok(message),
        Ok(Streamed::Error(error)) => {
            Err(Refusal::of(http::StatusCode::SERVICE_UNAVAILABLE, error_text(&error)))
        }
        Err(error) => Err(Refusal::Failed(format!("etcd's message is not understood: {error}"))),
    }
}

impl From<Unanswered> for Ended {
    fn from(unanswered: Unanswered) -> Self {
        let (Unanswered::NotSent(reason) | Unanswered::Lost(reason)) = unanswered;
        Self::Broken(reason)
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotNow(reason) | Refusal::Undecided(reason) => Self::Broken(reason),
            other => Self::Over(other.into_error()),
        }
    }
}

impl From<NoAnswer> for Ended {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Unreachable(reason) | NoAnswer::Undecided(reason) => Self::Broken(reason),
            NoAnswer::TooLong => Self::Broken("an answer without an end".to_owned()),
            NoAnswer::Refused(refusal) => refusal.into(),
        }
    }
}
