//! Replicas that somebody else has started: they say themselves where they listen, over a connection of their own to the mesh
//! API, and are there for as long as one of their connections is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::{AnnounceAnswer, RUN_BYTES};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use types::{ReplicaId, ServiceName};

/// How long nobody else is invited to a place, if there is another: as long as a launch ticket is good.
const INVITATION: Duration = Duration::from_secs(120);

/// What a process that announces itself is known by, for as long as it runs.
pub(crate) type Run = [u8; RUN_BYTES];

/// The places of the replicas that may announce themselves; its clones are the same.
#[derive(Clone, Default)]
pub struct Announcements(Arc<BTreeMap<ReplicaId, Place>>);

/// The place of one replica.
#[derive(Default)]
struct Place {
    /// Who has it.
    life: watch::Sender<Option<Announced>>,
    /// When somebody was invited to it who has not come yet.
    invited: Mutex<Option<Instant>>,
}

/// A process that has announced itself, from its first connection to its last; its clones are the same one.
#[derive(Clone)]
pub struct Announced {
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 of the certificate that it has announced itself with.
    pub leaf: [u8; 32],
    run: Run,
    facts: watch::Sender<Facts>,
}

#[derive(Debug, Clone, Default)]
struct Facts {
    /// Its open connections.
    connections: usize,
    /// It asks to be drained.
    leaves: bool,
    /// What it is told when it is to end.
    told: Option<AnnounceAnswer>,
    /// Another process has taken its place, or nobody waits for it any more.
    given_up: Option<String>,
}

/// A connection over which a process has announced itself. Dropped with it.
pub(crate) struct Connected(Announced);

impl Announcements {
    /// Places for these replicas.
    pub fn of(replicas: impl IntoIterator<Item = ReplicaId>) -> Self {
        Self(Arc::new(replicas.into_iter().map(|replica| (replica, Place::default())).collect()))
    }

    /// The replicas that have a place, in the order of their names.
    pub fn replicas(&self) -> impl Iterator<Item = &ReplicaId> {
        self.0.keys()
    }

    /// Whether nobody has the place of a replica. Whoever is invited to it now has it to himself for a while, as far as others let
    /// this choose.
    pub fn invite(&self, replica: &ReplicaId) -> bool {
        let Some(place) = self.0.get(replica).filter(|place| !place.is_taken()) else { return false };
        *place.invited() = Some(Instant::now());
        true
    }

    /// Invites to the first free place of a service: to one that nobody was invited to lately, if there is one.
    pub fn invite_to_any(&self, service: &ServiceName) -> Option<ReplicaId> {
        let free = || {
            let of_service = self.0.iter().filter(|(replica, _)| replica.service == *service);
            of_service.filter(|(_, place)| !place.is_taken())
        };
        let forgotten = |place: &Place| place.invited().is_none_or(|since| since.elapsed() > INVITATION);
        let (replica, _) = free().find(|(_, place)| forgotten(place)).or_else(|| free().next())?;
        self.invite(replica).then(|| replica.clone())
    }

    /// Whether there is a process in the place of a replica.
    pub(crate) fn is_taken(&self, replica: &ReplicaId) -> bool {
        self.0.get(replica).is_some_and(Place::is_taken)
    }

    /// The process in the place of a replica, if there is one.
    pub fn present(&self, replica: &ReplicaId) -> Option<Announced> {
        self.0.get(replica)?.life.borrow().clone().filter(Announced::is_there)
    }

    /// Waits for a process to announce itself as that replica; one that has no place never does.
    pub async fn arrived(&self, replica: &ReplicaId) {
        let Some(place) = self.0.get(replica) else { return std::future::pending().await };
        let is_there = |life: &Option<Announced>| life.as_ref().is_some_and(Announced::is_there);
        let _this_holds_the_sender = place.life.subscribe().wait_for(is_there).await.is_ok();
    }

