//! One instance as one worker sees it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use service_registry::{CallCount, Claim, Instance, Tally};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http1_connection::Http1Connection;
use crate::http2_connection::Http2Connection;
use crate::peak_ewma::PeakEwma;

/// Idle connections kept for an instance on one worker.
const MAX_IDLE: usize = 256;
/// Connections over HTTP/2 to an instance on one worker that take calls. More calls than they carry wait.
pub(crate) const MAX_SHARED: usize = 8;

/// An instance with this worker's connections to it and its opinion of it.
///
/// What selection reads comes first and lies together: of many endpoints, hardly anything is still in the core's caches when
/// the next call comes.
#[repr(C)]
pub(crate) struct Endpoint {
    pub(crate) instance: Arc<Instance>,
    pub(crate) latency: PeakEwma,
    pending: Cell<u32>,
    /// How often the idle connections were looked through: their clock, since it is read with every call.
    prunes: Cell<u32>,
    /// What the last snapshot says.
    pub(crate) healthy: Cell<bool>,
    /// While set, this worker leaves the instance alone until more suspicions than these were answered by a check.
    suspected_at: Cell<Option<u64>>,
    /// How many suspicions were answered, as the last snapshot says.
    pub(crate) answered: Cell<u64>,
    /// Most recently used last, so that the ones that nobody needs grow old.
    idle: RefCell<Vec<(Box<Http1Connection>, u32)>>,
    /// How many of this worker's calls there were.
    calls: Arc<CallCount>,
    /// Where they are counted once more, while one version takes the place of another.
    tally: RefCell<Option<Arc<Tally>>>,
    /// The connections that calls over HTTP/2 share, with their numbers.
    shared: RefCell<Vec<(Http2Connection, u64)>>,
    /// What drives those, and those that only finish their calls.
    drivers: RefCell<JoinSet<()>>,
    /// How many of those were made.
    made: Cell<u64>,
    /// How often making one of those failed.
    not_made: Cell<u64>,
    /// Held by whoever makes another of those.
    pub(crate) connecting: Mutex<()>,
    /// Told when one of those may have room for another call.
    pub(crate) room: Rc<Notify>,
    /// How many calls wait for that.
    waiting: Cell<u32>,
}

/// One call that waits for room, counted until this is dropped.
pub(crate) struct Waiting<'a>(&'a Cell<u32>);

/// One call to an endpoint, counted until this is dropped.
pub(crate) struct Pending {
    endpoint: Rc<Endpoint>,
    /// Whether the call decides over the endpoint and has not done so yet.
    probes: Cell<bool>,
    /// Whether it is among the calls that were counted.
    counted: Cell<bool>,
}

impl Endpoint {
    pub(crate) fn new(
        instance: Arc<Instance>,
        estimate: Duration,
        healthy: bool,
        answered: u64,
        now: Instant,
    ) -> Self {
        Self {
            calls: instance.calls.begin(),
            tally: RefCell::default(),
            instance,
            latency: PeakEwma::new(estimate, now),
            pending: Cell::new(0),
            idle: RefCell::default(),
            shared: RefCell::default(),
            drivers: RefCell::default(),
            made: Cell::new(0),
            not_made: Cell::new(0),
            connecting: Mutex::default(),
            room: Rc::default(),
            waiting: Cell::new(0),
            prunes: Cell::new(0),
            healthy: Cell::new(healthy),
            suspected_at: Cell::new(None),
            answered: Cell::new(answered),
        }
    }

    /// Counts a call from now on: selection and counting are one step, so that a drain never misses a call. `None` when
    /// another call has to show first whether the endpoint is any good.
    pub(crate) fn begin(self: &Rc<Self>) -> Option<Pending> {
        let probes = match self.instance.outcomes.claim() {
            Claim::Call => false,
            Claim::Probe => true,
            Claim::Refused => return None,
        };
        self.pending.set(self.pending.get() + 1);
        self.instance.in_flight.begin();
        Some(Pending { endpoint: Rc::clone(self), probes: Cell::new(probes), counted: Cell::new(false) })
    }

    /// Counts its calls there, too, from now on.
    pub(crate) fn tally_with(&self, tally: Option<&Arc<Tally>>) {
        *self.tally.borrow_mut() = tally.map(Arc::clone);
    }

    /// A call was answered after this time, and not with a failure.
    pub(crate) fn answered_after(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
        if let Some(tally) = self.tally.borrow().as_deref() {
            tally.add_latency(latency);
        }
    }

