//! The state that the replicas of a service share: rows that only they see, kept by the mesh API, durable and the same for all of
//! them. Nothing is overwritten that the writer has not seen.
//!
//! A write whose answer was lost is asked for again. Where it finds every row as it wanted it, it takes that for its own work: so
//! whoever must know that it was he puts something of his own into the value, such as an id that nobody else can choose.

mod connections;
#[cfg(any(test, feature = "fakes"))]
pub(crate) mod fake;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use mesh_protocol::{
    Bytes, MAX_STATE_KEYS, StatePresent, StateRangeAnswer, StateRangeRequest, StateReadAnswer,
    StateReadRequest, StateUsage, StateWrite, StateWriteRequest,
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::Problem;

pub(crate) use connections::Connections;

/// How long a question may take, waiting for its turn and all tries included.
const LIMIT: Duration = Duration::from_secs(5);
/// How often the log says that the state cannot be reached.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How often something is asked whose answer was lost, and how long it waits in between.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// What it holds.
    pub value: Vec<u8>,
    /// The revision of the last write to it.
    pub revision: u64,
}

/// How a row was put where none should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there, with this revision.
    Created(u64),
    /// Another one was there already.
    Present(Row),
}

/// How a row was changed that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// It is, with this revision.
    Done(u64),
    /// It is another one by now, or gone.
    Changed(Option<Row>),
}

/// How several writes ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// All of them are there, with this revision.
    Done(u64),
    /// None of them is. These of their rows are there instead.
    Conflict(Vec<Row>),
}

/// Rows in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub rows: Vec<Row>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// The mesh API, or the store behind it, is away: worth another try. A write may have been carried out all the same, which
    /// reading it will say.
    #[error("the shared state cannot be reached: {0}")]
    Unavailable(String),
    /// The service has as much as it may have.
    #[error("{0}")]
    Full(String),
    /// It is over a limit of one request.
    #[error("{0}")]
    TooLarge(String),
    /// It would never be done.
    #[error("{0}")]
    Refused(String),
}

impl From<StateError> for Problem {
    /// What a service answers that cannot go on without its state. Where the store is, and what ails it, is nothing for callers:
    /// that is in the log.
    fn from(error: StateError) -> Self {
        let (code, title, detail, after) = match &error {
            StateError::Full(_) => {
                let detail = "the service keeps as much as it may have; some of it goes with time";
                ("STATE_FULL", "No room for what the service keeps", detail, "60")
            }
            _ => {
                let detail =
                    "the service cannot keep or find its answers now; what was asked may have been kept";
                ("STATE_UNAVAILABLE", "What the service keeps cannot be reached", detail, "1")
            }
        };
        if matches!(error, StateError::Refused(_) | StateError::TooLarge(_)) {
            tracing::error!(%error, "the shared state of the service refused it");
        }
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static(after))
    }
}

/// Why one try came to nothing.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It was asked, and no answer came: nobody knows whether it was done.
    Lost(String),
    /// It was not done.
    Error(StateError),
}

/// What is answered to a write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Done(u64),
    Conflict(Vec<StatePresent>),
}

/// An answer, some time.
pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// Whoever keeps the rows.
pub(crate) trait Keeper: Send + Sync {
    fn read(&self, request: StateReadRequest) -> Asked<'_, StateReadAnswer>;
    fn range(&self, request: StateRangeRequest) -> Asked<'_, StateRangeAnswer>;
    fn write(&self, request: StateWriteRequest) -> Asked<'_, Answered>;
    fn usage(&self) -> Asked<'_, StateUsage>;
}

/// The shared state of this replica's service. Clones are the same.
#[derive(Clone)]
pub struct State {
    keeper: Arc<dyn Keeper>,
    /// When the log has said last that it cannot be reached.
    said: Arc<Mutex<Option<Instant>>>,
}

impl State {
    pub(crate) fn of(keeper: impl Keeper + 'static) -> Self {
        Self { keeper: Arc::new(keeper), said: Arc::default() }
    }

    /// The state that a mesh API keeps for whoever has this identity, whose certificate is the one that `certificates` says.
    #[cfg(any(test, feature = "fakes"))]
    pub fn of_identity(
        mesh: mesh_protocol::MeshCoordinates,
        identity: mesh_protocol::tls::Identity,
        certificates: tokio::sync::watch::Receiver<([u8; 32], Instant)>,
    ) -> Self {
        Self::of(Connections::new(mesh, identity, certificates))
    }

