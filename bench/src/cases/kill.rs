//! `kill -9` of one of three replicas under load: no idempotent request may fail.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work};
use crate::child::Cores;
use crate::load::wrk::Wrk;
use crate::metric::{Metric, Sample};
use crate::process::{descendants, words_of};
use crate::subject::{KEYS_PATH, start_serviceos};
use crate::target::{Against, Bound, Outcome, Series, Target};

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: "ServiceOS",
        metric: Metric::FailedRequests,
        against: Against::Itself,
        bound: Bound::AtMost(0.0),
        stretch: None,
    };
    let work = Work {
        name: "GET on 64 connections, one of three replicas of vrf is killed in the middle",
        targets: Vec::new(),
    };
    let measure = async |_| once(bench).await;
    let mut outcome =
        bench.compare_ways("a replica is killed under load", work, &["ServiceOS"], measure).await;
    outcome.series = outcome.series.into_iter().map(|series| judge_sum(series, target)).collect();
    outcome.notes.push("The failed requests are those of all rounds.".to_owned());
    outcome
}

/// No round may fail one, so not the median counts but the sum.
fn judge_sum(series: Series, target: Target) -> Series {
    let mut rows = series.rows;
    for row in &mut rows {
        let failed: f64 = row.rounds.iter().filter_map(|round| round.get(&Metric::FailedRequests)).sum();
        row.medians.entry(Metric::FailedRequests).and_modify(|median| *median = failed);
    }
    Series::new(&series.name, rows, &[target])
}

async fn once(bench: &Bench) -> anyhow::Result<Sample> {
    let template = include_str!("../../peers/serviceos-vrf.yaml");
    let running = start_serviceos(bench, template, Cores::Proxy).await?;
    let url = running.url("http", KEYS_PATH);
    let wrk = Wrk { url: &url, key: &running.key, connections: CONNECTIONS, script: "report.lua" };
    wrk.run(bench, WARM_UP).await?;
    let kill = async {
        sleep(bench.window / 2).await;
        kill_one(running.child.pid())
    };
    let (outcome, killed) = tokio::join!(wrk.count(bench, bench.window), kill);
    killed?;
    let outcome = outcome?;
    let mut sample = outcome.sample();
    sample.insert(Metric::FailedRequests, outcome.failed as f64);
    Ok(sample)
}

fn kill_one(gateway: u32) -> anyhow::Result<()> {
    let mut replicas = descendants(gateway);
    // Beside them runs what gives evidence of them, which is `serviceos dev-quoter`.
    replicas.retain(|pid| words_of(*pid).get(1).is_some_and(|word| word == "service"));
    let [victim, _, _] = replicas[..] else { bail!("{} replicas run, and not three", replicas.len()) };
    let victim = Pid::from_raw(i32::try_from(victim)?).context("a replica has the number 0")?;
    Ok(kill_process(victim, Signal::KILL)?)
}
