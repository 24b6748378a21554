//! Small answers over HTTP/1.1 on 64 kept connections, with all features on.

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::load::wrk::Wrk;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, Subject};
use crate::target::{Against, Bound, NGINX_OR_HAPROXY, Outcome, Target};

pub(super) async fn run(bench: &Bench) -> Outcome {
    let work = Work { name: "64 connections, as fast as it goes", targets: targets() };
    let measure = async |running: &Running| Ok(vec![small_answers(bench, running, "http").await?]);
    bench.compare("small answers over HTTP/1.1", Front::Http1, &Subject::ALL, vec![work], measure).await
}

fn targets() -> Vec<Target> {
    let target = |against, limit, stretch| Target {
        of: "ServiceOS",
        metric: Metric::CpuMicros,
        against,
        bound: Bound::AtMost(limit),
        stretch,
    };
    vec![
        target(NGINX_OR_HAPROXY, 0.75, Some(0.65)),
        target(Against::Best(&["Envoy"]), 0.3, None),
        target(Against::Best(&["floor"]), 1.2, None),
    ]
}

/// Processor time, rate and latencies of small answers, as fast as they come.
pub(super) async fn small_answers(bench: &Bench, running: &Running, scheme: &str) -> anyhow::Result<Sample> {
    let url = running.url(scheme, running.path);
    let wrk = Wrk { url: &url, key: &running.key, connections: CONNECTIONS, script: "report.lua" };
    wrk.run(bench, WARM_UP).await?;
    let (outcome, usage) = measured(running, wrk.run(bench, bench.window)).await?;
    let mut sample = usage.per_request(outcome.requests);
    sample.extend(outcome.sample());
    Ok(sample)
}
