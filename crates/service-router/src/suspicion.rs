//! What the request path tells the health owner.

use types::ReplicaId;

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
