//! What replicas write, into the log of this process: one thread follows the files that they append to.
//!
//! ```text
//! replica ─ appends ─▶ run/NAME.log ─ read every 100 or 200 ms, freed once it was read ─▶ lines ─▶ the process log
//!                                                                                           └────▶ the last ones, for `serviceos logs`
//! ```
//!
//! A replica never waits for this process, and outlives it. So what it writes faster than it may is skipped where it lies, and
//! counted.

mod file;
mod line;
mod rate;
mod splitter;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use configuration::LogFormat;
use control::{LogLevel, LogLine, Logs};
use jiff::Timestamp;
use observability::Lines;
use serde_json::Map;
use types::ReplicaId;

use file::{Followed, Read};
pub(crate) use text::text;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// The same while one of them grows so fast that it would fill the disk meanwhile.
const SOON: Duration = Duration::from_millis(10);
/// In how many looks nothing came to a file that is looked at only each second time from then on: most have nothing to say.
const QUIET: u32 = 20;
/// How often a file is looked at that is followed no more, for what was written last.
const LAST_LOOKS: usize = 16;
/// How often it is said of a replica that not everything is passed on.
const SAID_EVERY: Duration = Duration::from_secs(10);

const TOO_MUCH: &str = "not all that the replica writes is passed on: it is too much";

/// The thread.
pub(crate) struct Follower {
    outputs: Outputs,
    thread: Option<JoinHandle<BTreeMap<ReplicaId, u64>>>,
}

/// Tells the thread whose output there is. Clones tell the same one.
#[derive(Clone)]
pub(crate) struct Outputs(Sender<Order>);

enum Order {
    Follow {
        replica: ReplicaId,
        version: String,
        path: PathBuf,
        /// Where the output of this run begins.
        from: u64,
    },
    Ended {
        replica: ReplicaId,
        at: u64,
    },
    Forget(ReplicaId),
    Finish,
}

/// Where lines go.
pub(crate) struct Destination {
    pub(crate) log: Lines,
    pub(crate) format: LogFormat,
    pub(crate) kept: Logs,
}

/// A replica whose file is followed.
struct Source {
    replica: ReplicaId,
    path: PathBuf,
    file: Followed,
    /// Not passed on, and not said yet.
    unsaid: u64,
    said: Option<Instant>,
    /// Said once until it succeeds again.
    fails: bool,
    /// How many looks there were since something came.
    quiet: u32,
}

impl Follower {
    /// Starts the thread.
    pub(crate) fn start(into: Destination) -> std::io::Result<Self> {
        let (sender, orders) = mpsc::channel();
        let work = move || Work { into, sources: Vec::new() }.run(&orders);
        let thread = std::thread::Builder::new().name("output".into()).spawn(work)?;
        Ok(Self { outputs: Outputs(sender), thread: Some(thread) })
    }

    /// What tells it whose output there is.
    pub(crate) fn outputs(&self) -> Outputs {
        self.outputs.clone()
    }

    /// Reads what there is yet, and ends. Waits for that; gives how far each file was read.
    pub(crate) fn finish(mut self) -> BTreeMap<ReplicaId, u64> {
        self.outputs.tell(Order::Finish);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Outputs {
    /// Follows the output of a run of a replica, which begins at `from` in this file. What an earlier run has left unread there
    /// is read first; a file that was not followed yet is read from `from` on.
    pub(crate) fn follow(&self, replica: ReplicaId, version: String, path: PathBuf, from: u64) {
        self.tell(Order::Follow { replica, version, path, from });
    }

    /// The run has ended where the file was so long: its last line is complete, whether or not it says so.
    pub(crate) fn ended(&self, replica: ReplicaId, at: u64) {
        self.tell(Order::Ended { replica, at });
    }

    /// The replica is gone for good: what it has left is read, and its file is followed no more.
    pub(crate) fn forget(&self, replica: ReplicaId) {
        self.tell(Order::Forget(replica));
    }

    fn tell(&self, order: Order) {
        let _at_the_end_nobody_follows = self.0.send(order).is_err();
    }
}

struct Work {
    into: Destination,
    sources: Vec<Source>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>) -> BTreeMap<ReplicaId, u64> {
        let mut wait = EVERY;
        loop {
            let mut order = orders.recv_timeout(wait);
            loop {
                match order {
                    Ok(Order::Finish) | Err(RecvTimeoutError::Disconnected) => return self.finish(),
                    Ok(order) => self.obey(order),
                    Err(RecvTimeoutError::Timeout) => break,
                }
                order = orders.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            wait = self.look(Instant::now());
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Follow { replica, version, path, from } => self.follow(replica, version, path, from),
            Order::Ended { replica, at } => {
                if let Some(source) = self.sources.iter_mut().find(|source| source.replica == replica) {
                    source.file.ends(at);
                }
            }
            Order::Forget(replica) => {
                self.last_words(&replica);
                self.sources.retain(|source| source.replica != replica);
            }
            Order::Finish => {}
        }
    }

    fn follow(&mut self, replica: ReplicaId, version: String, path: PathBuf, from: u64) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.replica == replica) {
            if source.path == path {
                source.file.begins(from, version);
                return;
            }
            self.last_words(&replica);
            self.sources.retain(|source| source.replica != replica);
        }
        match Followed::open(&path, from, version) {
            Ok(file) => {
                self.sources.push(Source {
                    replica,
                    path,
                    file,
                    unsaid: 0,
                    said: None,
                    fails: false,
                    quiet: 0,
                });
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(%replica, %path, %error, "the output of the replica cannot be followed");
            }
        }
    }