    /// Takes a connection of a process. Another process in the place is one that is not there any more: whoever has joined last is
    /// the replica.
    pub(crate) fn connect(
        &self,
        replica: &ReplicaId,
        run: Run,
        address: SocketAddr,
        leaf: [u8; 32],
    ) -> Option<Connected> {
        let place = self.0.get(replica)?;
        let known = place.life.borrow().clone();
        if let Some(known) = &known
            && known.run == run
            && known.address == address
            && known.connected_again()
        {
            return Some(Connected(known.clone()));
        }
        let facts = Facts { connections: 1, ..Facts::default() };
        let arrived = Announced { address, leaf, run, facts: watch::Sender::new(facts) };
        place.life.send_replace(Some(arrived.clone()));
        *place.invited() = None;
        if let Some(known) = known {
            known.give_up(&AnnounceAnswer::Failed("another process has taken its place".into()));
        }
        Some(Connected(arrived))
    }

    /// A process asks to be drained; `false` where it is not there.
    pub(crate) fn leave(&self, replica: &ReplicaId, run: Run) -> bool {
        let known = self.0.get(replica).and_then(|place| place.life.borrow().clone());
        let known = known.filter(|known| known.run == run && known.is_there());
        if let Some(known) = &known {
            known.facts.send_modify(|facts| facts.leaves = true);
        }
        known.is_some()
    }
}

impl Place {
    fn is_taken(&self) -> bool {
        self.life.borrow().as_ref().is_some_and(Announced::is_there)
    }

