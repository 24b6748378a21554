//! What `up` shows: a live table in a terminal, then where everything is and what to try.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use observability::Lines;
use service_registry::{Registry, Replica, Snapshot};
use tokio::time::timeout;
use types::{NodeName, ReplicaId};

use super::Facts;

/// How long the start is shown before the rest is said anyway; replicas that are not Ready then keep being tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the workers may take until all of them know who may serve.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often the times in the table move.
const TICK: Duration = Duration::from_millis(250);

/// How often it is said what a drain waits for.
const AWAITED: Duration = Duration::from_secs(3);

/// The replicas that are waited for: nobody here starts those that come from elsewhere, nor those of other nodes.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) node: Option<NodeName>,
    pub(super) elsewhere: BTreeSet<ReplicaId>,
}

impl Expected {
    /// Those that there are.
    pub(super) fn of<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Replica> {
        replicas(snapshot)
            .filter(|replica| replica.id.node == self.node && !self.elsewhere.contains(&replica.id))
    }
}

/// Where `up` shows things. It never waits for whoever reads.
pub(crate) struct Screen {
    kind: Kind,
    lines: Lines,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The table is drawn over itself.
    Terminal,
    /// A file or a pipe: plain lines.
    Lines,
}

impl Screen {
    pub(crate) fn detect() -> Self {
        let kind = if std::io::stdout().is_terminal() { Kind::Terminal } else { Kind::Lines };
        Self { kind, lines: Lines::to_stdout() }
    }

    /// Says something, on a line of its own.
    pub(crate) fn say(&self, text: &str) {
        self.lines.write(format!("{text}\n"));
    }

    /// Waits a little until everything is said.
    pub(crate) fn finish(&self) {
        self.lines.flush(LAST_LINES);
    }

    /// In a terminal the table shows what the log would say.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.kind {
            Kind::Terminal => "warn",
            Kind::Lines => "info",
        }
    }

    /// Shows the replicas until all of them may serve, then the addresses and an example.
    pub(crate) async fn show_start(&self, registry: &Registry, facts: &Facts, began: Instant) {
        let mut snapshots = registry.subscribe();
        let mut drawn = 0;
        let ready = loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if self.kind == Kind::Terminal {
                drawn = self.draw(&snapshot, drawn);
            }
            let ready = facts.expected.of(&snapshot).all(|replica| replica.selectable().is_ok());
            if ready {
                // Whoever calls once this is said must not meet a worker that has not heard of it.
                let _by_all_or_late = registry.confirmed(snapshot.epoch, TAKE_OVER).await;
            }
            if ready || began.elapsed() > PATIENCE {
                break ready;
            }
            if matches!(timeout(TICK, snapshots.changed()).await, Ok(Err(_))) {
                return;
            }
        };
        self.say(&summary(&registry.snapshot(), facts, ready, began.elapsed()));
    }

    /// Says every few seconds what a drain still waits for: the requests of the gateway, also those that are at no replica yet, and
    /// the replicas. Never returns.
    pub(super) async fn say_what_is_awaited(
        &self,
        registry: &Registry,
        node: Option<&NodeName>,
        requests: impl Fn() -> usize,
    ) {
        loop {
            tokio::time::sleep(AWAITED).await;
            let snapshot = registry.snapshot();
            let own = |replica: &&Replica| replica.id.node.is_none() || replica.id.node.as_ref() == node;
            let running: Vec<_> = replicas(&snapshot)
                .filter(own)
                .filter(|replica| replica.pid.is_some() || replica.instance.is_some())
                .map(|replica| replica.id.to_string())
                .collect();
            let requests = counted(requests(), "request");
            self.say(&format!("waiting for {requests} in flight, and for {}", running.join(" ")));
        }
    }

    /// Draws the table over the one drawn before, of so many lines; returns how many lines it has.
    fn draw(&self, snapshot: &Snapshot, before: usize) -> usize {
        let mut text = String::new();
        if before > 0 {
            let _to_a_string = write!(text, "\x1b[{before}A\x1b[J");
        }
        let mut lines = 0;
        for replica in replicas(snapshot) {
            let reason = replica.reason.as_deref().or(replica.health.reason.as_deref()).unwrap_or_default();
            let since = jiff::Timestamp::now().duration_since(replica.since).as_secs_f64();
            // One line each, whatever the reason holds, since the lines are counted.
            let reason: String =
                reason.chars().filter(|character| !character.is_control()).take(40).collect();
            let id = replica.id.to_string();
            let _to_a_string = writeln!(text, "  {id:<14} {:<9} {since:>6.1}s  {reason}", replica.state);
            lines += 1;
        }
        self.lines.write(text);
        lines
    }
}

fn replicas(snapshot: &Snapshot) -> impl Iterator<Item = &Replica> {
    snapshot.services.iter().flat_map(|service| &service.replicas)
}

fn summary(snapshot: &Snapshot, facts: &Facts, ready: bool, elapsed: Duration) -> String {
    let count = replicas(snapshot).count();
    let serving = replicas(snapshot).filter(|replica| replica.selectable().is_ok()).count();
    let mut text = if ready {
        let awaited = match count - serving {
            0 => String::new(),
            awaited => format!(", {} to be started by `serviceos exec`", counted(awaited, "replica")),
        };
        let (serving, elapsed) = (counted(serving, "replica"), elapsed.as_secs_f64());
        format!("\nServiceOS is up: {serving} Ready in {elapsed:.2} s{awaited}\n")
    } else {
        format!(
            "\nServiceOS serves with {serving} of {count} replicas; `serviceos status` says why, and the others keep being tried\n"
        )
    };
    let key = facts.development_key.as_ref().map(access::ApiKey::expose);
    let mut lines = vec![
        format!("  gateway   http://{}", facts.gateway),
        format!("  admin     http://{}   /health/detailed  /metrics", facts.admin),
        format!("  data      {}", facts.data_dir.display()),
    ];
    lines.extend(key.map(|key| format!("  key       {key}   (development only: all scopes)")));
    text += &format!("\n{}\n", lines.join("\n"));
    if let (Some(example), Some(key)) = (&facts.example, key) {
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
