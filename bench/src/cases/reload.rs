//! A new configuration with 1,000 services while requests run: how long until it is published, and what they notice.
//!
//! ServiceOS watches its configuration file, and logs `the configuration was applied` with `elapsed_ms`: from the moment it
//! saw the change until all workers have the new snapshot.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::time::sleep;

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::child::Cores;
use crate::client::get;
use crate::load::open_loop::OpenLoop;
use crate::metric::{Metric, Sample};
use crate::subject::{CONFIG, Front, Running, fill_for, start_serviceos, until_answering};
use crate::target::{Against, Bound, Outcome, Target};

const QUIET: &str = "no change";
const CHANGED: &str = "1,000 services more";
const SERVICES: usize = 1_000;
/// Well below what the gateway can do, so that a stall shows.
const PER_SECOND: f64 = 5_000.0;
/// Until the log says that the change was applied.
const APPLIED: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// What the log says then, and where the time stands.
const LINE: &str = "the configuration was applied";
const FIELD: &str = "elapsed_ms=";

pub(super) async fn run(bench: &Bench) -> Outcome {
    let targets = vec![
        Target {
            of: CHANGED,
            metric: Metric::Milliseconds,
            against: Against::Itself,
            bound: Bound::AtMost(50.0),
            stretch: None,
        },
        Target {
            of: CHANGED,
            metric: Metric::P99Micros,
            against: Against::Best(&[QUIET]),
            bound: Bound::AtMost(1.1),
            stretch: None,
        },
    ];
    let work = Work { name: "ServiceOS at 5,000 requests a second, changed in the middle", targets };
    let measure = async |number: usize| once(bench, number == 1).await;
    bench.compare_ways("a new configuration under load", work, &[QUIET, CHANGED], measure).await
}

async fn once(bench: &Bench, is_changed: bool) -> anyhow::Result<Sample> {
    let ports = bench.upstreams.ports;
    let before = super::routes::with_services(ports, 0, 1);
    let running = start_serviceos(bench, &before, Cores::Proxy).await?;
    let running = until_answering(bench, running, Front::Http1).await?;
    let load = OpenLoop {
        address: running.address,
        request: get(running.path, &running.key),
        per_second: PER_SECOND,
        connections: CONNECTIONS as usize,
    };
    load.run(WARM_UP).await?;
    let change = async {
        if !is_changed {
            return Ok(None);
        }
        sleep(bench.window / 2).await;
        apply(bench, &running, &super::routes::with_services(ports, SERVICES, 1)).await.map(Some)
    };
    let (loaded, applied) = tokio::join!(measured(&running, load.run(bench.window)), change);
    let ((outcome, usage), applied) = (loaded?, applied?);
    let mut sample = usage.per_request(outcome.requests());
    sample.extend(outcome.sample());
    sample.extend(applied.map(|milliseconds| (Metric::Milliseconds, milliseconds)));
    Ok(sample)
}

/// Exchanges the file and waits for the log: how many milliseconds it says.
async fn apply(bench: &Bench, running: &Running, configuration: &str) -> anyhow::Result<f64> {
    let folder = running.folder.path();
    let next = folder.join("next.yaml");
    std::fs::write(&next, fill_for(bench, running, configuration)?)?;
    std::fs::rename(&next, folder.join(CONFIG))?;
    let began = Instant::now();
    loop {
        let log = std::fs::read_to_string(folder.join("stderr"))?;
        if let Some(milliseconds) = log.lines().rev().find_map(elapsed) {
            return Ok(milliseconds);
        }
        if began.elapsed() > APPLIED {
            bail!("the log does not say `{LINE}` with `{FIELD}` within 15 s after the file was changed");
        }
        sleep(POLL).await;
    }
}

fn elapsed(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once(LINE)?;
    let (_, value) = rest.split_once(FIELD)?;
    value.split_whitespace().next()?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_stands_in_the_line_of_the_log() {
        let line = "2026-11-25T08:09:30Z  INFO the configuration was applied revision=7 elapsed_ms=12.5 services=1001";
        assert_eq!(elapsed(line), Some(12.5));
        assert_eq!(elapsed("INFO the configuration was refused elapsed_ms=1"), None);
    }
}
