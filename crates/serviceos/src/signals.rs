//! Orders from outside: SIGTERM, Ctrl-C, and the terminal's going away.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that mean stop.
pub(crate) struct Orders {
    terminate: Signal,
    interrupt: Signal,
    /// None where whoever started this process wants it to outlive the terminal, as `nohup` does.
    hang_up: Option<Signal>,
}

impl Orders {
    /// From now on the signals do not end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up,
        })
    }

    /// The first order, by name.
    pub(crate) async fn first(&mut self) -> &'static str {
        let Self { terminate, interrupt, hang_up } = self;
        let hang_up = async {
            match hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
            _ = hang_up => "SIGHUP",
        }
    }

    /// Another order, which means that somebody is tired of waiting. A terminal that goes away may say so more than once, so
    /// that is none.
    pub(crate) async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What was inherited: the mask of ignored signals in `/proc/self/status`, where SIGHUP is the lowest bit.
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
