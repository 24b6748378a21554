//! What `top` knows, and which rows it shows in which order. Nothing here reads or draws.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use control::{EventEntries, EventEntry, ReplicaStatus, ServiceStatus, Status};

use super::counted::{Counted, Looks, Rates};
use super::usage::Usage;
use crate::output::harmless;

/// Events that are kept to be shown.
const KEPT_EVENTS: usize = 64;

/// What was asked for at one moment.
pub(super) struct Look {
    pub(super) status: Status,
    pub(super) counted: Counted,
    pub(super) events: EventEntries,
    pub(super) used: BTreeMap<u32, Usage>,
}

/// What services and replicas are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the file has them.
    #[default]
    Name,
    Requests,
    Errors,
    Latency,
    Processors,
    Memory,
}

/// What is shown.
#[derive(Default)]
pub(super) struct View {
    pub(super) status: Option<Status>,
    pub(super) events: VecDeque<EventEntry>,
    pub(super) sort: Sort,
    /// The first row that is shown.
    pub(super) scrolled: usize,
    /// Why nothing newer is known.
    pub(super) away: Option<String>,
    looks: Looks,
    used: BTreeMap<u32, Usage>,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) state: String,
    /// Whether requests reach it, or how many replicas they reach.
    pub(super) selectable: String,
    pub(super) version: String,
    /// Of a service alone; of a single replica nobody counts them.
    pub(super) rates: Option<Rates>,
    pub(super) in_flight: usize,
    pub(super) processors: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) note: String,
}

/// Of what a row is, and how it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Service { whole: bool },
    Replica { selectable: bool },
}

impl Sort {
    /// The one of a key.
    pub(super) fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'n' => Self::Name,
            'r' => Self::Requests,
            'e' => Self::Errors,
            'l' => Self::Latency,
            'c' => Self::Processors,
            'm' => Self::Memory,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Processors => "CPU",
            Self::Memory => "memory",
        }
    }

    /// The largest come first; names stay as they are.
    fn weight(self, row: &Row) -> f64 {
        let rates = row.rates.unwrap_or_default();
        match self {
            Self::Name => 0.0,
            Self::Requests => rates.requests_per_second,
            Self::Errors => rates.error_rate,
            Self::Latency => rates.p99.unwrap_or_default(),
            Self::Processors => row.processors.unwrap_or_default(),
            Self::Memory => row.memory.unwrap_or_default() as f64,
        }
    }
}

impl View {
    /// Takes over what was found. Another `up` counts from the beginning.
    pub(super) fn take(&mut self, now: Instant, look: Look) {
        let Look { status, counted, events, used } = look;
        if self.status.as_ref().is_some_and(|before| before.pid != status.pid) {
            self.looks.forget();
            self.events.clear();
        }
        self.looks.add(now, counted);
        self.events.extend(events.events);
        let surplus = self.events.len().saturating_sub(KEPT_EVENTS);
        self.events.drain(..surplus);
        (self.status, self.used, self.away) = (Some(status), used, None);
    }

    /// Nothing newer is known, for this reason.
    pub(super) fn lose(&mut self, why: String) {
        self.away = Some(why);
    }

    /// After which event others are asked for.
    pub(super) fn last_event(&self) -> &str {
        self.events.back().map(|event| event.id.as_str()).unwrap_or_default()
    }

    /// The process groups of all replicas that are here.
    pub(super) fn groups(status: &Status) -> BTreeSet<u32> {
        status
            .services
            .iter()
            .flat_map(|service| &service.replicas)
            .filter_map(|replica| replica.pid)
            .collect()
    }

    /// Every service, and behind it its replicas.
    pub(super) fn rows(&self) -> Vec<Row> {
        let services = self.status.iter().flat_map(|status| &status.services);
        let mut blocks: Vec<(Row, Vec<Row>)> = services.map(|service| self.block(service)).collect();
        let heavier = |one: &Row, other: &Row| self.sort.weight(other).total_cmp(&self.sort.weight(one));
        blocks.sort_by(|(one, _), (other, _)| heavier(one, other));
        for (_, replicas) in &mut blocks {
            replicas.sort_by(heavier);
        }
        blocks.into_iter().flat_map(|(service, replicas)| std::iter::once(service).chain(replicas)).collect()
    }

    fn block(&self, service: &ServiceStatus) -> (Row, Vec<Row>) {
        let replicas: Vec<_> = service.replicas.iter().map(|replica| self.replica(replica)).collect();
        let selectable = service.replicas.iter().filter(|replica| replica.selectable).count();
        let whole = selectable >= service.desired;
        let processors: Vec<_> = replicas.iter().filter_map(|row| row.processors).collect();
        let memory: Vec<_> = replicas.iter().filter_map(|row| row.memory).collect();
        let row = Row {
            kind: Kind::Service { whole },
            name: one_line(&service.name),
            state: format!("{}/{} ready", service.ready, service.desired),
            selectable: format!("{selectable}/{}", service.desired),
            version: one_line(&service.version_id),
            rates: Some(self.looks.rates(&service.name)),
            in_flight: replicas.iter().map(|row| row.in_flight).sum(),
            processors: (!processors.is_empty()).then(|| processors.iter().sum()),
            memory: (!memory.is_empty()).then(|| memory.iter().sum()),
            note: service.rollout.as_deref().map(one_line).unwrap_or_default(),
        };
        (row, replicas)
    }

    fn replica(&self, replica: &ReplicaStatus) -> Row {
        let used = replica.pid.and_then(|pid| self.used.get(&pid));
        Row {
            kind: Kind::Replica { selectable: replica.selectable },
            name: format!("  {}", one_line(&replica.id)),
            state: one_line(&replica.state),
            selectable: if replica.selectable { "yes" } else { "no" }.to_owned(),
            version: one_line(replica.version_id.as_deref().unwrap_or("-")),
            rates: None,
            in_flight: replica.in_flight,
            processors: used.and_then(|used| used.processors),
            memory: used.map(|used| used.memory),
            note: replica.reason.as_deref().map(one_line).unwrap_or_default(),
        }
    }
}

/// What a replica has said may stand in it.
pub(super) fn one_line(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}
