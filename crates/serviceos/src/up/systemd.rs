//! What a service manager is told, by the protocol of sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Without
//! that variable nothing is told to anybody.
//!
//! The variables stay in the environment of this process, which no process that it starts inherits.

use std::env::VarError;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::signals::HangUp;
use configuration::Settings;
use rustix::time::{ClockId, clock_gettime};
use service_registry::{Registry, Replica, Snapshot};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::background::{Background, told};
use super::screen::{Expected, counted};

/// How long a manager that does not read may hold up what is done here. It is waited for once, and not again before it reads.
const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// How often a status is told, at the most.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// How often more time is asked for while everything is drained, and how much.
const EXTENSION_EVERY: Duration = Duration::from_secs(5);
const EXTENSION: Duration = Duration::from_secs(20);
/// How soon it is tried again to tell what was not taken.
const TOLD_AGAIN: Duration = Duration::from_secs(5);
/// What a drain may take beside what the configuration allows each of its parts.
const LAST_STEPS: Duration = Duration::from_secs(30);
/// The shortest watchdog that is kept: below that, a busy machine would end what works.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(100);

/// Whoever manages this process; its clones are the same one.
#[derive(Clone)]
pub(crate) struct Manager(Arc<Inner>);

struct Inner {
    socket: OnceLock<Notified>,
    /// How long the manager waits for a sign of life.
    watchdog: OnceLock<Duration>,
    state: Mutex<State>,
    /// Said when the status may be another.
    changed: Notify,
}

struct Notified {
    name: String,
    socket: UnixDatagram,
    address: SocketAddr,
}

struct State {
    phase: Phase,
    /// What the last look at the file came to, where that is worth telling.
    refused: bool,
    /// The status that was told last.
    status: String,
    /// Said once, not at every sign of life.
    failing: bool,
    /// The last word on the phase, where it was not taken.
    owed: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// Another configuration is looked at, of which it is ready again afterwards.
    Reloading,
    /// Everything is drained; more time is asked for until then.
    Stopping {
        until: Instant,
    },
}

