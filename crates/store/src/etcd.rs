//! The store in etcd, by its JSON gateway (`/v3/…` over HTTP/1.1).
//!
//! Every read is linearizable. Nothing is kept here beyond connections, a token, and which member answered last.

mod client;
mod connection;
mod keys;
mod login;
mod member;
mod messages;
mod presence;
mod reading;
mod refusal;
mod settings;
mod watching;

pub use settings::{EndPoint, EtcdSettings, EtcdTls, Login};

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::client::{CallError, Client, Repeat};
use self::keys::within;
use self::messages::{
    Comparison, GrantRequest, LeaseAnswer, LeaseRequest, Nothing, RangeRequest, RequestedOperation, Streamed,
    TransactionAnswer, TransactionRequest, Whole,
};
use self::reading::read_error;
use self::watching::EtcdWatch;
use crate::backend::{Answer, Backend, Watching};
use crate::{
    Availability, Compare, KeyValue, LeaseId, Operation, Outcome, Range, Store, StoreError, Transaction,
};

/// How long a connection may take, TLS with it.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The largest answer to one request.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// etcd.
pub(crate) struct Etcd {
    client: Arc<Client>,
    looking: JoinHandle<()>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Store {
    /// The store in etcd. Nothing is asked yet: whether it answers is found by whoever asks first, and noted in
    /// [`Store::availability`].
    ///
    /// # Errors
    /// [`StoreError::Failed`] outside of a tokio runtime, without an end point, and with a certificate or key that is none.
    pub fn etcd(settings: EtcdSettings) -> Result<Self, StoreError> {
        Ok(Self::of(Etcd::new(settings)?))
    }
}

/// Which etcd has answered, and how far it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) cluster: u64,
    pub(crate) revision: u64,
}

impl Etcd {
    /// As [`Store::etcd`].
    pub(crate) fn new(settings: EtcdSettings) -> Result<Self, StoreError> {
        let runtime = Handle::try_current().map_err(|error| StoreError::Failed(error.to_string()))?;
        let EtcdSettings { end_points, namespace, tls, login, random } = settings;
        if end_points.is_empty() {
            return Err(StoreError::Failed("etcd has no end point".to_owned()));
        }
        let tls = tls.map(EtcdTls::client).transpose()?;
        let client = Arc::new(Client::new(end_points, tls, namespace, login, random));
        let looking = runtime.spawn(presence::look(Arc::downgrade(&client)));
        Ok(Self { client, looking })
    }

    /// Whether it answers, and which one it is.
    pub(crate) async fn look(&self) -> Result<Seen, StoreError> {
        let header = self.client.look().await.map_err(read_error)?;
        Ok(Seen { cluster: header.cluster_id.0, revision: header.revision.revision() })
    }
}

impl Backend for Etcd {
    fn get(&self, key: Vec<u8>) -> Answer<'_, Option<KeyValue>> {
        Box::pin(async move { reading::get(&self.client, &key).await })
    }

    fn get_all(&self, keys: Vec<Vec<u8>>) -> Answer<'_, Vec<Option<KeyValue>>> {
        Box::pin(async move { reading::get_all(&self.client, &keys).await })
    }

    fn range(&self, prefix: Vec<u8>) -> Answer<'_, Range> {
        self.page(prefix, Vec::new(), usize::MAX)
    }

    fn page(&self, prefix: Vec<u8>, after: Vec<u8>, most: usize) -> Answer<'_, Range> {
        Box::pin(async move { reading::page(&self.client, &prefix, &after, most).await })
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(self.commit(transaction))
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        Box::pin(async move {
            // One that is granted twice since the first answer was lost ends by itself.
            let request = GrantRequest { ttl: Whole::of_revision(ttl.as_secs()) };
            let granted = self.client.call::<LeaseAnswer>("/v3/lease/grant", &request, Repeat::Safe).await;
            Ok(LeaseId(granted.map_err(read_error)?.id.0))
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move {
            let request = LeaseRequest { id: Whole(lease.0) };
            let path = "/v3/lease/keepalive";
            match self.client.call::<Streamed<LeaseAnswer>>(path, &request, Repeat::Safe).await {
                Ok(Streamed::Result(renewed)) if renewed.ttl.0 > 0 => Ok(()),
                Ok(Streamed::Result(_)) | Err(CallError::LeaseEnded) => Err(StoreError::LeaseEnded(lease)),
                Ok(Streamed::Error(error)) => Err(StoreError::Failed(messages::error_text(&error))),
                Err(other) => Err(read_error(other)),
            }
        })
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move {
            let request = LeaseRequest { id: Whole(lease.0) };
            match self.client.call::<Nothing>("/v3/lease/revoke", &request, Repeat::Safe).await {
                Ok(_) | Err(CallError::LeaseEnded) => Ok(()),
                Err(other) => Err(read_error(other)),
            }
        })
    }

    fn watch(&self, prefix: Vec<u8>, after: u64) -> Box<dyn Watching> {
        Box::new(EtcdWatch::new(Arc::clone(&self.client), prefix, after))
    }

    fn availability(&self) -> watch::Receiver<Availability> {
        self.client.presence().subscribe()
    }
}

