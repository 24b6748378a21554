//! Services and their instances as others see them: what `serviceos services` and `serviceos instances` print, stable
//! contracts, and the revisions that a watcher comes back with.

mod document;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use service_registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as published};
use types::ServiceName;

pub use document::{InstanceChanges, InstanceEntry, Instances, ServiceEntry, Services};
pub use watch::InstanceEvent;
pub(crate) use watch::Watch;

/// Streams of changes at once, on the port and on the socket together.
const MAX_WATCHERS: usize = 64;

/// What the configuration says of a service and the registry does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Who answers its calls.
    pub kind: ServiceKind,
    /// How many routes lead to it.
    pub routes: usize,
}

/// Who answers the calls of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKind {
    /// A service that ships with ServiceOS.
    Builtin,
    /// A program of the operator's own.
    Command,
    /// Replicas that somebody starts by hand.
    Elsewhere,
    /// Servers that the configuration names.
    Endpoints,
}

/// What is described of each service.
pub type Descriptions = Arc<BTreeMap<ServiceName, Described>>;

/// Everything that the catalogue is made of. Clones share it.
#[derive(Clone)]
pub struct Catalogue {
    registry: Registry,
    run: u64,
    described: published::Receiver<Descriptions>,
    places: Arc<Semaphore>,
}

/// A published snapshot of the registry of one run of `up`. To others it is a text that they bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    run: u64,
    epoch: u64,
}

impl ServiceKind {
    /// The word in `serviceos services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Command => "command",
            Self::Elsewhere => "elsewhere",
            Self::Endpoints => "endpoints",
        }
    }
}

impl Catalogue {
    /// The catalogue of a run that began at this moment, which tells it from every other run.
    pub fn new(registry: Registry, began: Timestamp, described: published::Receiver<Descriptions>) -> Self {
        let run = u64::try_from(began.as_millisecond()).unwrap_or_default();
        Self { registry, run, described, places: Arc::new(Semaphore::new(MAX_WATCHERS)) }
    }

    /// All services.
    pub(crate) fn services(&self) -> Services {
        let (snapshot, described) = (self.registry.snapshot(), Arc::clone(&self.described.borrow()));
        let entry = |service: &Arc<_>| ServiceEntry::new(service, &described);
        Services { services: snapshot.services.iter().map(entry).collect() }
    }

    /// Whether there is such a service.
    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.registry.snapshot().service(name).is_some()
    }

    /// Who answers the calls of a service.
    pub(crate) fn kind(&self, name: &ServiceName) -> Option<ServiceKind> {
        self.described.borrow().get(name).map(|described| described.kind)
    }

    /// The instances of one service, or of all.
    pub(crate) fn instances(&self, service: Option<&ServiceName>) -> Instances {
        Instances::of(&self.registry.snapshot(), service, self.run)
    }

    /// What somebody is to be told who knows what there was at a revision; all of it where that is none of this run's.
    pub(crate) fn watch(&self, service: Option<ServiceName>, known: &str) -> Watch {
        let known = Revision::parse(known).filter(|revision| revision.run == self.run);
        Watch::new(self.registry.subscribe(), service, self.run, known.map(|revision| revision.epoch))
    }

    /// A place for a stream, held while it lasts; `None` when all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

impl Revision {
    fn parse(text: &str) -> Option<Self> {
        let (run, epoch) = text.split_once('-')?;
        Some(Self { run: u64::from_str_radix(run, 16).ok()?, epoch: epoch.parse().ok()? })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{}", self.run, self.epoch)
    }
}

#[cfg(test)]
mod tests;
