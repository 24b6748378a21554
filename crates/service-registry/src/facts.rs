//! The facts of a replica that decide whether it may serve.

use std::fmt;

use jiff::Timestamp;

/// The seed's four states. What went wrong is a reason beside the state, never a fifth one.
///
/// ```text
/// Starting ──ready──▶ Ready ──drain──▶ Draining ──done──▶ Stopped
///     │                 │ lost             │ lost           ▲ │
///     └──── failed ─────┴──────────────────┴────────────────┘ └─ launch ─▶ Starting
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LifecycleState {
    /// The process is launched and initialises.
    Starting,
    /// It accepts requests.
    Ready,
    /// It finishes what it has and gets nothing new.
    Draining,
    /// It does not run.
    Stopped,
}

impl LifecycleState {
    /// The four, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Draining, Self::Stopped];

    /// The seed's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Ready => "Ready",
            Self::Draining => "Draining",
            Self::Stopped => "Stopped",
        }
    }
}

impl fmt::Display for LifecycleState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A replica that ended several times in a row, each time before it had served for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashLoop {
    /// How often it ended.
    pub ended: u32,
    /// When it ended for the first time of those.
    pub since: Timestamp,
    /// How it ended the last time.
    pub last: LastExit,
}

/// How a life ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastExit {
    /// Why, as the operator is told.
    pub reason: String,
    /// The exit code, where the process exited and this is known.
    pub code: Option<i32>,
    /// The signal, where one killed it.
    pub signal: Option<i32>,
    /// The last lines that it wrote.
    pub last_lines: Vec<String>,
}

/// What the health owner holds of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not checked yet.
    Unknown,
    /// Passed as many checks as it must.
    Healthy,
    /// Failed as many checks as it may, or refused a connection.
    Unhealthy,
    /// Passes its checks, but failed too many calls, in a row or beside the others; left alone for a while.
    Ejected,
}

impl Verdict {
    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
        }
    }
}

/// The health of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// Why, where it is not healthy.
    pub reason: Option<String>,
    /// How many suspicions of the gateway's workers were answered by a check. A worker that suspects a replica leaves
    /// it alone until this number has passed the one that it saw.
    pub answered: u64,
}

/// Whether the operator or a rollout holds a replica back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may serve.
    Open,
}

impl Gate {
    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
        }
    }
}
