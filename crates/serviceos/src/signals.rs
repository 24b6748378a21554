//! Orders from outside: SIGTERM, Ctrl-C, and the terminal's going away. A service manager has no terminal, and means by the same
//! signal that the configuration is to be looked at.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The name of the order that only this process was given: Ctrl-C is given to all of a terminal.
pub(crate) const SIGTERM: &str = "SIGTERM";

/// What SIGHUP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// The terminal is gone: stop.
    Stop,
    /// Look at the configuration.
    Look,
}

/// Asks for a look at the configuration.
pub(crate) struct Looks(Option<Signal>);

impl Looks {
    /// Returns when one is asked for; never where SIGHUP means something else.
    pub(crate) async fn asked(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                let _cannot_end = signal.recv().await.is_some();
            }
            None => std::future::pending().await,
        }
    }
}

/// Asks that the next version of the program takes over.
pub(crate) struct Upgrades(Signal);

impl Upgrades {
    /// From now on SIGUSR2 does not end the process by itself.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::user_defined2())?))
    }

    /// Returns when one is asked for.
    pub(crate) async fn asked(&mut self) {
        let _cannot_end = self.0.recv().await.is_some();
    }
}

/// Signals that mean stop.
pub(crate) struct Orders {
    terminate: Signal,
    interrupt: Signal,
    /// None where whoever started this process wants it to outlive the terminal, as `nohup` does, or means something else by it.
    hang_up: Option<Signal>,
    /// One that was given when it could not be followed yet.
    kept: Option<&'static str>,
}

impl Orders {
    /// From now on the signals do not end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self::listen_where(HangUp::Stop)?.0)
    }

    /// The same where SIGHUP may mean something else.
    pub(crate) fn listen_where(means: HangUp) -> std::io::Result<(Self, Looks)> {
        let hang_up = match means {
            HangUp::Stop if hang_up_is_ignored() => None,
            HangUp::Stop | HangUp::Look => Some(signal(SignalKind::hangup())?),
        };
        let (hang_up, look) = if means == HangUp::Look { (None, hang_up) } else { (hang_up, None) };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok((Self { terminate, interrupt, hang_up, kept: None }, Looks(look)))
    }

    /// Keeps an order for whoever asks next for the first.
    pub(crate) fn keep(&mut self, order: &'static str) {
        self.kept = Some(order);
    }

    /// The first order, by name.
    pub(crate) async fn first(&mut self) -> &'static str {
        let Self { terminate, interrupt, hang_up, kept } = self;
        if let Some(kept) = kept.take() {
            return kept;
        }
        let hang_up = async {
            match hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => SIGTERM,
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
