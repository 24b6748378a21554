//! The flow of one query: check, take a turn, fetch, extract.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use outbound::{AllowList, Client, Request, Response, Roots, SystemResolver, TOTAL_TIMEOUT, TlsPeer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use ulid::Ulid;

use crate::error::OracleError;
use crate::path::{self, Path};
use crate::query::Query;
use crate::{api, settings};

/// Fetches at once; each may hold an answer of 2 MB.
const MAX_FETCHES: usize = 64;
/// Extractions at once: a parsed document takes up to fifty times the memory of its text.
const MAX_EXTRACTIONS: usize = 2;

/// What was found.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: Ulid,
    pub(crate) result: Value,
    pub(crate) status: u16,
    pub(crate) fetched_at: Timestamp,
    pub(crate) request_hash: [u8; 32],
    pub(crate) body_hash: [u8; 32],
    pub(crate) tls: Option<TlsPeer>,
}

/// A guarded client and the bounds of what runs at once.
pub(crate) struct Service {
    /// Of the configuration in force; held for as long as it takes to count one owner more.
    client: RwLock<Client>,
    fetches: Arc<Semaphore>,
    extractions: Arc<Semaphore>,
}

/// Makes the routes of the service from what the replica was given.
pub async fn build(start: sdk::Start) -> Result<axum::Router, sdk::StartError> {
    let allow = settings::allow_list(&start.config).map_err(sdk::StartError::new)?;
    let client = Client::new(allow, SystemResolver, Roots::system());
    let service = Arc::new(Service::new(client));
    let configured = Arc::clone(&service);
    // Ends when nobody offers it another configuration any more.
    tokio::spawn(start.configs.follow(move |offer| {
        let allow = settings::allow_list(offer.value()).map_err(sdk::StartError::new)?;
        configured.take(allow);
        Ok(())
    }));
    Ok(api::router(service))
}

impl Service {
    pub(crate) fn new(client: Client) -> Self {
        let limit = |turns| Arc::new(Semaphore::new(turns));
        Self { client: RwLock::new(client), fetches: limit(MAX_FETCHES), extractions: limit(MAX_EXTRACTIONS) }
    }

    /// Has the queries that come from now on fetch what this list allows. Those that have begun end by the list before.
    pub(crate) fn take(&self, allow: AllowList) {
        let next = self.client().allowing(allow);
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn answer(&self, query: Query) -> Result<Answer, OracleError> {
        let client = self.client();
        let _turn = turn(&self.fetches).await?;
        let Query { url, method, headers, path, hash } = query;
        let request = Request { method, headers, ..Request::get(&url) };
        let response = client.fetch(request).await?;
        let fetched_at = Timestamp::now();
        if !response.status.is_success() {
            return Err(OracleError::UpstreamStatus(response.status.as_u16()));
        }
        let Response { status, body, tls, .. } = response;
        let body_hash = Sha256::digest(&body).into();
        let result = self.extract(body.into(), path).await?;
        let status = status.as_u16();
        Ok(Answer { id: Ulid::generate(), result, status, fetched_at, request_hash: hash, body_hash, tls })
    }

    async fn extract(&self, body: Vec<u8>, path: Option<Path>) -> Result<Value, OracleError> {
        let turn = turn(&self.extractions).await?;
        // The turn goes along, because the work goes on when the caller has hung up.
        let work = spawn_blocking(move || {
            let _turn = turn;
            path::extract(&body, path.as_ref())
        });
        work.await.expect("an extraction neither panics nor is aborted")
    }
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, OracleError> {
    let turn =
        timeout(TOTAL_TIMEOUT, Arc::clone(turns).acquire_owned()).await.map_err(|_| OracleError::Busy)?;
    Ok(turn.expect("nobody closes the semaphore"))
}
