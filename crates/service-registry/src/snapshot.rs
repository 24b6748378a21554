//! What everyone but the writers sees: one consistent picture of all replicas.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use types::{ReplicaId, ServiceName};

use crate::changes::Removed;
use crate::{
    Attestation, Attested, CallCounts, CrashLoop, Gate, Health, InFlight, Labels, LifecycleState, MeshPeer,
    Outcomes, Presence, Registration, Split, Verdict, Version,
};

/// All services at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with every publication.
    pub epoch: u64,
    /// The services in the order of the configuration.
    pub services: Vec<Arc<Service>>,
    /// Grows when services come or go, or change their order.
    pub(crate) list: u64,
    /// Where each one stands; shared by all snapshots between which no service comes or goes.
    places: Arc<HashMap<ServiceName, usize>>,
    /// Replicas that earlier ones had.
    pub(crate) removed: Arc<Removed>,
}

/// One service with its replicas.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The version that is wanted.
    pub version: Version,
    /// How its calls are divided between two versions, while one takes the place of the other.
    pub split: Option<Split>,
    /// Whether its being down makes the whole unhealthy.
    pub required: bool,
    /// How many replicas are wanted; those of other nodes are wanted there.
    pub desired: usize,
    /// Its replicas. While some come and others go there may be more of them. Each is found by its id, which says nothing of its
    /// place.
    pub replicas: Vec<Replica>,
}

/// One replica with its facts.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// Its lifecycle state.
    pub state: LifecycleState,
    /// Why it is in that state, where that is not plain.
    pub reason: Option<String>,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// What is known of it where it ends again and again.
    pub crash_loop: Option<Arc<CrashLoop>>,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Where it listens, once it does.
    pub instance: Option<Arc<Instance>>,
    /// Its health.
    pub health: Health,
    /// Its gate.
    pub gate: Gate,
    /// Its part of the calls beside that of the others, 1 to 1,000.
    pub weight: u32,
    /// Those of the lowest number serve while they can.
    pub priority: u32,
    /// Its attestation.
    pub attestation: Attestation,
    /// What else is said of it.
    pub labels: Option<Arc<Labels>>,
    /// Why it is there.
    pub presence: Presence,
    /// The epoch of the snapshot that shows it as it is for the first time; the registry sets it.
    pub changed_at: u64,
}

/// One run of a replica that listens. A restart makes a new one.
///
/// What each call reads comes first and lies together: of many instances, hardly anything is still in a core's caches when
/// the next call comes.
#[derive(Debug)]
#[repr(C)]
pub struct Instance {
    /// Which run of the replica; grows with every start, over all replicas.
    pub incarnation: u64,
    /// How calls end.
    pub outcomes: Outcomes,
    /// The requests that it has.
    pub in_flight: InFlight,
    /// The replica.
    pub replica: ReplicaId,
    /// Its version; the same allocation for all that have it from their service.
    pub version: Version,
    /// Where it listens.
    pub address: SocketAddr,
    /// Host and port as it is named: its address where it has no name.
    pub authority: String,
    /// How it is reached.
    pub channel: Channel,
    /// What stays when it is started again or found elsewhere: what hashing goes by.
    pub identity: String,
    /// When it was healthy for the first time.
    pub served_first: OnceLock<Instant>,
    /// The last health check.
    pub last_check: LastCheck,
    /// How many calls there were.
    pub calls: CallCounts,
}

/// How an instance is reached.
#[derive(Debug, Clone)]
pub enum Channel {
    /// In the clear.
    Plain,
    /// Under TLS, with a certificate of this name.
    Tls(String),
    /// Under TLS by which both sides show who they are, with a certificate of this peer's.
    Mesh(Arc<MeshPeer>),
}

impl Instance {
    /// A run that is reached in the clear, and is known by its replica; the fields say the rest.
    pub fn new(replica: ReplicaId, incarnation: u64, address: SocketAddr, version: Version) -> Self {
        Self {
            identity: replica.to_string(),
            replica,
            incarnation,
            address,
            authority: address.to_string(),
            version,
            channel: Channel::Plain,
            served_first: OnceLock::new(),
            in_flight: InFlight::default(),
            last_check: LastCheck::default(),
            outcomes: Outcomes::default(),
            calls: CallCounts::default(),
        }
    }
}

/// What the last check of an instance showed. Written by the health owner, read where it is displayed; it takes no part in
/// selection, so that a check that changes nothing publishes nothing.
#[derive(Debug, Default)]
pub struct LastCheck {
    /// Microseconds and one; 0 before the first passed check.
    latency: AtomicU64,
    error: Mutex<Option<String>>,
}

impl LastCheck {
    /// A check was passed in this time.
    pub fn passed(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX - 1);
        self.latency.store(micros + 1, Ordering::Relaxed);
    }

    /// A check failed.
    pub fn failed(&self, error: String) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// How long the last passed check took.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    /// How the last failed check failed.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The first fact that keeps a replica from being selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSelectable {
    /// Its lifecycle state.
    State(LifecycleState),
    /// Its attestation.
    Attestation(Attested),
    /// Its health.
    Health(Verdict),
}