    fn invited(&self) -> MutexGuard<'_, Option<Instant>> {
        self.invited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Announced {
    /// Waits until it is not there any more, and says how that is known.
    pub async fn gone(&self) -> String {
        let mut facts = self.facts.subscribe();
        match facts.wait_for(|facts| !facts.is_there()).await {
            Ok(facts) => facts.given_up.clone().unwrap_or_else(|| "its connection to the mesh ended".into()),
            Err(_) => unreachable!("this holds the sender"),
        }
    }

    /// Waits until it asks to be drained.
    pub fn leaves(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut facts = self.facts.subscribe();
        async move {
            if facts.wait_for(|facts| facts.leaves).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells it to end.
    pub fn tell_to_end(&self, answer: &AnnounceAnswer) {
        self.facts.send_modify(|facts| {
            facts.told.get_or_insert_with(|| answer.clone());
        });
    }

    /// Waits for it no longer.
    pub fn give_up(&self, answer: &AnnounceAnswer) {
        self.tell_to_end(answer);
        let (AnnounceAnswer::Wanted(reason) | AnnounceAnswer::Failed(reason)) = answer;
        self.facts.send_modify(|facts| {
            facts.given_up.get_or_insert_with(|| reason.clone());
        });
    }

    fn is_there(&self) -> bool {
        self.facts.borrow().is_there()
    }

    /// Counts one connection more, unless it is gone.
    fn connected_again(&self) -> bool {
        self.facts.send_if_modified(|facts| {
            let is_there = facts.is_there();
            facts.connections += usize::from(is_there);
            is_there
        })
    }
}

impl Facts {
    fn is_there(&self) -> bool {
        self.connections > 0 && self.given_up.is_none()
    }
}

impl Connected {
    /// Waits until the process is to end, and gives what it is told then.
    pub(crate) async fn told(&self) -> AnnounceAnswer {
        let mut facts = self.0.facts.subscribe();
        match facts.wait_for(|facts| facts.told.is_some()).await {
            Ok(facts) => facts.told.clone().expect("it was waited for"),
            Err(_) => unreachable!("this holds the sender"),
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.facts.send_modify(|facts| facts.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const RUN: Run = [1; RUN_BYTES];

    /// What something gives without waiting.
    async fn now<T>(something: impl Future<Output = T>) -> Option<T> {
        timeout(Duration::ZERO, something).await.ok()
    }

    fn place() -> (Announcements, ReplicaId) {
        let replica: ReplicaId = "infer/0".parse().unwrap();
        (Announcements::of([replica.clone()]), replica)
    }

    fn connected(announcements: &Announcements, replica: &ReplicaId, run: Run) -> Connected {
        announcements.connect(replica, run, ([127, 0, 0, 1], 4000).into(), [9; 32]).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_there_for_as_long_as_one_of_its_connections_is() {
        let (announcements, replica) = place();
        assert!(now(announcements.arrived(&replica)).await.is_none());
        let first = connected(&announcements, &replica, RUN);
        let life = announcements.present(&replica).unwrap();
        // A new certificate, a new connection: the same process.
        let second = connected(&announcements, &replica, RUN);
        drop(first);
        assert!(now(life.gone()).await.is_none());
        drop(second);
        assert_eq!(life.gone().await, "its connection to the mesh ended");
        assert!(now(announcements.arrived(&replica)).await.is_none(), "nobody is there");
        let _again = connected(&announcements, &replica, RUN);
        assert!(now(announcements.arrived(&replica)).await.is_some());
        assert!(now(life.gone()).await.is_some(), "that is another life");
    }

    #[tokio::test]
    async fn whoever_has_joined_last_has_the_place() {
        let (announcements, replica) = place();
        let first = connected(&announcements, &replica, RUN);
        let before = announcements.present(&replica).unwrap();
        let _second = connected(&announcements, &replica, [2; RUN_BYTES]);
        assert_eq!(before.gone().await, "another process has taken its place");
        assert_eq!(first.told().await, AnnounceAnswer::Failed("another process has taken its place".into()));
        let latest = announcements.present(&replica).unwrap();
        assert!(now(latest.gone()).await.is_none());
        assert!(!announcements.leave(&replica, RUN), "it speaks for nobody any more");
        assert!(now(latest.leaves()).await.is_none());
    }

    #[tokio::test]
    async fn one_that_leaves_is_told_when_to_end() {
        let (announcements, replica) = place();
        let connected = connected(&announcements, &replica, RUN);
        let life = announcements.present(&replica).unwrap();
        assert!(announcements.leave(&replica, RUN));
        life.leaves().await;
        assert!(now(connected.told()).await.is_none(), "its requests are not done yet");
        life.tell_to_end(&AnnounceAnswer::Wanted("drained".into()));
        assert_eq!(connected.told().await, AnnounceAnswer::Wanted("drained".into()));
        assert!(now(life.gone()).await.is_none());
        life.give_up(&AnnounceAnswer::Failed("it did not end in time".into()));
        assert_eq!(life.gone().await, "it did not end in time");
    }

    #[tokio::test(start_paused = true)]
    async fn two_are_not_invited_to_one_place_while_there_is_another() {
        let ids: Vec<ReplicaId> = ["infer/0", "infer/1", "other/0"].map(|id| id.parse().unwrap()).into();
        let (announcements, infer) = (Announcements::of(ids.clone()), &ids[0].service);
        let invited = || announcements.invite_to_any(infer).map(|replica| replica.ordinal);
        assert_eq!((invited(), invited()), (Some(0), Some(1)));
        assert_eq!(invited(), Some(0), "the first one has not come; this may be another try");
        let there = connected(&announcements, &ids[0], RUN);
        assert_eq!(invited(), Some(1));
        assert!(!announcements.invite(&ids[0]), "somebody is there");
        let _there_too = connected(&announcements, &ids[1], RUN);
        assert_eq!(invited(), None);
        drop(there);
        assert!(announcements.invite(&ids[0]));
        tokio::time::advance(INVITATION + Duration::from_millis(1)).await;
        assert_eq!(invited(), Some(0));
        assert!(!announcements.invite(&"infer/2".parse().unwrap()));
    }

    #[test]
    fn a_replica_without_a_place_announces_nothing() {
        let (announcements, _) = place();
        let other = "vrf/0".parse().unwrap();
        assert!(announcements.connect(&other, RUN, ([127, 0, 0, 1], 1).into(), [0; 32]).is_none());
        assert!(!announcements.leave(&other, RUN));
    }
}
