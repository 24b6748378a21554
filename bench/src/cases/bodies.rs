//! Bodies of 1 MiB, down and up, on eight connections.

use super::WARM_UP;
use crate::bench::{Bench, Work, measured};
use crate::load::wrk::Wrk;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, Subject};
use crate::target::{Against, Bound, Outcome, Target};

const CONNECTIONS: u32 = 8;

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: "ServiceOS",
        metric: Metric::MibPerCpuSecond,
        against: Against::Best(&["HAProxy"]),
        bound: Bound::AtLeast(1.0),
        stretch: None,
    };
    let works = ["1 MiB down", "1 MiB up"].map(|name| Work { name, targets: vec![target] });
    let measure = async |running: &Running| {
        Ok(vec![
            pass(bench, running, "/1m", "report.lua").await?,
            pass(bench, running, "/sink", "upload.lua").await?,
        ])
    };
    bench.compare("bodies of 1 MiB", Front::Http1, &Subject::ALL, works.into(), measure).await
}

async fn pass(bench: &Bench, running: &Running, path: &str, script: &str) -> anyhow::Result<Sample> {
    let url = running.url("http", path);
    let wrk = Wrk { url: &url, key: &running.key, connections: CONNECTIONS, script };
    wrk.run(bench, WARM_UP).await?;
    let (outcome, usage) = measured(running, wrk.run(bench, bench.window)).await?;
    let mut sample = usage.per_request(outcome.requests);
    sample.extend(outcome.sample());
    sample.insert(Metric::MibPerCpuSecond, usage.mebibytes_per_cpu_second(outcome.requests as f64));
    Ok(sample)
}
