//! A closed loop over HTTP/2 by h2load: 10 connections with 10 streams each.

use std::time::Duration;

use anyhow::{Context, bail};

use super::output;
use crate::metric::{Metric, Sample, percentile};
use crate::subject::Running;

/// What h2load counted.
#[derive(Debug)]
pub(crate) struct H2loadOutcome {
    pub(crate) requests: u64,
    latencies: Vec<u32>,
}

impl H2loadOutcome {
    pub(crate) fn sample(&self) -> Sample {
        Sample::from([
            (Metric::P50Micros, percentile(&self.latencies, 0.5)),
            (Metric::P99Micros, percentile(&self.latencies, 0.99)),
            (Metric::P999Micros, percentile(&self.latencies, 0.999)),
        ])
    }
}

/// Asks for `url` for `length`, with `arguments` besides the key.
///
/// # Errors
///
/// h2load is not installed or fails, HTTP/2 is not what was spoken, or a request failed.
pub(crate) async fn run(
    running: &Running,
    url: &str,
    arguments: &[String],
    length: Duration,
) -> anyhow::Result<H2loadOutcome> {
    let log = running.folder.path().join("h2load.log");
    // h2load appends.
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let mut all = vec![
        "-c10".to_owned(),
        "-m10".to_owned(),
        "-t1".to_owned(),
        format!("-D{}", length.as_secs()),
        format!("--log-file={}", log.display()),
        format!("--header=x-api-key: {}", running.key),
    ];
    all.extend_from_slice(arguments);
    all.push(url.to_owned());
    let said = output("h2load", all).await?;
    let requests = succeeded(&said)?;
    let mut latencies: Vec<u32> = std::fs::read_to_string(&log)?
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    latencies.sort_unstable();
    Ok(H2loadOutcome { requests, latencies })
}

/// How many requests succeeded, where all did, over HTTP/2.
fn succeeded(said: &str) -> anyhow::Result<u64> {
    if !said.contains("Application protocol: h2") {
        bail!("HTTP/2 was not agreed on");
    }
    let line =
        said.lines().find(|line| line.starts_with("status codes: ")).context("h2load reported nothing")?;
    let counts: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [succeeded, others @ ..] = &counts[..] else { bail!("h2load reported no status codes") };
    if *succeeded == 0 || others.iter().any(|count| *count > 0) {
        bail!("requests failed: {line}");
    }
    // Requests that were under way when the time was over count as nothing; broken ones are named.
    let line =
        said.lines().find(|line| line.starts_with("requests: ")).context("h2load reported no requests")?;
    if !line.contains(" 0 failed, 0 errored, 0 timeout") {
        bail!("requests failed: {line}");
    }
    Ok(*succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Application protocol: h2c\n\n\
        finished in 5.00s, 20110.60 req/s, 4.53MB/s\n\
        requests: 100553 total, 100653 started, 100553 done, 100553 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 100553 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn a_run_without_a_failure_gives_its_count() {
        assert_eq!(succeeded(SAID).unwrap(), 100_553);
    }

    #[test]
    fn a_failure_or_another_protocol_is_no_result() {
        assert!(succeeded(&SAID.replace("0 4xx", "7 4xx")).is_err());
        assert!(succeeded(&SAID.replace("0 errored", "1 errored")).is_err());
        assert!(succeeded(&SAID.replace("h2c", "http/1.1")).is_err());
        assert!(succeeded("").is_err());
    }
}