impl Manager {
    /// The one that the environment names, if it does.
    pub(crate) fn of_environment() -> Self {
        let variable = |name: &str| match std::env::var(name) {
            Ok(value) if !value.is_empty() => Some(value),
            Ok(_) | Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                tracing::warn!("{name} is no text; it is taken as if it were not set");
                None
            }
        };
        let socket = variable("NOTIFY_SOCKET").and_then(|name| Notified::open_or_warn(&name));
        let watchdog = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Self::with(socket, watchdog)
    }

    fn with(socket: Option<Notified>, watchdog: Option<Duration>) -> Self {
        let state = State {
            phase: Phase::Starting,
            refused: false,
            status: String::new(),
            failing: false,
            owed: None,
        };
        let (socket, watchdog) = (once(socket), once(watchdog));
        Self(Arc::new(Inner { socket, watchdog, state: state.into(), changed: Notify::new() }))
    }

    /// That of the process whose place this one takes, where the environment names none.
    pub(crate) fn inherit(&self, name: &str, watchdog: Option<Duration>) {
        if let (false, Some(socket)) = (self.is_there(), Notified::open_or_warn(name)) {
            let _was_there = self.0.socket.set(socket).is_err();
            if let Some(watchdog) = watchdog {
                let _was_there = self.0.watchdog.set(watchdog).is_err();
            }
        }
    }

    /// Its name, and how long it waits for a sign of life.
    pub(crate) fn handed(&self) -> Option<(String, Option<Duration>)> {
        let socket = self.0.socket.get()?;
        Some((socket.name.clone(), self.0.watchdog.get().copied()))
    }

    /// Whether there is one that is told anything.
    pub(crate) fn is_there(&self) -> bool {
        self.0.socket.get().is_some()
    }

    /// What SIGHUP means: who is managed has no terminal that could go away.
    pub(crate) fn hang_up(&self) -> HangUp {
        if self.is_there() { HangUp::Look } else { HangUp::Stop }
    }

    /// Shows the manager that the event loop turns, and asks for more time while everything is drained, for as long as the
    /// tasks are kept.
    pub(crate) fn begin(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if self.is_there() {
            tasks.spawn(self.clone().extend());
            if let Some(watchdog) = self.0.watchdog.get() {
                tasks.spawn(self.clone().show_life(*watchdog / 2));
            }
        }
        tasks
    }

    async fn show_life(self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.state().tell(&self.0, "WATCHDOG=1");
        }
    }

    async fn extend(self) {
        loop {
            sleep(EXTENSION_EVERY).await;
            self.state().extend(&self.0);
        }
    }

    /// Everything that is wanted serves, or is not waited for any longer.
    pub(crate) fn ready(&self) {
        let mut state = self.state();
        if state.phase == Phase::Starting {
            state.phase = Phase::Ready;
            state.tell_phase(&self.0, "READY=1");
            self.0.changed.notify_one();
        }
    }

    /// Another configuration is looked at. Before everything is ready for the first time there is nothing to be told of that.
    pub(crate) fn reloading(&self) {
        if self.state().phase == Phase::Ready {
            self.reloading_as_asked();
        }
    }

    /// The same where the manager has asked for it: it waits for a message that is younger than its signal, even while another look
    /// goes on.
    pub(crate) fn reloading_as_asked(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Ready | Phase::Reloading) {
            state.phase = Phase::Reloading;
            state.tell_phase(&self.0, &format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()));
        }
    }

    /// What was looked at is in force, or is not.
    pub(crate) fn reloaded(&self) {
        let mut state = self.state();
        if state.phase == Phase::Reloading {
            state.phase = Phase::Ready;
            state.tell_phase(&self.0, "READY=1");
        }
    }

    /// Whether what the file says is refused.
    pub(crate) fn file_is_refused(&self, refused: bool) {
        self.state().refused = refused;
        self.0.changed.notify_one();
    }

    /// Everything is drained from now on, for which the configuration allows so long.
    pub(crate) fn stopping(&self, settings: Option<&Settings>) {
        let until = Instant::now() + settings.map_or(LAST_STEPS, longest_stop);
        let mut state = self.state();
        if !matches!(state.phase, Phase::Stopping { .. }) {
            state.phase = Phase::Stopping { until };
            state.tell_phase(&self.0, "STOPPING=1");
            state.extend(&self.0);
            self.0.changed.notify_one();
        }
    }

    /// Another process is the main one from now on: that which takes over.
    pub(crate) fn main_process(&self, pid: u32) {
        self.state().tell(&self.0, &format!("MAINPID={pid}"));
    }

    /// Tells how many replicas serve, whenever that changes.
    pub(super) fn follow(&self, registry: &Registry, expected: &Expected, background: &mut Background) {
        if self.is_there() {
            let showing = self.clone().show_status(registry.clone(), expected.clone());
            background.add(|stopped| async move {
                tokio::select! {
                    () = showing => {}
                    () = told(stopped) => {}
                }
            });
        }
    }

    /// Never returns.
    async fn show_status(self, registry: Registry, expected: Expected) {
        let mut snapshots = registry.subscribe();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            self.state().show(&self.0, &snapshot, &expected);
            sleep(STATUS_PAUSE).await;
            let is_failing = self.state().failing;
            tokio::select! {
                Ok(()) = snapshots.changed() => {}
                () = self.0.changed.notified() => {}
                () = sleep(TOLD_AGAIN), if is_failing => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells a message, and what it could not be told before; whether that one was taken.
    fn tell(&mut self, inner: &Inner, message: &str) -> bool {
        let is_taken = self.send(inner, message);
        if is_taken && let Some(owed) = self.owed.take() {
            self.tell_phase(inner, &owed);
        }
        is_taken
    }

    /// The same for what it waits for: it is told again until it is taken, or there is a later word.
    fn tell_phase(&mut self, inner: &Inner, message: &str) {
        self.owed = (!self.send(inner, message)).then(|| message.to_owned());
    }

    fn send(&mut self, inner: &Inner, message: &str) -> bool {
        let Some(notified) = inner.socket.get() else { return true };
        let waits = notified.socket.set_nonblocking(self.failing);
        let sent = waits.and_then(|()| notified.send(message));
        if let Err(error) = &sent
            && !self.failing
        {
            tracing::warn!(%error, "the service manager cannot be told: {}", message.replace('\n', " "));
        }
        self.failing = sent.is_err();
        sent.is_ok()
    }

    fn extend(&mut self, inner: &Inner) {
        if let Phase::Stopping { until } = self.phase
            && Instant::now() < until
        {
            self.tell(inner, &format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
    }

    fn show(&mut self, inner: &Inner, snapshot: &Snapshot, expected: &Expected) {
        let mut status = match self.phase {
            Phase::Starting => format!("starting: {}", serving(snapshot, expected)),
            Phase::Ready | Phase::Reloading => serving(snapshot, expected),
            Phase::Stopping { .. } => {
                let left = expected.of(snapshot).filter(|replica| replica.pid.is_some()).count();
                format!("draining: {} left", counted(left, "replica"))
            }
        };
        if self.refused {
            status += "; the configuration file is refused, and the log says why";
        }
        let is_owed = status != self.status || self.owed.is_some();
        if is_owed && self.tell(inner, &format!("STATUS={status}")) {
            self.status = status;
        }
    }
}

/// What may be found later where it is not there yet.
fn once<T>(found: Option<T>) -> OnceLock<T> {
    found.map_or_else(OnceLock::new, OnceLock::from)
}

fn serving(snapshot: &Snapshot, expected: &Expected) -> String {
    let all = expected.of(snapshot).count();
    let serving = expected.of(snapshot).filter(|replica: &&Replica| replica.selectable().is_ok()).count();
    if serving == all {
        format!("{} Ready", counted(all, "replica"))
    } else {
        format!("{serving} of {} Ready", counted(all, "replica"))
    }
}

impl Notified {
    fn open_or_warn(name: &str) -> Option<Self> {
        let opened = Self::open(name);
        opened
            .inspect_err(|error| {
                tracing::warn!(%error, "NOTIFY_SOCKET={name} cannot be used: the service manager is told nothing");
            })
            .ok()
    }

    /// A path, or a name beginning with `@` that is in no folder.
    fn open(name: &str) -> io::Result<Self> {
        let address = match (name.strip_prefix('@'), name.starts_with('/')) {
            (Some(name), _) => SocketAddr::from_abstract_name(name)?,
            (None, true) => SocketAddr::from_pathname(name)?,
            (None, false) => {
                let reason = "it is neither a path nor begins with @";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        Ok(Self { name: name.to_owned(), socket, address })
    }

    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_whole| ())
    }
}

/// How long the manager waits for a sign of life of this process.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let own = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let watchdog = Duration::from_micros(microseconds?.parse().ok().filter(|_| own)?);
    if watchdog < SHORTEST_WATCHDOG {
        tracing::warn!(?watchdog, "the watchdog is shorter than {SHORTEST_WATCHDOG:?}, and is not kept");
        return None;
    }
    Some(watchdog)
}

/// How long everything may take to end: the gateway first, then the replicas, each with its grace.
fn longest_stop(settings: &Settings) -> Duration {
    let drains = settings.services.iter().map(|service| service.drain_timeout);
    let graces = settings.services.iter().filter_map(|service| Some(service.process()?.grace));
    drains.max().unwrap_or_default() * 2 + graces.max().unwrap_or_default() + LAST_STEPS
}

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests;
