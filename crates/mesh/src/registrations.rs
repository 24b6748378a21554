//! Replicas that somebody else has started: they register themselves, and are there for as long as the lease that they are given
//! is renewed.
//!
//! ```text
//!              register                 leave
//!     nobody ───────────▶ lease held ───────────▶ lease held, drained ──▶ told to end
//!       ▲      a larger token   │ ▲ renewed                 │
//!       └────── lease over ◀────┘ └─ within the time left ◀─┘
//! ```
//!
//! Leases live in memory and on tokio's clock. What is written down of a registration, and that its token is larger than any
//! before, is `token.rs`.

mod token;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::{EndOrder, LEASE_TTL, LeaseRequest, RUN_BYTES, sha256, to_hex};
use service_registry::Registration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};
use types::{Description, ReplicaId, ServiceName};

pub(crate) use token::next_token;

/// How long nobody else is invited to a place, if there is another: as long as a launch ticket is good.
const INVITATION: Duration = Duration::from_secs(120);
/// What is left of a lease once no connection of its holder is: a process that lives connects again at once, and a network that is
/// gone ends no connection, so one that ends is mostly that of a process which has ended.
const UNCONNECTED: Duration = Duration::from_secs(1);
/// The length of a lease's name, in bytes of a digest.
const LEASE_BYTES: usize = 8;

/// What a process that registers itself is known by, for as long as it runs.
pub(crate) type Run = [u8; RUN_BYTES];

/// The places of the replicas that register themselves; its clones are the same.
#[derive(Clone, Default)]
pub struct Registrations(Arc<BTreeMap<ReplicaId, Place>>);

/// The place of one replica.
#[derive(Default)]
struct Place {
    /// Who has it.
    life: watch::Sender<Option<Registered>>,
    /// When somebody was invited to it who has not come yet.
    invited: Mutex<Option<Instant>>,
}

/// Who asks for a place.
#[derive(Debug, Clone)]
pub(crate) struct Applicant {
    pub(crate) run: Run,
    pub(crate) address: SocketAddr,
    /// SHA-256 of the certificate that it shows.
    pub(crate) leaf: [u8; 32],
    pub(crate) description: Description,
}

/// A process that has registered itself, until its lease is over; its clones are the same one.
#[derive(Clone)]
pub struct Registered {
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 of the certificate that it has registered itself with.
    pub leaf: [u8; 32],
    /// What the registry is told.
    pub registration: Arc<Registration>,
    run: Run,
    facts: watch::Sender<Facts>,
}

#[derive(Debug, Clone)]
struct Facts {
    /// Until when the lease holds, unless it is renewed.
    until: Instant,
    /// Its open connections.
    connections: usize,
    /// It asks to be drained.
    leaves: bool,
    /// What it is told when it is to end.
    told: Option<EndOrder>,
    /// Why it is not there any more.
    over: Option<String>,
}

/// Why somebody does not have a place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LeaseError {
    /// There is no such place.
    #[error("{0} is started by serviceos itself, which knows where it listens")]
    NotExpected(ReplicaId),
    /// The lease is over, or is none of this mesh API's.
    #[error("{0} holds no such lease any more: register again")]
    Ended(ReplicaId),
    /// Somebody else has registered since.
    #[error("another process has taken the place of {0}")]
    Fenced(ReplicaId),
}

/// An open connection of a process that has registered itself. Dropped with it.
struct Connected(Registered);

/// What holds a lease together with a connection; its clones are those of one connection.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<Connected>>>);

