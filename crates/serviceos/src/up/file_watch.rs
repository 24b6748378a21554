//! Notices that the configuration file, or a file that it names, may be another one: written in place, renamed over, reached
//! through a link that points elsewhere now, or in a folder that was replaced. What has changed is for others to find out.

mod folders;
mod noted;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout_at};

pub(crate) use folders::{Folders, Followed};
use noted::{Heard, Noted};

/// How long nothing more must happen before a change counts as done.
const QUIET: Duration = Duration::from_millis(50);
/// How long a change may go on before it is looked at all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing more must happen to a file that is open for writing.
const QUIET_WHILE_OPEN: Duration = Duration::from_secs(10);
/// How long somebody may write a file before it is looked at all the same.
const PATIENCE_WHILE_OPEN: Duration = Duration::from_secs(60);
/// How often the files are glanced at, for what no event tells of: a network file system, a folder above that is replaced.
const GLANCES: Duration = Duration::from_secs(3);

/// Hears of changes.
pub(crate) struct FileWatch {
    noted: Arc<Mutex<Noted>>,
    events: mpsc::Receiver<()>,
    /// Whether something may have changed that nobody has looked at.
    due: bool,
    glances: Interval,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Something has happened: look at the files.
    Look,
    /// Time has passed: see whether they look otherwise than before.
    Glance,
}

impl FileWatch {
    /// Watches nothing before the folders follow something; a first look is due, since what happened before was not noticed.
    /// Where the machine offers no watching, only glances are left, and that is said.
    pub(crate) fn new() -> (Self, Folders) {
        let (noticed, events) = mpsc::channel(1);
        let noted = Arc::<Mutex<Noted>>::default();
        let watch = Self::with(Arc::clone(&noted), events);
        let known = Arc::clone(&noted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let heard = Heard::of(event);
            if known.lock().unwrap_or_else(PoisonError::into_inner).hear(&heard) {
                // A full queue means that a look is due already.
                let _due_already = noticed.try_send(()).is_err();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of the configuration are noticed late: its files cannot be watched");
            })
            .ok();
        (watch, Folders::new(watcher, noted))
    }

    fn with(noted: Arc<Mutex<Noted>>, events: mpsc::Receiver<()>) -> Self {
        let mut glances = interval_at(Instant::now() + GLANCES, GLANCES);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { noted, events, due: true, glances }
    }

    /// Returns when something has changed and is quiet again, or when it is time for a glance.
    pub(crate) async fn changed(&mut self) -> Hint {
        if !self.due {
            tokio::select! {
                Some(()) = self.events.recv() => {}
                _ = self.glances.tick() => return Hint::Glance,
            }
        }
        // Whoever gives this up finds it due the next time.
        self.due = true;
        self.settled().await;
        self.due = false;
        Hint::Look
    }

    /// A look is due: something was not noticed while it happened.
    pub(crate) fn look_again(&mut self) {
        self.due = true;
    }

    /// Returns when it is quiet, and whoever writes one of the files has closed it; in the end all the same.
    async fn settled(&mut self) {
        let began = Instant::now();
        let mut closed = began;
        loop {
            let (open, now) = (self.noted().is_open(), Instant::now());
            closed = if open { now } else { closed };
            let (quiet, patience) =
                if open { (QUIET_WHILE_OPEN, PATIENCE_WHILE_OPEN) } else { (QUIET, PATIENCE) };
            let latest = (closed + patience).min(began + PATIENCE_WHILE_OPEN);
            let more = timeout_at(latest.min(now + quiet), self.events.recv()).await;
            if !matches!(more, Ok(Some(()))) || Instant::now() >= latest {
                if open {
                    self.noted().give_up_waiting();
                }
                return;
            }
            sleep(QUIET / 10).await;
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
