//! One end point, and the connections to it that are kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, Unanswered, described, request};
use super::{EndPoint, MAX_ANSWER_BYTES};

/// Connections to one end point, those of watches not counted.
const MAX_CONNECTIONS: usize = 16;
/// One that was not used for longer is not used again: what stands between may have forgotten it.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A member of the cluster, by the end point at which it is reached.
pub(super) struct Member {
    pub(super) at: EndPoint,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<(Connection, Instant)>>,
    room: Semaphore,
}

/// The answer of a member.
#[derive(Debug)]
pub(super) enum Answered {
    /// All of it.
    Whole(StatusCode, Bytes),
    /// It is more than [`MAX_ANSWER_BYTES`].
    TooLong,
}

impl Member {
    pub(super) fn new(at: EndPoint, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { at, tls, idle: Mutex::default(), room: Semaphore::new(MAX_CONNECTIONS) }
    }

    /// A connection of one's own.
    pub(super) async fn connect(&self) -> Result<Connection, Unanswered> {
        Connection::open(&self.at, self.tls.as_ref()).await
    }

    /// Asks once, and waits for the answer until the deadline.
    pub(super) async fn ask(
        &self,
        path: &str,
        token: Option<HeaderValue>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answered, Unanswered> {
        let Ok(Ok(_room)) = timeout_at(deadline, self.room.acquire()).await else {
            let reason = format!("{}: all {MAX_CONNECTIONS} connections are in use", self.at);
            return Err(Unanswered::NotSent(reason));
        };
        let request = || request(&self.at, path, token.clone(), body.clone());
        while let Ok(Some(mut connection)) = timeout_at(deadline, self.kept()).await {
            let asked = timeout_at(deadline, exchange(&mut connection, request())).await;
            match asked {
                // It was closed in the meantime.
                Ok(Err(Unanswered::NotSent(_))) => {}
                asked => return self.ended(connection, asked),
            }
        }
        let mut connection = self.connect().await?;
        let asked = timeout_at(deadline, exchange(&mut connection, request())).await;
        self.ended(connection, asked)
    }

    /// The connection is kept when it gave a whole answer.
    fn ended(
        &self,
        connection: Connection,
        asked: Result<Result<Answered, Unanswered>, tokio::time::error::Elapsed>,
    ) -> Result<Answered, Unanswered> {
        let at = &self.at;
        match asked {
            Ok(Ok(answer)) => {
                if let Answered::Whole(..) = answer {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    idle.push((connection, Instant::now()));
                }
                Ok(answer)
            }
            Ok(Err(Unanswered::NotSent(reason))) => Err(Unanswered::NotSent(format!("{at}: {reason}"))),
            Ok(Err(Unanswered::Lost(reason))) => Err(Unanswered::Lost(format!("{at}: {reason}"))),
            Err(_late) => Err(Unanswered::Lost(format!("{at}: no answer in time"))),
        }
    }

    /// The connection that was used last, if it is still of use.
    async fn kept(&self) -> Option<Connection> {
        // What has arrived on them is seen first: a request on one that was closed would be lost rather than not sent.
        tokio::task::yield_now().await;
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < IDLE_LIMIT && connection.is_usable().await {
                return Some(connection);
            }
        }
    }
}

async fn exchange(
    connection: &mut Connection,
    request: http::Request<http_body_util::Full<Bytes>>,
) -> Result<Answered, Unanswered> {
    let (head, body) = connection.send(request).await?.into_parts();
    whole(head.status, body).await
}

async fn whole(status: StatusCode, mut body: Incoming) -> Result<Answered, Unanswered> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unanswered::Lost(described(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_ANSWER_BYTES {
            return Ok(Answered::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answered::Whole(status, bytes.freeze()))
}