    /// A row.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Row>, StateError> {
        Ok(self.get_all(&[key]).await?.pop().flatten())
    }

    /// Rows in the order of their keys as they are given, none where there is no row. They need not be of one moment.
    pub async fn get_all(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Row>>, StateError> {
        let keys: Vec<_> = keys.iter().map(|key| Bytes(key.as_ref().to_vec())).collect();
        let mut rows = Vec::with_capacity(keys.len());
        while rows.len() < keys.len() {
            let rest = &keys[rows.len()..];
            let request = StateReadRequest { keys: rest.iter().take(MAX_STATE_KEYS).cloned().collect() };
            let answer = self.again(|| self.keeper.read(request.clone())).await?;
            if answer.rows.is_empty() {
                return Err(StateError::Unavailable("an answer without a row".into()));
            }
            rows.extend(answer.rows.into_iter().map(|row| row.map(Row::from)));
        }
        Ok(rows)
    }

    /// At most so many rows whose keys begin with `prefix` and come behind `after`; an empty `after` is before all of them.
    pub async fn range(&self, prefix: &[u8], after: &[u8], limit: usize) -> Result<Page, StateError> {
        let request =
            StateRangeRequest { prefix: Bytes(prefix.to_vec()), after: Bytes(after.to_vec()), limit };
        let StateRangeAnswer { rows, more } = self.again(|| self.keeper.range(request.clone())).await?;
        Ok(Page { rows: rows.into_iter().map(Row::from).collect(), more })
    }

    /// Puts a row where there is none.
    pub async fn put_if_absent(&self, key: &[u8], value: &[u8]) -> Result<Put, StateError> {
        let create = StateWrite::Create { key: Bytes(key.to_vec()), value: Bytes(value.to_vec()) };
        match self.write(vec![create]).await? {
            Written::Done(revision) => Ok(Put::Created(revision)),
            Written::Conflict(mut present) => present.pop().map(Put::Present).ok_or_else(unsteady),
        }
    }

    /// Puts another value into a row whose last write has this revision.
    pub async fn compare_and_swap(
        &self,
        key: &[u8],
        revision: u64,
        value: &[u8],
    ) -> Result<Swap, StateError> {
        let (key, value) = (Bytes(key.to_vec()), Bytes(value.to_vec()));
        self.swap(StateWrite::Replace { key, value, revision }).await
    }

    /// Removes a row whose last write has this revision.
    pub async fn delete(&self, key: &[u8], revision: u64) -> Result<Swap, StateError> {
        self.swap(StateWrite::Delete { key: Bytes(key.to_vec()), revision }).await
    }

    async fn swap(&self, write: StateWrite) -> Result<Swap, StateError> {
        Ok(match self.write(vec![write]).await? {
            Written::Done(revision) => Swap::Done(revision),
            Written::Conflict(mut present) => Swap::Changed(present.pop()),
        })
    }

    /// Carries all of the writes out in one transaction, or none: at most [`MAX_STATE_KEYS`], each of another row.
    pub async fn write(&self, writes: Vec<StateWrite>) -> Result<Written, StateError> {
        let request = StateWriteRequest { writes };
        let tries = async {
            let mut lost = None;
            for _ in 0..TRIES {
                match self.keeper.write(request.clone()).await {
                    Ok(Answered::Done(revision)) => return Ok(Written::Done(revision)),
                    Ok(Answered::Conflict(present)) => {
                        let present = self.with_values(present).await?;
                        let is_own = lost.is_some() && holds(&request.writes, &present);
                        let revision = present.iter().map(|row| row.revision).max().unwrap_or_default();
                        return Ok(if is_own { Written::Done(revision) } else { Written::Conflict(present) });
                    }
                    Err(Fault::Error(error)) => return Err(error),
                    Err(Fault::Lost(reason)) => lost = Some(reason),
                }
                sleep(PAUSE).await;
            }
            Err(StateError::Unavailable(lost.unwrap_or_default()))
        };
        self.heard(timeout(LIMIT, tries).await.unwrap_or_else(|_| Err(late())))
    }

    /// How much the service has, about, and how much it may have.
    pub async fn usage(&self) -> Result<StateUsage, StateError> {
        self.again(|| self.keeper.usage()).await
    }

    /// Asks what changes nothing until there is an answer.
    async fn again<'a, T>(&self, ask: impl Fn() -> Asked<'a, T>) -> Result<T, StateError> {
        let tries = async {
            let mut lost = String::new();
            for _ in 0..TRIES {
                match ask().await {
                    Ok(answer) => return Ok(answer),
                    Err(Fault::Error(error)) => return Err(error),
                    Err(Fault::Lost(reason)) => lost = reason,
                }
                sleep(PAUSE).await;
            }
            Err(StateError::Unavailable(lost))
        };
        self.heard(timeout(LIMIT, tries).await.unwrap_or_else(|_| Err(late())))
    }

    /// Says in the log why the state cannot be reached, unless it has said so a moment ago.
    fn heard<T>(&self, done: Result<T, StateError>) -> Result<T, StateError> {
        if let Err(StateError::Unavailable(reason)) = &done {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
                *said = Some(Instant::now());
                tracing::warn!(reason, "the shared state of the service cannot be reached");
            }
        }
        done
    }

    /// The rows that are there, with the values that did not fit into the answer.
    async fn with_values(&self, present: Vec<StatePresent>) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::with_capacity(present.len());
        for StatePresent { key, revision, value } in present {
            match value {
                Some(value) => rows.push(Row { key: key.0, value: value.0, revision }),
                // Where it has gone in between, it is not there.
                None => rows.extend(self.get(&key.0).await?),
            }
        }
        Ok(rows)
    }
}

impl From<mesh_protocol::StateRow> for Row {
    fn from(row: mesh_protocol::StateRow) -> Self {
        Self { key: row.key.0, value: row.value.0, revision: row.revision }
    }
}

/// Whether every row is as these writes leave it.
fn holds(writes: &[StateWrite], present: &[Row]) -> bool {
    writes.iter().all(|write| {
        let found = present.iter().find(|row| row.key == write.key().0);
        found.map(|row| &row.value) == write.value().map(|value| &value.0)
    })
}

fn late() -> StateError {
    StateError::Unavailable(format!("no answer within {} s", LIMIT.as_secs()))
}

/// A row was there, and is not any more.
fn unsteady() -> StateError {
    StateError::Unavailable("a row changes while it is asked for".into())
}

#[cfg(test)]
mod tests;
