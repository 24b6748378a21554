//! What the request path tells the health owner.

use tokio::sync::mpsc;
use types::ReplicaId;

use crate::endpoint::Endpoint;

/// A call went wrong in a way that says something about the replica, not about the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The replica.
    pub replica: ReplicaId,
    /// Which run of it.
    pub incarnation: u64,
    /// What happened.
    pub kind: SuspicionKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspicionKind {
    /// It refused a connection: it is out at once, until a check passes.
    Refused,
    /// It closed a connection before it answered: a check decides.
    Reset,
    /// Its calls fail, one after the other: it is left alone for a while.
    Failing,
}

/// Where suspicions go.
#[derive(Clone)]
pub(crate) struct Suspicions(pub(crate) mpsc::Sender<Suspicion>);

impl Suspicions {
    /// Tells the health owner that something may be wrong; whether it will look.
    pub(crate) fn report(&self, endpoint: &Endpoint, kind: SuspicionKind) -> bool {
        let suspicion = Suspicion {
            replica: endpoint.instance.replica.clone(),
            incarnation: endpoint.instance.incarnation,
            kind,
        };
        self.0.try_send(suspicion).is_ok()
    }
}
