//! The command line's end of the admin API, over the data directory's socket.

mod stream;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;
use types::Problem;

use crate::socket::connect;
#[cfg(test)]
pub(crate) use stream::decode;
pub use stream::{EventStream, StreamEvent};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the answer to another configuration may take, for which the workers have 10 seconds.
const CHANGE: Duration = Duration::from_secs(30);

/// Why a question was not answered.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no serviceos runs on the data directory {data_dir} ({reason}); start it with `serviceos up`")]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
        /// What the machine said.
        reason: std::io::Error,
    },
    /// It may run; this user may not ask it.
    #[error(
        "the data directory {data_dir} may not be opened by this user ({reason}); ask as the user that runs serviceos"
    )]
    NotAllowed {
        /// The data directory.
        data_dir: PathBuf,
        /// What the machine said.
        reason: std::io::Error,
    },
    /// It runs, and does not answer.
    #[error(
        "the serviceos on the data directory {data_dir} runs but did not answer within {} s; run/lock there names its process",
        .waited.as_secs()
    )]
    NoAnswer {
        /// The data directory.
        data_dir: PathBuf,
        /// For how long.
        waited: Duration,
    },
    /// It ended while it was still telling.
    #[error("the serviceos on the data directory {data_dir} was killed, or says nothing any more")]
    CutOff {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// It answered with an error.
    #[error("{} ({})", .0.detail, .0.code)]
    Problem(Box<Problem>),
    /// It answered something else than this program understands.
    #[error("the running serviceos answered in a way that this version does not understand: {0}")]
    Unexpected(String),
}

/// Asks the `serviceos up` of a data directory.
pub struct AdminClient {
    data_dir: PathBuf,
}

impl AdminClient {
    /// Whoever runs on this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// Reads.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await.and_then(|body| parse(&body))
    }

    /// Reads what is no JSON.
    ///
    /// # Errors
    /// Those of any question.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let body = self.ask(Method::GET, path, Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(unexpected)
    }

    /// Asks for something to be made.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(unexpected)?;
        self.ask(Method::POST, path, body.into()).await.and_then(|body| parse(&body))
    }

    /// Asks for another configuration, of this media type; only while that revision is in force, if there is one.
    pub async fn change<T: DeserializeOwned>(
        &self,
        path: &str,
        (media_type, body): (&'static str, Vec<u8>),
        if_revision: Option<u64>,
    ) -> Result<T, ClientError> {
        let request = Request::builder().method(Method::POST).header("content-type", media_type);
        let request = match if_revision {
            Some(revision) => request.header("if-match", format!("\"{revision}\"")),
            None => request,
        };
        let answer = self.within(CHANGE, self.ask_patiently(request, path, body.into())).await;
        answer.and_then(|body| parse(&body))
    }

    /// Asks for something to be as it is given.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(unexpected)?;
        self.ask(Method::PUT, path, body.into()).await.and_then(|body| parse(&body))
    }

    /// Asks for something that has no answer but that it was accepted.
    pub async fn order(&self, path: &str) -> Result<(), ClientError> {
        self.ask(Method::POST, path, Bytes::new()).await.map(|_| ())
    }

    /// Removes.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await.and_then(|body| parse(&body))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let request = Request::builder().method(method).header("content-type", "application/json");
        self.within(ANSWER, self.ask_patiently(request, path, body)).await
    }

    async fn within(
        &self,
        waited: Duration,
        answer: impl Future<Output = Result<Bytes, ClientError>>,
    ) -> Result<Bytes, ClientError> {
        timeout(waited, answer).await.unwrap_or_else(|_| Err(self.no_answer(waited)))
    }

    fn no_answer(&self, waited: Duration) -> ClientError {
        ClientError::NoAnswer { data_dir: self.data_dir.clone(), waited }
    }

    async fn ask_patiently(&self, request: Builder, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let (response, connection) = self.begin(request, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(unexpected)?.to_bytes();
        connection.end().await;
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Asks for what goes on.
    ///
    /// # Errors
    /// Those of any question.
    pub async fn watch<E: StreamEvent>(&self, path: &str) -> Result<EventStream<E>, ClientError> {
        let request = Request::builder().method(Method::GET);
        let begun = timeout(ANSWER, self.begin(request, path, Bytes::new())).await;
        let (response, connection) = begun.map_err(|_| self.no_answer(ANSWER))??;
        let (status, body) = (response.status(), response.into_body());
        if !status.is_success() {
            let body = timeout(ANSWER, body.collect()).await.map_err(|_| self.no_answer(ANSWER))?;
            return Err(refused(status, &body.map_err(unexpected)?.to_bytes()));
        }
        Ok(EventStream::new(self.data_dir.clone(), body, connection))
    }

    /// Sends a request, and waits for the head of the answer.
    async fn begin(
        &self,
        request: Builder,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = connect(&self.data_dir.join("run")).await.map_err(|reason| {
            let data_dir = self.data_dir.clone();
            match reason.kind() {
                ErrorKind::PermissionDenied => ClientError::NotAllowed { data_dir, reason },
                _ => ClientError::NotRunning { data_dir, reason },
            }
        })?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unexpected)?;
        let mut connection = JoinSet::new();
        connection.spawn(async {
            let _how_it_ended_is_told_by_the_answer = driver.await.is_ok();
        });
        let request =
            request.uri(path).header("host", "serviceos").body(Full::new(body)).map_err(unexpected)?;
        let response = sender.send_request(request).await.map_err(unexpected)?;
        Ok((response, Connection { sender, driver: connection }))
    }
}

/// A connection that is driven until this is dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinSet<()>,
}

impl Connection {
    /// Closes it, once the answer was read.
    async fn end(self) {
        let Self { sender, mut driver } = self;
        drop(sender);
        let _ended = driver.join_next().await;
    }
}

fn unexpected(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unexpected(error.to_string())
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(_) => ClientError::Unexpected(format!("status {status}")),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(unexpected)
}
