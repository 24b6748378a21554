//! The mesh API as the keeper of the state. HTTP/1.1 answers one question after the other, so several connections are kept: the
//! store makes many writes durable at once, and one that waits for the disk shall not keep the others waiting. Writes for which no
//! connection is free go [`together`].

mod together;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use mesh_protocol::tls::Identity;
use mesh_protocol::{
    MeshCoordinates, Refusal, StateConflict, StateRangeAnswer, StateRangeRequest, StateReadAnswer,
    StateReadRequest, StateUsage, StateWriteAnswer, StateWriteRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::together::{Waiting, Wanted};
use super::{Answered, Asked, Fault, Keeper, LIMIT, StateError};
use crate::mesh_client::{MeshClient, MeshError};

/// Connections of one replica, and so its questions at the same time.
const MAX_CONNECTIONS: usize = 6;
/// How long one is kept that nobody needs.
const IDLE: Duration = Duration::from_secs(30);

/// SHA-256 of a certificate.
type Leaf = [u8; 32];

/// The connections of one member.
pub(crate) struct Connections {
    pool: Arc<Pool>,
    /// Those who write. They end with this.
    writing: Mutex<JoinSet<()>>,
}

struct Pool {
    mesh: MeshCoordinates,
    identity: Identity,
    certificates: watch::Receiver<(Leaf, Instant)>,
    /// The one that was used last is used next, so that those that are too many grow old.
    idle: Mutex<Vec<Kept>>,
    room: Semaphore,
    waiting: Waiting,
}

struct Kept {
    client: MeshClient,
    /// The certificate that it was made with. Another connection is made with the next one, since the mesh API ends this one with
    /// its certificate.
    leaf: Leaf,
    since: Instant,
}

impl Connections {
    /// None yet; they are made with the identity, whose certificate is the one that `certificates` says.
    pub(crate) fn new(
        mesh: MeshCoordinates,
        identity: Identity,
        certificates: watch::Receiver<(Leaf, Instant)>,
    ) -> Self {
        let (room, waiting) = (Semaphore::new(MAX_CONNECTIONS), Waiting::default());
        let pool = Pool { mesh, identity, certificates, idle: Mutex::default(), room, waiting };
        Self { pool: Arc::new(pool), writing: Mutex::default() }
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, message: &impl Serialize) -> Result<T, Fault> {
        let turn = self.pool.turn().await;
        let (status, body) = self.pool.ask(&turn, Method::POST, path, encoded(message)).await?;
        answer(status, &body)
    }

    /// Somebody writes what waits, and goes on though nobody waits for it any more: others may.
    fn begin_to_write(&self) {
        let pool = Arc::clone(&self.pool);
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while writing.try_join_next().is_some() {}
        writing.spawn(async move { pool.write_what_waits().await });
    }
}

impl Pool {
    async fn turn(&self) -> SemaphorePermit<'_> {
        let Ok(turn) = self.room.acquire().await else { unreachable!("nobody closes it") };
        turn
    }

    async fn ask(
        &self,
        _turn: &SemaphorePermit<'_>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Vec<u8>), Fault> {
        let leaf = self.certificates.borrow().0;
        let mut client = match self.kept(leaf) {
            Some(client) => client,
            None => MeshClient::connect(&self.mesh, &self.identity).await.map_err(unavailable)?,
        };
        match client.exchange(method, path, body).await {
            Ok((status, body)) => {
                self.keep(Kept { client, leaf, since: Instant::now() });
                Ok((status, body.to_vec()))
            }
            Err(error) => {
                // What ended this one has most likely ended the others.
                self.forget();
                Err(Fault::Lost(error.to_string()))
            }
        }
    }

    async fn write_what_waits(&self) {
        let mut writer = self.waiting.begin();
        loop {
            let turn = self.turn().await;
            let Some(batch) = writer.next() else { return };
            // Whoever still waits is told that the answer is lost.
            let _late = timeout(LIMIT, batch.write(|request| self.write(&turn, request))).await.is_err();
        }
    }

    async fn write(&self, turn: &SemaphorePermit<'_>, request: StateWriteRequest) -> Result<Answered, Fault> {
        let (status, body) = self.ask(turn, Method::POST, "/v1/state/write", encoded(&request)).await?;
        if status == StatusCode::CONFLICT {
            let conflict: StateConflict = decoded(&body)?;
            return Ok(Answered::Conflict(conflict.present));
        }
        let StateWriteAnswer { revision } = answer(status, &body)?;
        Ok(Answered::Done(revision))
    }

    fn kept(&self, leaf: Leaf) -> Option<MeshClient> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.leaf == leaf && kept.since.elapsed() < IDLE && kept.client.is_open());
        idle.pop().map(|kept| kept.client)
    }

    fn keep(&self, kept: Kept) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
    }

    fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Keeper for Connections {
    fn read(&self, request: StateReadRequest) -> Asked<'_, StateReadAnswer> {
        Box::pin(async move { self.post("/v1/state/read", &request).await })
    }

    fn range(&self, request: StateRangeRequest) -> Asked<'_, StateRangeAnswer> {
        Box::pin(async move { self.post("/v1/state/range", &request).await })
    }

    fn write(&self, request: StateWriteRequest) -> Asked<'_, Answered> {
        Box::pin(async move {
            let (answered, wanted) = self.pool.waiting.push(request, MAX_CONNECTIONS)?;
            if wanted == Wanted::Writer {
                self.begin_to_write();
            }
            answered.await.unwrap_or_else(|_| Err(Fault::Lost("the mesh API did not answer".into())))
        })
    }

    fn usage(&self) -> Asked<'_, StateUsage> {
        Box::pin(async move {
            let turn = self.pool.turn().await;
            let (status, body) = self.pool.ask(&turn, Method::GET, "/v1/state/usage", Vec::new()).await?;
            answer(status, &body)
        })
    }
}

fn encoded(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("a message has no map with keys that JSON cannot write")
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::Lost(format!("an answer is malformed: {error}")))
}

fn answer<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Fault> {
    if status == StatusCode::OK {
        return decoded(body);
    }
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let detail = refusal.map_or_else(
        || format!("the mesh API answered {status}"),
        |refusal| format!("{}: {}", refusal.code, refusal.detail),
    );
    Err(Fault::Error(match status {
        StatusCode::PAYLOAD_TOO_LARGE => StateError::TooLarge(detail),
        StatusCode::INSUFFICIENT_STORAGE => StateError::Full(detail),
        StatusCode::BAD_REQUEST => StateError::Refused(detail),
        // Whoever is refused now may have another certificate in a moment.
        _ => StateError::Unavailable(detail),
    }))
}

fn unavailable(error: MeshError) -> Fault {
    Fault::Error(StateError::Unavailable(error.to_string()))
}