impl fmt::Display for NotSelectable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(formatter, "{state}"),
            // `pending` alone would not say what.
            Self::Attestation(Attested::Pending) => formatter.write_str("not attested yet"),
            Self::Attestation(value) => write!(formatter, "not attested ({value})"),
            Self::Health(verdict) => formatter.write_str(verdict.as_str()),
        }
    }
}

impl Replica {
    /// A replica that was never started.
    pub fn stopped(id: ReplicaId, now: Timestamp) -> Self {
        Self {
            id,
            state: LifecycleState::Stopped,
            reason: Some("not started yet".into()),
            since: now,
            restarts: 0,
            crash_loop: None,
            pid: None,
            instance: None,
            health: Health { verdict: Verdict::Unknown, since: now, reason: None, answered: 0 },
            gate: Gate::Open,
            weight: 1,
            priority: 0,
            attestation: Attestation::pending(now),
            labels: None,
            presence: Presence::Given,
            changed_at: 0,
        }
    }

    /// It has registered itself.
    pub fn register(&mut self, registration: Arc<Registration>) {
        let said = &registration.description;
        self.weight = said.weight;
        self.say(said.zone.as_deref(), &said.metadata);
        self.presence = Presence::Registered(registration);
    }

    /// Forgets who had registered.
    pub fn vacate(&mut self) {
        self.weight = 1;
        self.say(None, &BTreeMap::new());
        self.presence = Presence::Vacant;
    }

    fn say(&mut self, zone: Option<&str>, metadata: &BTreeMap<String, String>) {
        let Some(labels) = &self.labels else { return };
        let (protocol, zone, metadata) = (labels.protocol, zone.map(Into::into), metadata.clone());
        self.labels = Some(Arc::new(Labels { protocol, zone, metadata }));
    }

    /// The one rule: selectable = Ready and attested and healthy and not gated.
    ///
    /// # Errors
    /// The first of the facts that is false.
    pub fn selectable(&self) -> Result<&Arc<Instance>, NotSelectable> {
        match (self.false_facts().next(), &self.instance) {
            (None, Some(instance)) => Ok(instance),
            (Some(fact), _) => Err(fact),
            (None, None) => Err(NotSelectable::State(self.state)),
        }
    }

    /// The facts that are false, in the order of the rule. What does not listen is not Ready.
    pub fn false_facts(&self) -> impl Iterator<Item = NotSelectable> {
        let is_ready = self.state == LifecycleState::Ready && self.instance.is_some();
        let is_healthy = self.health.verdict == Verdict::Healthy;
        let is_gated = match self.gate {
            Gate::Open => None,
        };
        let facts = [
            (!is_ready).then_some(NotSelectable::State(self.state)),
            (!self.attestation.holds()).then_some(NotSelectable::Attestation(self.attestation.value)),
            (!is_healthy).then_some(NotSelectable::Health(self.health.verdict)),
            is_gated,
        ];
        facts.into_iter().flatten()
    }

    /// Whether its health is all that keeps it from being selected, which a panic threshold may overrule.
    pub fn lacks_health_alone(&self) -> bool {
        let mut facts = self.false_facts();
        matches!((facts.next(), facts.next()), (Some(NotSelectable::Health(_)), None))
    }
}

impl Service {
    /// A replica by id.
    pub fn replica(&self, id: &ReplicaId) -> Option<&Replica> {
        self.place(id).map(|place| &self.replicas[place])
    }

    /// Where a replica stands: at its ordinal, unless others have come and gone.
    pub(crate) fn place(&self, id: &ReplicaId) -> Option<usize> {
        let ordinal = usize::try_from(id.ordinal).ok()?;
        let is_there = self.replicas.get(ordinal).is_some_and(|replica| replica.id == *id);
        if is_there { Some(ordinal) } else { self.replicas.iter().position(|replica| replica.id == *id) }
    }

    /// The replicas that may serve.
    pub fn selectable(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.replicas.iter().filter_map(|replica| replica.selectable().ok())
    }

    /// The median of the selectable replicas' last checks.
    pub fn median_latency(&self) -> Option<Duration> {
        let mut latencies: Vec<_> =
            self.selectable().filter_map(|instance| instance.last_check.latency()).collect();
        latencies.sort_unstable();
        latencies.get(latencies.len() / 2).copied()
    }
}

impl Snapshot {
    /// These services, whose names differ.
    pub fn new(epoch: u64, services: Vec<Arc<Service>>) -> Self {
        let places = services.iter().enumerate().map(|(place, service)| (service.name.clone(), place));
        Self { epoch, list: epoch, places: Arc::new(places.collect()), removed: Arc::default(), services }
    }

    /// The next one, in which one service is another.
    pub(crate) fn with(&self, place: usize, service: Service) -> Self {
        let mut services = self.services.clone();
        services[place] = Arc::new(service);
        Self {
            epoch: self.epoch + 1,
            list: self.list,
            services,
            places: Arc::clone(&self.places),
            removed: Arc::clone(&self.removed),
        }
    }

    /// A service by name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.place(name).map(|place| &self.services[place])
    }

    /// Where a service stands.
    pub(crate) fn place(&self, name: &ServiceName) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// A replica by id.
    pub fn replica(&self, id: &ReplicaId) -> Option<&Replica> {
        self.service(&id.service)?.replica(id)
    }
}
