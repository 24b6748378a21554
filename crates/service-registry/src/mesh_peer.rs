//! One run of a replica as whoever connects to it must find it: the certificates that it may show, and whether anything may
//! be connected to it at all.
//!
//! The authority's writer changes it; it is read only when a connection is made. It knows its connections, so that all of
//! them end with it, whichever threads they belong to; those that use them look at nothing.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;

/// Connections that are gone are forgotten when there are twice as many as were left the last time, and this many more.
const FORGOTTEN_AT_ONCE: usize = 16;

/// A connection that can be ended by somebody else than who uses it.
pub trait MeshConnection: Send + Sync {
    /// Ends it at once: nothing is read from it or written to it any more, and who waits for it is woken.
    fn cut(&self);
}

/// A certificate that was followed by another, by its SHA-256, and until when it may still be shown.
type Former = ([u8; 32], Timestamp);

/// The identity of one run of a replica.
#[derive(Debug)]
pub struct MeshPeer {
    spiffe_id: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The SHA-256 of the certificate in force.
    leaf: [u8; 32],
    /// That of the one before, and how long it may be shown.
    former: Option<Former>,
    ended: bool,
    connections: Vec<Weak<dyn MeshConnection>>,
    /// How many connections there may be until those that are gone are forgotten.
    room: usize,
}

/// The peer has ended, so there must be no connection to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerEnded;

impl MeshPeer {
    /// A peer with its first certificate, of which this is the SHA-256.
    pub fn new(spiffe_id: String, leaf: [u8; 32]) -> Self {
        let state =
            State { leaf, former: None, ended: false, connections: Vec::new(), room: FORGOTTEN_AT_ONCE };
        Self { spiffe_id, state: Mutex::new(state) }
    }

    /// Its identity.
    pub fn spiffe_id(&self) -> &str {
        &self.spiffe_id
    }

    /// It has another certificate. The one before may be shown for a while, since the replica has yet to take the new one
    /// into use; any before that may not. Connections that are there go on: they live by the appraisal.
    pub fn renewed(&self, leaf: [u8; 32], former: Former) {
        let mut state = self.state();
        if state.leaf != leaf {
            state.former = Some(former);
            state.leaf = leaf;
        }
    }

    /// The SHA-256 of the certificates that it may show now, the one in force first; none once it has ended.
    pub fn accepted(&self, now: Timestamp) -> Vec<[u8; 32]> {
        let state = self.state();
        let former = state.former.filter(|(_, until)| now < *until).map(|(leaf, _)| leaf);
        let accepted = std::iter::once(state.leaf).chain(former);
        accepted.filter(|_| !state.ended).collect()
    }

    /// The SHA-256 of the certificate in force, and of the one before with the time until which it may be shown; `None` once it has
    /// ended.
    pub fn certificates(&self, now: Timestamp) -> Option<([u8; 32], Option<Former>)> {
        let state = self.state();
        (!state.ended).then(|| (state.leaf, state.former.filter(|(_, until)| now < *until)))
    }

    /// A connection to it is about to be used; from now on it ends with the peer.
    ///
    /// # Errors
    /// The peer has ended already.
    pub fn connected(&self, connection: Weak<dyn MeshConnection>) -> Result<(), PeerEnded> {
        let mut state = self.state();
        if state.ended {
            return Err(PeerEnded);
        }
        if state.connections.len() >= state.room {
            state.connections.retain(|connection| connection.strong_count() > 0);
            state.room = 2 * state.connections.len() + FORGOTTEN_AT_ONCE;
        }
        state.connections.push(connection);
        Ok(())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// It is revoked, expired or stopped: no connection is made to it any more, and every one that is there ends at once.
    pub fn end(&self) {
        let connections = {
            let mut state = self.state();
            state.ended = true;
            std::mem::take(&mut state.connections)
        };
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.cut());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Fake(AtomicBool);

    impl MeshConnection for Fake {
        fn cut(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn weak(connection: &Arc<Fake>) -> Weak<dyn MeshConnection> {
        let weak: Weak<Fake> = Arc::downgrade(connection);
        weak
    }

    #[test]
    fn the_certificate_before_is_accepted_for_a_while_and_the_one_before_that_is_not() {
        let peer = MeshPeer::new("spiffe://test.dev.invalid/service/vrf/0".into(), [1; 32]);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(peer.accepted(at(0)), [[1; 32]]);
        peer.renewed([2; 32], ([1; 32], at(10)));
        assert_eq!(peer.accepted(at(9)), [[2; 32], [1; 32]]);
        assert_eq!(peer.accepted(at(10)), [[2; 32]]);
        peer.renewed([3; 32], ([2; 32], at(20)));
        assert_eq!(peer.accepted(at(9)), [[3; 32], [2; 32]]);
        peer.renewed([3; 32], ([2; 32], at(30)));
        assert_eq!(peer.accepted(at(25)), [[3; 32]], "the same one again is no renewal");
        peer.end();
        assert!(peer.accepted(at(9)).is_empty());
    }

    #[test]
    fn its_end_ends_every_connection_and_lets_none_begin() {
        let peer = MeshPeer::new("spiffe://test.dev.invalid/service/vrf/0".into(), [1; 32]);
        let (one, two) = (Arc::<Fake>::default(), Arc::<Fake>::default());
        assert_eq!((peer.connected(weak(&one)), peer.connected(weak(&two))), (Ok(()), Ok(())));
        peer.end();
        assert!(one.0.load(Ordering::Relaxed) && two.0.load(Ordering::Relaxed));
        assert_eq!((peer.connected(weak(&one)), peer.has_ended()), (Err(PeerEnded), true));
    }

    #[test]
    fn connections_that_are_gone_are_forgotten() {
        let peer = MeshPeer::new("spiffe://test.dev.invalid/service/vrf/0".into(), [1; 32]);
        let stays: Vec<_> = (0..100).map(|_| Arc::<Fake>::default()).collect();
        stays.iter().for_each(|connection| peer.connected(weak(connection)).unwrap());
        for _ in 0..10_000 {
            peer.connected(weak(&Arc::default())).unwrap();
        }
        assert!(peer.state().connections.len() <= 2 * stays.len() + FORGOTTEN_AT_ONCE);
        peer.end();
        assert!(stays.iter().all(|connection| connection.0.load(Ordering::Relaxed)));
    }
}
