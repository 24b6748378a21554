//! What has happened to replicas and services, in its order: the latest are kept, and whoever follows is told of each.
//!
//! It holds no facts: those are in the snapshots. What happened before this process began is not here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use types::{ReplicaId, ServiceName};

use crate::LifecycleState;

/// Events that are kept; the oldest one makes room.
pub const MAX_EVENTS: usize = 10_000;
/// Of a cause so many bytes are kept.
const MAX_CAUSE_BYTES: usize = 2 << 10;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place: 1 for the first of this process, one more for each.
    pub number: u64,
    /// The same among those of its service, or of none.
    pub of_service: u64,
    /// When it happened.
    pub time: Timestamp,
    /// To what.
    pub subject: Subject,
    /// What.
    pub what: What,
    /// Why, where that is not plain.
    pub cause: Option<String>,
    /// Who wanted it so.
    pub actor: Actor,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One replica.
    Replica(ReplicaId),
    /// A whole service.
    Service(ServiceName),
    /// This process, and so all of them.
    Process,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A replica took this transition.
    State {
        /// From this state.
        from: LifecycleState,
        /// To this one.
        to: LifecycleState,
    },
    /// A replica ends again and again, soon after it is started.
    CrashLoop,
    /// So many replicas are wanted.
    Scaled {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// A rollout has come to this stage.
    Rollout(String),
    /// This process serves in the place of another one.
    Takeover {
        /// The number of that process.
        from: u32,
        /// The number of this one.
        to: u32,
    },
}

/// Who wants something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The supervisor, by its own rules.
    Supervisor,
    /// An operator: the command line, or whoever has the admin token.
    Operator,
    /// The configuration file.
    Configuration,
    /// A rollout, by its plan.
    Rollout,
    /// The replica itself.
    Replica,
    /// The trust authority.
    Authority,
}

impl Actor {
    /// As it is written.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Operator => "operator",
            Self::Configuration => "configuration",
            Self::Rollout => "rollout",
            Self::Replica => "replica",
            Self::Authority => "authority",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Subject {
    /// The service that it belongs to; none where it is no service's.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Replica(id) => Some(&id.service),
            Self::Service(name) => Some(name),
            Self::Process => None,
        }
    }
}

/// The events of this process; clones are the same.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    /// The number of the latest one.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    /// How many there ever were of each service, and of none.
    of_services: BTreeMap<Option<ServiceName>, u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Inner { kept: Mutex::default(), last: watch::Sender::new(0) }))
    }
}

impl Events {
    /// Writes down what happens now.
    pub fn record(&self, subject: Subject, what: What, cause: Option<String>, actor: Actor) {
        let cause = cause.map(shortened);
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.0.last.borrow() + 1;
        if kept.events.len() == MAX_EVENTS {
            kept.events.pop_front();
        }
        let of_service = kept.of_services.entry(subject.service().cloned()).or_default();
        *of_service += 1;
        let (of_service, time) = (*of_service, Timestamp::now());
        kept.events.push_back(Arc::new(Event { number, of_service, time, subject, what, cause, actor }));
        // Under the lock, so that numbers are published in their order.
        self.0.last.send_replace(number);
    }

    /// Those that are kept and came after this one, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Arc<Event>> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = kept.events.partition_point(|event| event.number <= number);
        kept.events.range(begin..).cloned().collect()
    }

    /// The number of the latest one, and of every later one.
    pub fn last(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }
}

fn shortened(mut cause: String) -> String {
    if cause.len() > MAX_CAUSE_BYTES {
        let end = (0..=MAX_CAUSE_BYTES).rev().find(|end| cause.is_char_boundary(*end)).unwrap_or(0);
        cause.truncate(end);
        cause.push('…');
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(events: &Events, cause: &str) {
        let (from, to) = (LifecycleState::Starting, LifecycleState::Ready);
        let subject = Subject::Replica("vrf/0".parse().unwrap());
        events.record(subject, What::State { from, to }, Some(cause.to_owned()), Actor::Supervisor);
    }

    #[tokio::test]
    async fn events_are_numbered_and_the_latest_are_kept() {
        let events = Events::default();
        let mut last = events.last();
        for number in 0..MAX_EVENTS + 5 {
            record(&events, &number.to_string());
        }
        assert_eq!(*last.borrow_and_update(), MAX_EVENTS as u64 + 5);
        let kept = events.after(0);
        assert_eq!((kept.len(), kept[0].number, kept[0].cause.as_deref()), (MAX_EVENTS, 6, Some("5")));
        let newest: Vec<_> = events.after(MAX_EVENTS as u64 + 3).iter().map(|event| event.number).collect();
        assert_eq!(newest, [MAX_EVENTS as u64 + 4, MAX_EVENTS as u64 + 5]);
        assert_eq!(events.after(u64::MAX), []);
        record(&events, "one more");
        assert!(last.has_changed().unwrap());
    }

    #[test]
    fn what_a_replica_says_last_cannot_fill_the_memory() {
        let events = Events::default();
        record(&events, &"é".repeat(MAX_CAUSE_BYTES));
        let cause = events.after(0)[0].cause.clone().unwrap();
        assert!(cause.len() <= MAX_CAUSE_BYTES + 3 && cause.ends_with("é…"), "{}", cause.len());
    }
}