impl Registrations {
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
        let Some(place) = self.0.get(replica).filter(|place| place.present().is_none()) else { return false };
        *place.invited() = Some(Instant::now());
        true
    }

    /// Invites to the first free place of a service: to one that nobody was invited to lately, if there is one.
    pub fn invite_to_any(&self, service: &ServiceName) -> Option<ReplicaId> {
        let free = || {
            let of_service = self.0.iter().filter(|(replica, _)| replica.service == *service);
            of_service.filter(|(_, place)| place.present().is_none())
        };
        let forgotten = |place: &Place| place.invited().is_none_or(|since| since.elapsed() > INVITATION);
        let (replica, _) = free().find(|(_, place)| forgotten(place)).or_else(|| free().next())?;
        self.invite(replica).then(|| replica.clone())
    }

    /// The process in the place of a replica, if there is one.
    pub fn present(&self, replica: &ReplicaId) -> Option<Registered> {
        self.0.get(replica)?.present()
    }

    /// Waits for a process to register itself as that replica; one that has no place never does.
    pub async fn arrived(&self, replica: &ReplicaId) {
        let Some(place) = self.0.get(replica) else { return std::future::pending().await };
        let is_there = |life: &Option<Registered>| life.as_ref().is_some_and(Registered::is_there);
        let _this_holds_the_sender = place.life.subscribe().wait_for(is_there).await.is_ok();
    }

    /// The lease that this process holds already, renewed; whoever has lost the answer asks once more.
    ///
    /// # Errors
    /// There is no such place.
    pub(crate) fn known(
        &self,
        replica: &ReplicaId,
        applicant: &Applicant,
    ) -> Result<Option<Registered>, LeaseError> {
        let known = self.place(replica)?.present();
        Ok(known.filter(|known| known.is(applicant) && known.told().is_none() && known.extend()))
    }

    /// Gives the place of a replica to a process, with a token that was made for this. Whoever had it before has it no more.
    ///
    /// # Errors
    /// There is no such place, or somebody has it with a token that was made later.
    pub(crate) fn register(
        &self,
        replica: &ReplicaId,
        applicant: Applicant,
        fencing_token: u64,
    ) -> Result<Registered, LeaseError> {
        let place = self.place(replica)?;
        let arrived = Registered::new(applicant, fencing_token);
        let mut former = None;
        let is_newer = place.life.send_if_modified(|life| {
            if life.as_ref().is_some_and(|known| known.token() >= fencing_token) {
                return false;
            }
            former = life.replace(arrived.clone());
            true
        });
        if !is_newer {
            return Err(LeaseError::Fenced(replica.clone()));
        }
        *place.invited() = None;
        if let Some(former) = former {
            former.give_up(&EndOrder::Failed("another process has taken its place".into()));
        }
        Ok(arrived)
    }

    /// Renews a lease.
    ///
    /// # Errors
    /// It is not held.
    pub(crate) fn renew(
        &self,
        replica: &ReplicaId,
        request: &LeaseRequest,
    ) -> Result<Registered, LeaseError> {
        let registered = self.held(replica, request)?;
        // Whoever is told to end is told so also when it is late.
        let holds = registered.extend() || registered.told().is_some();
        if holds { Ok(registered) } else { Err(LeaseError::Ended(replica.clone())) }
    }

    /// A process asks to be drained.
    ///
    /// # Errors
    /// It does not hold the lease.
    pub(crate) fn leave(&self, replica: &ReplicaId, request: &LeaseRequest) -> Result<(), LeaseError> {
        let registered = self.held(replica, request)?;
        if !registered.is_there() {
            return Err(LeaseError::Ended(replica.clone()));
        }
        registered.facts.send_modify(|facts| facts.leaves = true);
        Ok(())
    }

    /// The process of a lease, whether that is over or not.
    fn held(&self, replica: &ReplicaId, request: &LeaseRequest) -> Result<Registered, LeaseError> {
        let known = self.place(replica)?.life.borrow().clone();
        match known {
            Some(known) if known.token() > request.fencing_token => Err(LeaseError::Fenced(replica.clone())),
            Some(known)
                if known.token() == request.fencing_token && known.registration.lease == request.lease =>
            {
                Ok(known)
            }
            Some(_) | None => Err(LeaseError::Ended(replica.clone())),
        }
    }

    fn place(&self, replica: &ReplicaId) -> Result<&Place, LeaseError> {
        self.0.get(replica).ok_or_else(|| LeaseError::NotExpected(replica.clone()))
    }
}

impl Place {
    fn present(&self) -> Option<Registered> {
        self.life.borrow().clone().filter(Registered::is_there)
    }

