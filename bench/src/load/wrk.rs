//! A closed loop over HTTP/1.1 by wrk: each connection asks again as soon as it is answered.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::output;
use crate::bench::Bench;
use crate::metric::{Metric, Sample};

/// One run of wrk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wrk<'a> {
    pub(crate) url: &'a str,
    pub(crate) key: &'a str,
    pub(crate) connections: u32,
    /// One of the scripts in `bench/load`.
    pub(crate) script: &'a str,
}

/// What wrk counted.
#[derive(Debug, Deserialize)]
pub(crate) struct WrkOutcome {
    pub(crate) requests: u64,
    /// Connections refused or broken, answers above 399, and requests without an answer within 2 s.
    pub(crate) failed: u64,
    micros: u64,
    p50: f64,
    p99: f64,
    p999: f64,
}

impl WrkOutcome {
    /// Rate and latencies, as wrk saw them.
    pub(crate) fn sample(&self) -> Sample {
        Sample::from([
            (Metric::RequestsPerSecond, self.requests as f64 * 1e6 / self.micros as f64),
            (Metric::P50Micros, self.p50),
            (Metric::P99Micros, self.p99),
            (Metric::P999Micros, self.p999),
        ])
    }
}

impl Wrk<'_> {
    /// Runs for `length`; failed requests are counted.
    ///
    /// # Errors
    ///
    /// wrk is not installed or fails.
    pub(crate) async fn count(&self, bench: &Bench, length: Duration) -> anyhow::Result<WrkOutcome> {
        let arguments = [
            "-t1".to_owned(),
            format!("-c{}", self.connections),
            format!("-d{}s", length.as_secs()),
            "--timeout=2s".to_owned(),
            "-s".to_owned(),
            bench.script(self.script).to_string_lossy().into_owned(),
            "-H".to_owned(),
            format!("X-API-Key: {}", self.key),
            self.url.to_owned(),
        ];
        let said = output("wrk", arguments.to_vec()).await?;
        let line = said.lines().find(|line| line.starts_with('{')).context("wrk reported nothing")?;
        Ok(serde_json::from_str(line)?)
    }

    /// Runs for `length`, and no request may fail.
    ///
    /// # Errors
    ///
    /// wrk is not installed or fails, or a request failed.
    pub(crate) async fn run(&self, bench: &Bench, length: Duration) -> anyhow::Result<WrkOutcome> {
        let outcome = self.count(bench, length).await?;
        if outcome.failed > 0 {
            bail!("{} of {} requests failed", outcome.failed, outcome.requests);
        }
        if outcome.requests == 0 {
            bail!("no request was answered");
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_script_is_understood() {
        let line =
            r#"{"requests":100000,"micros":5000000,"bytes":1,"failed":2,"p50":900,"p99":1500,"p999":2100}"#;
        let outcome: WrkOutcome = serde_json::from_str(line).unwrap();
        assert_eq!(outcome.failed, 2);
        assert_eq!(outcome.sample()[&Metric::RequestsPerSecond], 20_000.0);
        assert_eq!(outcome.sample()[&Metric::P999Micros], 2100.0);
    }
}