    /// Reads all files; gives how long to wait until the next time.
    fn look(&mut self, now: Instant) -> Duration {
        let looked_at = self.sources.iter_mut().filter_map(Source::if_due);
        let is_hasty = looked_at.fold(false, |is_hasty, source| {
            let read = source.read(now);
            let is_fast = read.is_fast;
            source.pass_on(read, &self.into, now);
            is_hasty | is_fast
        });
        if is_hasty { SOON } else { EVERY }
    }

    fn last_words(&mut self, replica: &ReplicaId) {
        let now = Instant::now();
        if let Some(source) = self.sources.iter_mut().find(|source| source.replica == *replica) {
            for _ in 0..LAST_LOOKS {
                let mut read = source.read(now);
                let is_all = !read.is_fast;
                if is_all {
                    source.file.end_line(&mut read);
                }
                source.pass_on(read, &self.into, now);
                if is_all {
                    return;
                }
            }
        }
    }

    fn finish(mut self) -> BTreeMap<ReplicaId, u64> {
        let replicas: Vec<_> = self.sources.iter().map(|source| source.replica.clone()).collect();
        for replica in &replicas {
            self.last_words(replica);
        }
        for source in &mut self.sources {
            source.say_dropped(&self.into);
        }
        self.sources.into_iter().map(|source| (source.replica, source.file.read_until_now())).collect()
    }
}

impl Source {
    /// Nothing where this look passes it by.
    fn if_due(&mut self) -> Option<&mut Self> {
        self.quiet = self.quiet.saturating_add(1);
        (self.quiet <= QUIET || self.quiet.is_multiple_of(2)).then_some(self)
    }

    fn read(&mut self, now: Instant) -> Read {
        match self.file.read(now) {
            Ok(read) => {
                self.fails = false;
                if read.is_fast || read.dropped > 0 || !read.lines.is_empty() {
                    self.quiet = 0;
                }
                read
            }
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    let (replica, path) = (&self.replica, self.path.display());
                    tracing::warn!(%replica, %path, %error, "the output of the replica cannot be read");
                }
                Read::default()
            }
        }
    }

    fn pass_on(&mut self, read: Read, into: &Destination, now: Instant) {
        let Read { lines, mut dropped, .. } = read;
        let lines: Vec<_> = lines.into_iter().filter_map(|line| line.of(&self.replica)).collect();
        into.kept.push(&lines);
        dropped += into.log(&lines);
        into.kept.dropped(&self.replica.service, dropped);
        self.unsaid += dropped;
        if self.unsaid > 0 && self.said.is_none_or(|said| now.duration_since(said) >= SAID_EVERY) {
            self.said = Some(now);
            self.say_dropped(into);
        }
    }

    /// To whoever reads the log of this process, and to whoever reads the replica's.
    fn say_dropped(&mut self, into: &Destination) {
        let bytes = std::mem::take(&mut self.unsaid);
        if bytes == 0 {
            return;
        }
        tracing::warn!(replica = %self.replica, bytes, "{TOO_MUCH}");
        into.kept.push(&[LogLine {
            timestamp: Timestamp::now(),
            level: LogLevel::Warn,
            service: self.replica.service.clone(),
            replica: self.replica.clone(),
            version: self.file.version().to_owned(),
            message: TOO_MUCH.to_owned(),
            fields: Map::from_iter([("droppedBytes".to_owned(), bytes.into())]),
        }]);
    }
}

impl Destination {
    /// Writes into the process log what it wants of it; gives how many bytes it had no room for.
    fn log(&self, lines: &[LogLine]) -> u64 {
        let mut written = String::new();
        for line in lines.iter().filter(|line| is_wanted(line.level)) {
            match self.format {
                LogFormat::Text => written += &text(line),
                LogFormat::Json => written += &text::json(line),
            }
            written.push('\n');
        }
        let bytes = written.len() as u64;
        if written.is_empty() || self.log.offer(written) { 0 } else { bytes }
    }
}

/// Whether `RUST_LOG`, or what stands for it where it is not set, lets lines of replicas through.
fn is_wanted(level: LogLevel) -> bool {
    match level {
        LogLevel::Trace => tracing::enabled!(target: "replica", tracing::Level::TRACE),
        LogLevel::Debug => tracing::enabled!(target: "replica", tracing::Level::DEBUG),
        LogLevel::Info => tracing::enabled!(target: "replica", tracing::Level::INFO),
        LogLevel::Warn => tracing::enabled!(target: "replica", tracing::Level::WARN),
        LogLevel::Error => tracing::enabled!(target: "replica", tracing::Level::ERROR),
    }
}

#[cfg(test)]
mod tests;
