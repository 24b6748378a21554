//! What `up` shows: a live table in a terminal, then where everything is and what to try.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use service_registry::{Registry, Replica, Snapshot};
use tokio::time::timeout;

use super::Facts;

/// How long the start is shown before the rest is said anyway; replicas that are not Ready then keep being tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the times in the table move.
const TICK: Duration = Duration::from_millis(250);

/// Where `up` shows things.
pub(crate) enum Screen {
    /// A terminal: the table is drawn over itself.
    Terminal,
    /// A file or a pipe: plain lines.
    Lines,
}

impl Screen {
    pub(crate) fn detect() -> Self {
        if std::io::stdout().is_terminal() { Self::Terminal } else { Self::Lines }
    }

    /// In a terminal the table shows what the log would say.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Terminal => "warn",
            Self::Lines => "info",
        }
    }

    /// Shows the replicas until all of them may serve, then the addresses and an example.
    pub(crate) async fn show_start(&self, registry: &Registry, facts: &Facts, began: Instant) {
        let mut snapshots = registry.subscribe();
        let mut drawn = 0;
        let ready = loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if let Self::Terminal = self {
                drawn = draw(&snapshot, drawn);
            }
            let ready = replicas(&snapshot).all(|replica| replica.selectable().is_ok());
            if ready || began.elapsed() > PATIENCE {
                break ready;
            }
            if matches!(timeout(TICK, snapshots.changed()).await, Ok(Err(_))) {
                return;
            }
        };
        say(&summary(&registry.snapshot(), facts, ready, began.elapsed()));
    }
}

fn replicas(snapshot: &Snapshot) -> impl Iterator<Item = &Replica> {
    snapshot.services.iter().flat_map(|service| &service.replicas)
}

/// Draws the table over the one drawn before, of so many lines; returns how many lines it has.
fn draw(snapshot: &Snapshot, before: usize) -> usize {
    let mut text = String::new();
    if before > 0 {
        let _to_a_string = write!(text, "\x1b[{before}A\x1b[J");
    }
    let mut lines = 0;
    for replica in replicas(snapshot) {
        let reason = replica.reason.as_deref().or(replica.health.reason.as_deref()).unwrap_or_default();
        let since = jiff::Timestamp::now().duration_since(replica.since).as_secs_f64();
        // One line each, whatever the reason holds, since the lines are counted.
        let reason: String = reason.chars().filter(|character| !character.is_control()).take(60).collect();
        let id = replica.id.to_string();
        let _to_a_string = writeln!(text, "  {id:<14} {:<9} {since:>6.1}s  {reason}", replica.state);
        lines += 1;
    }
    say_raw(&text);
    lines
}

fn summary(snapshot: &Snapshot, facts: &Facts, ready: bool, elapsed: Duration) -> String {
    let count = replicas(snapshot).count();
    let serving = replicas(snapshot).filter(|replica| replica.selectable().is_ok()).count();
    let mut text = if ready {
        format!("\nServiceOS is up: {} Ready in {:.2} s\n", counted(count, "replica"), elapsed.as_secs_f64())
    } else {
        format!(
            "\nServiceOS serves with {serving} of {count} replicas; `serviceos status` says why, and the others keep being tried\n"
        )
    };
    let key = facts.development_key.expose();
    let lines = [
        format!("  gateway   http://{}", facts.gateway),
        format!("  admin     http://{}   /health/detailed  /metrics", facts.admin),
        format!("  data      {}", facts.data_dir.display()),
        format!("  key       {key}   (development only: all scopes)"),
    ];
    text += &format!("\n{}\n", lines.join("\n"));
    if let Some(example) = &facts.example {
        let body = example
            .body
            .map_or(String::new(), |body| format!(" -H 'content-type: application/json' -d '{body}'"));
        text += &format!(
            "\nTry it:\n  curl -s http://{}{} -H 'X-API-Key: {key}'{body}\n",
            reachable(facts),
            example.path
        );
    }
    text + "\nCtrl-C drains and stops.\n"
}

/// `1 replica`, `2 replicas`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// An address that a client on this machine can use.
fn reachable(facts: &Facts) -> std::net::SocketAddr {
    let mut address = facts.gateway;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

fn say(text: &str) {
    say_raw(&format!("{text}\n"));
}

/// A terminal that went away must not end what it only watched.
fn say_raw(text: &str) {
    let mut out = std::io::stdout().lock();
    let _nobody_reads = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
}
