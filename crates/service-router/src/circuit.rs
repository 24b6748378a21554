//! How much may be asked of one service at once, over all workers: connections, calls that wait for one, and calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use observability::CircuitLimit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitLimits {
    /// Open connections to its replicas.
    pub connections: usize,
    /// Calls that wait for a connection to become free.
    pub pending: usize,
    /// Calls in flight.
    pub requests: usize,
}

/// The state of one service's limits, shared by all workers.
#[derive(Debug)]
pub struct Circuit {
    limits: CircuitLimits,
    connections: Arc<Semaphore>,
    pending: AtomicUsize,
    requests: AtomicUsize,
}

/// A place among the connections; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A place among the calls; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct CallPlace(Arc<Circuit>);

/// A place among those that wait.
struct Waiting<'a>(&'a Circuit);

impl Circuit {
    /// Nothing is asked yet.
    pub fn new(limits: CircuitLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            pending: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        })
    }

    /// The limits.
    pub fn limits(&self) -> CircuitLimits {
        self.limits
    }

    /// A place for one more call.
    pub(crate) fn call(self: &Arc<Self>) -> Result<CallPlace, CircuitLimit> {
        let place = CallPlace(Arc::clone(self));
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.limits.requests {
            return Err(CircuitLimit::Requests);
        }
        Ok(place)
    }

    /// A place for one more connection at once, where there is one.
    pub(crate) fn connection(&self) -> Option<Permit> {
        Arc::clone(&self.connections).try_acquire_owned().ok().map(Permit)
    }

    /// Waits for a place for one more connection, if there is room to wait.
    pub(crate) async fn wait_for_connection(&self) -> Result<Permit, CircuitLimit> {
        let waiting = Waiting(self);
        if self.pending.fetch_add(1, Ordering::Relaxed) >= self.limits.pending {
            return Err(CircuitLimit::Pending);
        }
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        drop(waiting);
        permit.map(Permit).map_err(|_| CircuitLimit::Connections)
    }

    /// Whether somebody waits for a connection: an idle one should rather make room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_limit_sheds_and_frees() {
        let circuit = Circuit::new(CircuitLimits { connections: 1, pending: 1, requests: 2 });
        let calls = (circuit.call().unwrap(), circuit.call().unwrap());
        assert_eq!(circuit.call().unwrap_err(), CircuitLimit::Requests);
        drop(calls);
        assert!(circuit.call().is_ok());

        let connection = circuit.connection().unwrap();
        assert!(circuit.connection().is_none() && !circuit.is_awaited());
        let waiting = tokio::spawn({
            let circuit = Arc::clone(&circuit);
            async move { circuit.wait_for_connection().await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(circuit.is_awaited());
        assert_eq!(circuit.wait_for_connection().await.map(drop), Err(CircuitLimit::Pending));
        drop(connection);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(!circuit.is_awaited() && circuit.connection().is_some());
    }
}
