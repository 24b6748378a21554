//! Latencies of small answers at half of what nginx reaches, in an open loop.

use std::time::Duration;

use anyhow::Context;

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::client::get;
use crate::load::open_loop::OpenLoop;
use crate::load::wrk::Wrk;
use crate::metric::Metric;
use crate::subject::{Front, Running, Subject, start};
use crate::target::{Bound, NGINX_OR_HAPROXY, Outcome, Target};

const PEAK: Duration = Duration::from_secs(3);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let peak = nginx_peak(bench, Front::Http1).await.context("nginx's peak sets the rate")?;
    let per_second = (peak / 2.0).floor();
    let target = Target {
        of: "ServiceOS",
        metric: Metric::P99Micros,
        against: NGINX_OR_HAPROXY,
        bound: Bound::AtMost(1.0),
        stretch: None,
    };
    let work = Work { name: "open loop, latency from when a request was due", targets: vec![target] };
    let measure = async |running: &Running| {
        let load = OpenLoop {
            address: running.address,
            request: get(running.path, &running.key),
            per_second,
            connections: CONNECTIONS as usize,
        };
        load.run(WARM_UP).await?;
        let (outcome, usage) = measured(running, load.run(bench.window)).await?;
        let mut sample = usage.per_request(outcome.requests());
        sample.extend(outcome.sample());
        Ok(vec![sample])
    };
    let title = "latency at half of nginx's peak";
    let mut outcome = bench.compare(title, Front::Http1, &Subject::ALL, vec![work], measure).await;
    outcome
        .notes
        .push(format!("nginx reaches {peak:.0} requests a second here, so {per_second:.0} are sent."));
    Ok(outcome)
}

/// Requests a second.
///
/// # Errors
///
/// nginx is not installed, or fails a request.
pub(super) async fn nginx_peak(bench: &Bench, front: Front) -> anyhow::Result<f64> {
    let running = start(bench, Subject::Nginx, front).await?;
    let url = running.url("http", running.path);
    let wrk = Wrk { url: &url, key: &running.key, connections: CONNECTIONS, script: "report.lua" };
    wrk.run(bench, WARM_UP).await?;
    let outcome = wrk.run(bench, PEAK).await?;
    outcome.sample().get(&Metric::RequestsPerSecond).copied().context("wrk measured no rate")
}
