//! The connections that are open, and who makes room for whom.
//!
//! Strangers take no room from members, and no member takes that of the others. Among strangers the oldest whose join is not
//! being decided makes room for whoever comes next: somebody who connects again and again keeps no first join out, and cuts none
//! off that is waiting for its turn. A member is what its certificate says, so one that has as many connections as it may have is
//! told to make do with them: its newest is closed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_protocol::SpiffeId;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

/// How often the log says that there is no room, for each limit.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// How many connections there may be at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Those that have not said who they are; the oldest makes room for another.
    pub(super) handshakes: usize,
    /// Those without a certificate: as many as first joins may wait, and as many again; the oldest makes room for another.
    pub(super) strangers: usize,
    /// Those with one.
    pub(super) members: usize,
    /// Those of one SPIFFE ID.
    pub(super) of_one: usize,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Full {
    Strangers,
    Members,
    OfOne,
}

/// The connections behind their handshakes.
pub(super) struct Connections {
    limits: Limits,
    members: JoinSet<()>,
    /// Whose each of them is.
    owners: HashMap<Id, SpiffeId>,
    /// How many each has.
    counts: HashMap<SpiffeId, usize>,
    strangers: JoinSet<()>,
    oldest_first: VecDeque<(AbortHandle, Joins)>,
    said: Said,
}

/// Whether a stranger's join is being decided; its clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Joins(Arc<AtomicBool>);

/// A join that is being decided.
pub(super) struct Deciding(Joins);

impl Joins {
    /// It is, until what this gives is dropped.
    pub(super) fn begin(&self) -> Deciding {
        self.0.store(true, Ordering::Relaxed);
        Deciding(self.clone())
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Connections {
    /// None yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            members: JoinSet::new(),
            owners: HashMap::new(),
            counts: HashMap::new(),
            strangers: JoinSet::new(),
            oldest_first: VecDeque::new(),
            said: Said::default(),
        }
    }

    /// Answers on a connection, where there is room for it; `peer` has shown a certificate.
    pub(super) fn begin(
        &mut self,
        peer: Option<SpiffeId>,
        joins: Joins,
        answer: impl Future<Output = ()> + Send + 'static,
    ) {
        match peer {
            Some(id) => self.begin_member(id, answer),
            None => self.begin_stranger(joins, answer),
        }
    }

    /// Takes those that have ended out of the count. It may be dropped at any time.
    pub(super) async fn clear(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(ended) = self.members.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    self.forget(id);
                }
                Some(_ended) = self.strangers.join_next() => {}
                else => std::future::pending().await,
            }
        }
    }

    fn begin_member(&mut self, id: SpiffeId, answer: impl Future<Output = ()> + Send + 'static) {
        let own = self.counts.get(&id).copied().unwrap_or_default();
        if own >= self.limits.of_one {
            return self.no_room(Full::OfOne, self.limits.of_one, Some(&id));
        }
        if self.members.len() >= self.limits.members {
            return self.no_room(Full::Members, self.limits.members, Some(&id));
        }
        let connection = self.members.spawn(answer).id();
        self.counts.insert(id.clone(), own + 1);
        self.owners.insert(connection, id);
    }

    fn begin_stranger(&mut self, joins: Joins, answer: impl Future<Output = ()> + Send + 'static) {
        self.oldest_first.retain(|(stranger, _)| !stranger.is_finished());
        if self.oldest_first.len() >= self.limits.strangers {
            self.no_room(Full::Strangers, self.limits.strangers, None);
            let idle = self.oldest_first.iter().position(|(_, joins)| !joins.0.load(Ordering::Relaxed));
            // Where all of them join, whoever comes now has the least to lose.
            let Some((oldest, _)) = idle.and_then(|place| self.oldest_first.remove(place)) else { return };
            oldest.abort();
        }
        self.oldest_first.push_back((self.strangers.spawn(answer), joins));
    }

    fn forget(&mut self, connection: Id) {
        let Some(id) = self.owners.remove(&connection) else { return };
        match self.counts.get_mut(&id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.counts.remove(&id)),
        }
    }

    fn no_room(&mut self, full: Full, most: usize, peer: Option<&SpiffeId>) {
        let Some(times) = self.said.again(full, Instant::now()) else { return };
        let peer = peer.map(ToString::to_string);
        match full {
            Full::OfOne => {
                tracing::warn!(
                    peer,
                    most,
                    times,
                    "a member has as many connections to the mesh API as it may have; its newest is closed"
                );
            }
            Full::Members => {
                tracing::warn!(
                    peer,
                    most,
                    times,
                    "the mesh API has no room for another connection of a member"
                );
            }
            Full::Strangers => {
                tracing::warn!(
                    most,
                    times,
                    "the mesh API has no room for another connection without a certificate; one that joins nothing is closed for it, or it is closed itself"
                );
            }
        }
    }
}

/// What the log has said already, and what it has kept back since.
#[derive(Default)]
struct Said(BTreeMap<Full, (Instant, u64)>);

impl Said {
    /// How often it happened since it was said last, this time included; `None` where it was said a moment ago.
    fn again(&mut self, full: Full, now: Instant) -> Option<u64> {
        let kept_back = match self.0.get_mut(&full) {
            Some((said, kept_back)) if now.duration_since(*said) < SAID_AGAIN => {
                *kept_back += 1;
                return None;
            }
            Some((_, kept_back)) => *kept_back,
            None => 0,
        };
        self.0.insert(full, (now, 0));
        Some(kept_back + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_is_said_once_in_a_while_for_each_limit() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let mut after = |full, seconds| said.again(full, begun + Duration::from_secs(seconds));
        assert_eq!(after(Full::Strangers, 0), Some(1));
        assert_eq!((after(Full::Strangers, 1), after(Full::Strangers, 59)), (None, None));
        assert_eq!(after(Full::OfOne, 59), Some(1));
        assert_eq!(after(Full::Strangers, 60), Some(3));
        assert_eq!(after(Full::Strangers, 61), None);
    }
}