    fn invited(&self) -> MutexGuard<'_, Option<Instant>> {
        self.invited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    fn new(applicant: Applicant, fencing_token: u64) -> Self {
        let Applicant { run, address, leaf, description } = applicant;
        let name = sha256(&[&run[..], &fencing_token.to_be_bytes()].concat());
        let lease = to_hex(&name[..LEASE_BYTES]);
        let until = Instant::now() + LEASE_TTL;
        let facts = Facts { until, connections: 0, leaves: false, told: None, over: None };
        let registration = Arc::new(Registration { lease, fencing_token, description });
        Self { address, leaf, registration, run, facts: watch::Sender::new(facts) }
    }

    /// Waits until it is not there any more, and says how that is known.
    pub async fn gone(&self) -> String {
        let mut facts = self.facts.subscribe();
        loop {
            self.look();
            let (over, until) = {
                let facts = facts.borrow_and_update();
                (facts.over.clone(), facts.until)
            };
            if let Some(reason) = over {
                return reason;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                _this_holds_the_sender = facts.changed() => {}
            }
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

    /// Waits until it is to end, and gives what it is told then.
    pub(crate) async fn ordered(&self) -> EndOrder {
        let mut facts = self.facts.subscribe();
        match facts.wait_for(|facts| facts.told.is_some()).await {
            Ok(facts) => facts.told.clone().expect("it was waited for"),
            Err(_) => unreachable!("this holds the sender"),
        }
    }

    /// Tells it to end, unless its lease is over: it may register again then.
    pub fn tell_to_end(&self, order: &EndOrder) {
        self.facts.send_if_modified(|facts| {
            let is_first = facts.over.is_none() && facts.told.is_none();
            if is_first {
                facts.told = Some(order.clone());
            }
            is_first
        });
    }

    /// Waits for it no longer.
    pub fn give_up(&self, order: &EndOrder) {
        self.tell_to_end(order);
        let (EndOrder::Wanted(reason) | EndOrder::Failed(reason)) = order;
        self.facts.send_modify(|facts| {
            facts.over.get_or_insert_with(|| reason.clone());
        });
    }

    fn token(&self) -> u64 {
        self.registration.fencing_token
    }

    fn told(&self) -> Option<EndOrder> {
        self.facts.borrow().told.clone()
    }

    /// Whether it is this process, and says the same of itself.
    fn is(&self, applicant: &Applicant) -> bool {
        (self.run, self.address) == (applicant.run, applicant.address)
            && self.registration.description == applicant.description
    }

    fn is_there(&self) -> bool {
        self.look();
        self.facts.borrow().over.is_none()
    }

    /// Whether the lease holds, and holds from now on for its whole time.
    fn extend(&self) -> bool {
        self.look();
        let mut holds = false;
        self.facts.send_if_modified(|facts| {
            holds = facts.over.is_none();
            if holds {
                facts.until = Instant::now() + LEASE_TTL;
            }
            holds
        });
        holds
    }

    /// Ends the lease where its time is over: from then on nothing renews it.
    fn look(&self) {
        self.facts.send_if_modified(|facts| {
            let is_over = facts.over.is_none() && facts.until <= Instant::now();
            if is_over {
                facts.over = Some(if facts.connections == 0 {
                    format!(
                        "its lease ended: its connection to the mesh did, and there was no other within {UNCONNECTED:?}"
                    )
                } else {
                    format!("its lease ended: it was not renewed within {LEASE_TTL:?}")
                });
            }
            is_over
        });
    }
}

impl Held {
    /// The process of a lease speaks over this connection.
    pub(crate) fn hold(&self, registered: &Registered) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| !Arc::ptr_eq(&held.0.registration, &registered.registration)) {
            registered.facts.send_modify(|facts| facts.connections += 1);
            *held = Some(Connected(registered.clone()));
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.facts.send_modify(|facts| {
            facts.connections -= 1;
            if facts.connections > 0 {
                return;
            }
            facts.until = facts.until.min(Instant::now() + UNCONNECTED);
            if facts.told.is_some() {
                // Nobody who was told to end comes again.
                facts.over.get_or_insert_with(|| "it ended, as it was told".into());
            }
        });
    }
}

#[cfg(test)]
mod tests;
