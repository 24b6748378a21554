//! One HTTP/1.1 connection to a replica. Nobody polls it while it idles, and it takes no more room than it must.

use std::sync::Arc;

use observability::ServiceShard;

use crate::answer::Open;
use crate::circuit::Permit;
use crate::wire::Wire;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http1Connection {
    pub(crate) wire: Wire,
    /// Whether it has carried a call before.
    pub(crate) reused: bool,
    /// Its place among those that the service may have.
    permit: Permit,
    open: Open,
}

impl Http1Connection {
    pub(crate) fn new(wire: Wire, permit: Permit, shard: &Arc<ServiceShard>) -> Self {
        Self { wire, reused: false, permit, open: Open::new(shard) }
    }

    /// Whether it can still be used, as far as is known.
    pub(crate) fn is_open(&mut self) -> bool {
        self.wire.is_quiet()
    }

    /// Keeps nothing but what it is to be used again; whether it can be, since nothing came that nobody asked for.
    pub(crate) fn rest(&mut self) -> bool {
        self.wire.release();
        self.wire.peek().is_empty()
    }

    /// The socket itself, and what has to live as long.
    pub(crate) fn into_parts(self) -> (Wire, Permit, Open) {
        (self.wire, self.permit, self.open)
    }
}
