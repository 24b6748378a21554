//! 9,000 idle kept connections, each of which has asked once: how much memory each of them costs.

use std::time::Duration;

use anyhow::bail;
use tokio::time::sleep;

use crate::bench::{Bench, Work};
use crate::load::idle::{closed, open};
use crate::metric::{Metric, Sample};
use crate::process::resident_bytes;
use crate::subject::{Front, Running, Subject};
use crate::target::{Against, Bound, Outcome, Target};

const CONNECTIONS: usize = 9_000;
/// Before the first look, so that what the first requests cost is not counted for the connections.
const BEFORE: usize = 64;
/// What a proxy gives back when a connection idles, it has given back by then.
const SETTLE: Duration = Duration::from_secs(3);
/// The floor keeps a buffer for each connection and says nothing about what is possible.
const SUBJECTS: [Subject; 4] = [Subject::Nginx, Subject::Haproxy, Subject::Envoy, Subject::Serviceos];

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: "ServiceOS",
        metric: Metric::KibPerConnection,
        against: Against::Itself,
        bound: Bound::AtMost(4.0),
        stretch: None,
    };
    let work = Work { name: "growth of resident memory for each", targets: vec![target] };
    bench.compare("9,000 idle connections", Front::Http1, &SUBJECTS, vec![work], measure).await
}

async fn measure(running: &Running) -> anyhow::Result<Vec<Sample>> {
    drop(open(running, BEFORE).await?);
    sleep(SETTLE).await;
    let before = resident_bytes(running.child.pid(), running.scope)?;
    let connections = open(running, CONNECTIONS).await?;
    sleep(SETTLE).await;
    let after = resident_bytes(running.child.pid(), running.scope)?;
    let closed = closed(&connections);
    if closed > 0 {
        bail!("{closed} of {CONNECTIONS} connections were closed");
    }
    let growth = after.saturating_sub(before) as f64;
    Ok(vec![Sample::from([
        (Metric::KibPerConnection, growth / 1024.0 / CONNECTIONS as f64),
        (Metric::ResidentMib, after as f64 / f64::from(1 << 20)),
    ])])
}