    /// Calls of this worker in flight.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.get()
    }

    /// The cost of one more call.
    pub(crate) fn load(&self, now: Instant) -> f64 {
        self.latency.estimate(now) * f64::from(self.pending.get() + 1)
    }

    /// Whether this worker has no suspicion that is not answered yet, and no other call decides about it.
    pub(crate) fn trusted(&self) -> bool {
        self.suspected_at.get().is_none_or(|at| self.answered.get() > at)
            && self.instance.outcomes.takes_calls()
    }

    /// Leaves the instance alone until a check has answered.
    pub(crate) fn suspect(&self) {
        self.suspected_at.set(Some(self.answered.get()));
    }

    /// An idle connection that is still open, the most recently used one.
    pub(crate) fn take_idle(&self) -> Option<Box<Http1Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some((mut connection, _)) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next call.
    pub(crate) fn give_back(&self, mut connection: Box<Http1Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            connection.reused = true;
            idle.push((connection, self.prunes.get()));
        }
    }

    /// Closes connections that nobody used since the call before the last.
    pub(crate) fn prune(&self) {
        let now = self.prunes.get() + 1;
        self.prunes.set(now);
        self.idle.borrow_mut().retain_mut(|(connection, since)| now - *since < 2 && connection.is_open());
        self.shared.borrow_mut().retain(|(connection, _)| !connection.is_idle_or_closed(now));
    }

    /// Closes the idle connection that was used least recently, where there is one; whether there was.
    pub(crate) fn close_idle(&self) -> bool {
        let (mut idle, mut shared) = (self.idle.borrow_mut(), self.shared.borrow_mut());
        if !idle.is_empty() {
            drop(idle.remove(0));
            return true;
        }
        let unused = shared.iter().position(|(connection, _)| connection.calls() == 0);
        unused.map(|place| shared.remove(place)).is_some()
    }

    /// A connection over HTTP/2 that takes another call, of those with this number or a later one.
    pub(crate) fn shared_connection(&self, since: u64) -> Option<Http2Connection> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|(connection, _)| connection.is_open());
        let free = shared.iter().find(|(connection, number)| *number >= since && connection.has_room());
        free.map(|(connection, _)| connection.clone())
    }

    /// How many connections over HTTP/2 may take calls, some of which may have no room now.
    pub(crate) fn shared_connections(&self) -> usize {
        self.shared.borrow().len()
    }

    /// Hands one of them, the oldest one, to no further call.
    pub(crate) fn retire_shared(&self) {
        let mut shared = self.shared.borrow_mut();
        if !shared.is_empty() {
            drop(shared.remove(0));
        }
    }

    /// How many calls the replica is expected to take on another connection.
    pub(crate) fn calls_expected(&self) -> usize {
        Http2Connection::calls_expected(self.shared.borrow().iter().map(|(connection, _)| connection))
    }

    /// The number of the next connection over HTTP/2, and how often making one has failed.
    pub(crate) fn connections(&self) -> (u64, u64) {
        (self.made.get(), self.not_made.get())
    }

    /// Making a connection over HTTP/2 has failed, which those that wait for it need not find out again. Those that wait for
    /// room look once more where there is no connection left on which a call could end.
    pub(crate) fn not_connected(&self) {
        self.not_made.set(self.not_made.get() + 1);
        if !self.is_connected() {
            self.room.notify_waiters();
        }
    }

    /// Whether there is a connection over HTTP/2 that takes calls, now or later.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.borrow().iter().any(|(connection, _)| connection.is_open())
    }

    /// Waits for room from now on.
    pub(crate) fn begin_waiting(&self) -> Waiting<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waiting(&self.waiting)
    }

    /// How many calls wait for room.
    pub(crate) fn awaited_by(&self) -> u32 {
        self.waiting.get()
    }

    /// Lets calls use a connection, and drives it.
    pub(crate) fn share(&self, connection: Http2Connection, driver: impl Future<Output = ()> + 'static) {
        let number = self.made.replace(self.made.get() + 1);
        self.shared.borrow_mut().push((connection, number));
        let mut drivers = self.drivers.borrow_mut();
        while drivers.try_join_next().is_some() {}
        drivers.spawn_local(driver);
    }

    /// The clock of idle connections.
    pub(crate) fn prunes(&self) -> u32 {
        self.prunes.get()
    }
}

impl Pending {
    pub(crate) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// The call was answered well.
    pub(crate) fn succeeded(&self) {
        self.probes.set(false);
        self.count();
        self.endpoint.instance.outcomes.succeeded();
    }

    /// The call is being answered, and only the end will show how. That is enough for others to be called there too.
    pub(crate) fn answers(&self) {
        self.endpoint.instance.outcomes.trust();
    }

    /// The call failed. Returns how many did so in a row; a failed probe counts as enough of them.
    pub(crate) fn failed(&self) -> u32 {
        self.count();
        self.endpoint.calls.add_failure();
        if let Some(tally) = self.endpoint.tally.borrow().as_deref() {
            tally.add_failure();
        }
        let in_a_row = self.endpoint.instance.outcomes.failed();
        if self.probes.replace(false) { u32::MAX } else { in_a_row }
    }
}

impl Pending {
    /// A call whose answer breaks off has succeeded before it fails, and is still one.
    fn count(&self) {
        if !self.counted.replace(true) {
            self.endpoint.calls.add_call();
            if let Some(tally) = self.endpoint.tally.borrow().as_deref() {
                tally.add_call();
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.endpoint.pending.set(self.endpoint.pending.get() - 1);
        if self.probes.get() {
            self.endpoint.instance.outcomes.probe_again();
        }
        self.endpoint.instance.in_flight.end();
    }
}