impl Etcd {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let Transaction { compares, operations } = transaction;
        // Without a change it is a read.
        let repeat = if operations.is_empty() { Repeat::Safe } else { Repeat::Never };
        let leases: Vec<_> = operations.iter().filter_map(lease_of).collect();
        let request = self.request(&compares, operations);
        match self.client.call::<TransactionAnswer>("/v3/kv/txn", &request, repeat).await {
            Ok(answer) if answer.succeeded => {
                Ok(Outcome::Committed { revision: answer.header.revision.revision() })
            }
            Ok(answer) => conflict(compares, answer),
            Err(CallError::LeaseEnded) => Err(self.ended_of(&leases).await),
            Err(other) => Err(read_error(other)),
        }
    }

    /// The comparisons as etcd makes them; where they do not hold, the revisions that were found.
    fn request(&self, compares: &[Compare], operations: Vec<Operation>) -> TransactionRequest {
        let namespace = self.client.namespace();
        let compare = compares.iter().map(|compare| {
            let (key, revision) = expected(compare);
            let (key, mod_revision) = (within(namespace, key), Whole::of_revision(revision));
            Comparison { key, target: "MOD", result: "EQUAL", mod_revision }
        });
        let failure = compares.iter().map(|compare| {
            let key = within(namespace, expected(compare).0);
            RequestedOperation::Range(RangeRequest { key, keys_only: true, ..RangeRequest::default() })
        });
        let success = operations.into_iter().map(|operation| match operation {
            Operation::Put(key, value, lease) => RequestedOperation::Put {
                key: within(namespace, &key),
                value: messages::Base64(value),
                lease: Whole(lease.map_or(0, LeaseId::number)),
            },
            Operation::Delete(key) => RequestedOperation::Delete { key: within(namespace, &key) },
        });
        TransactionRequest {
            compare: compare.collect(),
            success: success.collect(),
            failure: failure.collect(),
        }
    }

    /// Which of the leases it was that has ended: etcd does not say.
    async fn ended_of(&self, leases: &[LeaseId]) -> StoreError {
        let [first, others @ ..] = leases else {
            return StoreError::Failed("etcd speaks of a lease that was not named".to_owned());
        };
        for lease in others {
            let request = LeaseRequest { id: Whole(lease.0) };
            let asked = self.client.call::<LeaseAnswer>("/v3/lease/timetolive", &request, Repeat::Safe).await;
            if asked.is_ok_and(|answer| answer.ttl.0 < 0) {
                return StoreError::LeaseEnded(*lease);
            }
        }
        StoreError::LeaseEnded(*first)
    }
}

fn lease_of(operation: &Operation) -> Option<LeaseId> {
    match operation {
        Operation::Put(_, _, lease) => *lease,
        Operation::Delete(_) => None,
    }
}

/// The key, and the revision that its last write should have: 0 where there should be none.
fn expected(compare: &Compare) -> (&[u8], u64) {
    match compare {
        Compare::Absent(key) => (key, 0),
        Compare::ModRevision(key, revision) => (key, *revision),
    }
}

fn conflict(compares: Vec<Compare>, answer: TransactionAnswer) -> Result<Outcome, StoreError> {
    let found = answer
        .responses
        .iter()
        .map(|response| response.response_range.kvs.first().map_or(0, |row| row.mod_revision.revision()));
    let unmet = compares.into_iter().zip(found).find(|(compare, found)| expected(compare).1 != *found);
    match unmet {
        Some((Compare::Absent(key) | Compare::ModRevision(key, _), _)) => Ok(Outcome::Conflict { key }),
        None => Err(StoreError::Failed("etcd refused a comparison that holds".to_owned())),
    }
}
