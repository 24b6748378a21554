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
        let state = State { phase: Phase::Starting, refused: false, status: String::new(), failing: false };
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
            state.tell(&self.0, "READY=1");
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
            state.tell(&self.0, &format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()));
        }
    }

    /// What was looked at is in force, or is not.
    pub(crate) fn reloaded(&self) {
        let mut state = self.state();
        if state.phase == Phase::Reloading {
            state.phase = Phase::Ready;
            state.tell(&self.0, "READY=1");
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
            state.tell(&self.0, "STOPPING=1");
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
            tokio::select! {
                Ok(()) = snapshots.changed() => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, inner: &Inner, message: &str) {
        let Some(notified) = inner.socket.get() else { return };
        let waits = notified.socket.set_nonblocking(self.failing);
        match waits.and_then(|()| notified.send(message)) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "the service manager cannot be told: {}", message.replace('\n', " "));
                }
                self.failing = true;
            }
        }
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
        if status != self.status {
            self.tell(inner, &format!("STATUS={status}"));
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
mod tests {
    use super::*;

    /// A manager, and what it is told from now on.
    fn managed(name: &str) -> (Manager, impl FnMut() -> String + use<>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let (listening, name) = match name {
            "path" => (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            name => {
                let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
                (UnixDatagram::bind_addr(&address).unwrap(), name.to_owned())
            }
        };
        listening.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // At once, since the kernel keeps few messages.
        let (heard, messages) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut message = [0; 512];
            while let Ok(length) = listening.recv(&mut message) {
                if heard.send(String::from_utf8(message[..length].to_vec()).unwrap()).is_err() {
                    return;
                }
            }
        });
        let manager = Manager::with(Some(Notified::open(&name).unwrap()), None);
        let next = move || {
            let _kept = &folder;
            messages.recv_timeout(Duration::from_secs(10)).unwrap()
        };
        (manager, next)
    }

    #[test]
    fn each_state_is_told_once_and_in_its_order_alone() {
        let (manager, mut next) = managed("path");
        manager.reloading();
        manager.reloaded();
        manager.ready();
        assert_eq!(next(), "READY=1", "a look at the file during the start is nobody's business");
        manager.ready();
        manager.reloading();
        manager.reloading();
        let before = monotonic_microseconds();
        let reloading = next();
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!((before - 10_000_000..=before).contains(&at.parse().unwrap()), "{at}");
        manager.reloading_as_asked();
        assert!(next() >= reloading, "told again, and not with the time before");
        manager.reloaded();
        manager.reloaded();
        assert_eq!(next(), "READY=1");
        manager.main_process(17);
        assert_eq!(next(), "MAINPID=17");
        manager.stopping(None);
        manager.stopping(None);
        manager.reloading();
        manager.ready();
        assert_eq!((next(), next()), ("STOPPING=1".into(), "EXTEND_TIMEOUT_USEC=20000000".into()));
        manager.main_process(18);
        assert_eq!(next(), "MAINPID=18", "nothing else was told");
    }

    #[test]
    fn a_name_in_no_folder_is_reached_and_others_are_refused() {
        let (manager, mut next) = managed(&format!("@serviceos/test/{}", std::process::id()));
        manager.ready();
        assert_eq!(next(), "READY=1");
        for name in ["vsock:2:9999", "notify", ""] {
            let refused = Notified::open(name).err().unwrap();
            assert!(refused.to_string().contains("neither a path"), "{name}: {refused}");
        }
        let nobody = Manager::with(Some(Notified::open("/nobody/listens").unwrap()), None);
        nobody.ready();
        assert!(nobody.state().failing);
    }

    #[test]
    fn a_watchdog_of_another_process_or_of_no_time_is_none() {
        let own = std::process::id().to_string();
        let told = |time, pid| watchdog(Some(time), pid);
        assert_eq!(told("3000000", Some(&*own)), Some(Duration::from_secs(3)));
        assert_eq!(told("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!([told("3000000", Some("1")), told("0", None), told("x", None)], [None; 3]);
        assert_eq!(watchdog(None, Some(&*own)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_twice_in_the_time_and_more_time_is_asked_for_while_a_drain_may_go_on() {
        let (manager, mut next) = managed("path");
        manager.0.watchdog.set(Duration::from_secs(12)).unwrap();
        let tasks = manager.begin();
        // One at once, and one at each 6 seconds.
        for _ in 0..3 {
            sleep(Duration::from_secs(6)).await;
        }
        manager.ready();
        let told: Vec<_> = std::iter::from_fn(|| Some(next())).take_while(|told| told != "READY=1").collect();
        assert_eq!(told.len(), told.iter().filter(|told| *told == "WATCHDOG=1").count());
        assert!((3..=4).contains(&told.len()), "{told:?}");
        manager.stopping(None);
        sleep(LAST_STEPS * 2).await;
        drop(tasks);
        manager.main_process(1);
        let told: Vec<_> =
            std::iter::from_fn(|| Some(next())).take_while(|told| told != "MAINPID=1").collect();
        let extensions = told.iter().filter(|told| told.starts_with("EXTEND_TIMEOUT_USEC=")).count();
        assert!((5..=7).contains(&extensions), "for {LAST_STEPS:?} and no longer: {told:?}");
        assert!(told.iter().filter(|told| *told == "WATCHDOG=1").count() >= 9, "{told:?}");
    }
}
