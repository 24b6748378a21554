//! From nothing, with an empty data directory, to seven healthy replicas, each of which joins the mesh with evidence. The time
//! counts from the start of the process.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::bench::{Bench, Work};
use crate::child::Cores;
use crate::metric::{Metric, Sample};
use crate::subject::{Running, launch_serviceos};
use crate::target::{Against, Bound, Outcome, Target};

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
const ASK: &[u8] = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: "ServiceOS",
        metric: Metric::Milliseconds,
        against: Against::Itself,
        bound: Bound::AtMost(3000.0),
        stretch: None,
    };
    let work = Work {
        name: "vrf × 3, datafeed × 2, oracle × 2, with their joins, on both cores, until /health is healthy",
        targets: vec![target],
    };
    bench.compare_ways("cold start", work, &["ServiceOS"], async |_| once(bench).await).await
}

async fn once(bench: &Bench) -> anyhow::Result<Sample> {
    let began = Instant::now();
    let mut running = launch_serviceos(bench, include_str!("../../peers/serviceos-cold.yaml"), Cores::Both)?;
    while !is_healthy(&running).await {
        running.fail_if_ended()?;
        if began.elapsed() > LIMIT {
            bail!("not healthy within 30 s");
        }
        sleep(POLL).await;
    }
    Ok(Sample::from([(Metric::Milliseconds, began.elapsed().as_secs_f64() * 1000.0)]))
}

/// Before the gateway listens, nothing is.
pub(super) async fn is_healthy(running: &Running) -> bool {
    let Ok(mut stream) = TcpStream::connect(running.address).await else { return false };
    let mut answer = Vec::new();
    let asked = stream.write_all(ASK).await.is_ok() && stream.read_to_end(&mut answer).await.is_ok();
    // The whole comes first; a service is `up`, not `healthy`.
    asked && String::from_utf8_lossy(&answer).contains(r#""status":"healthy""#)
}
