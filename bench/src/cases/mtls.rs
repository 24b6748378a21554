//! Small answers over HTTP/1.1 with all features on, through mutual TLS to the upstreams: as fast as it goes, and at one rate
//! for all.
//!
//! ServiceOS speaks mutual TLS with members of its mesh alone, so it is in front of three vrf replicas of its own. The others
//! are in front of upstreams that give the same answer. Only the proxy's processor time counts, but the replicas take more of
//! the core that they share with the load than the upstreams do; the one rate, which nobody is at the end of, evens that out.

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::http1::small_answers;
use super::latency::nginx_peak;
use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::client::{Connection, get};
use crate::load::open_loop::OpenLoop;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, Subject};
use crate::target::{Bound, NGINX_OR_HAPROXY, Outcome, Series, Target};

/// The floor speaks no TLS.
const SUBJECTS: [Subject; 4] = [Subject::Nginx, Subject::Haproxy, Subject::Envoy, Subject::Serviceos];
const TITLE: &str = "small answers through mutual TLS to the upstreams";
/// Of the body of an answer, whoever gives it.
const BODY_BYTES: usize = 264;
/// Of nginx's peak: so little that the replicas have room on the core that they share with the load.
const SHARE: f64 = 1.0 / 3.0;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let peak = nginx_peak(bench, Front::Mutual).await.context("nginx's peak sets the rate")?;
    let per_second = (peak * SHARE).floor();
    // Apart, so that a program which cannot keep the rate still has its figures without one.
    let fast = as_fast_as_it_goes(bench).await;
    let even = at_one_rate(bench, per_second).await;
    let mut notes = fast.notes;
    notes.push(format!(
        "nginx reaches {peak:.0} requests a second here, so {per_second:.0} are the one rate."
    ));
    let series: Vec<Series> = fast.series.into_iter().chain(even.series).collect();
    Ok(Outcome { notes, series, ..even })
}

async fn as_fast_as_it_goes(bench: &Bench) -> Outcome {
    let work = Work { name: "64 connections, as fast as it goes", targets: vec![target()] };
    let measure = async |running: &Running| {
        let body_bytes = body_bytes(running).await?;
        let mut sample = small_answers(bench, running, "http").await?;
        sample.insert(Metric::BodyBytes, body_bytes);
        Ok(vec![sample])
    };
    bench.compare(TITLE, Front::Mutual, &SUBJECTS, vec![work], measure).await
}

async fn at_one_rate(bench: &Bench, per_second: f64) -> Outcome {
    let work = Work { name: "open loop, one rate for all", targets: vec![target()] };
    let measure = async |running: &Running| {
        let body_bytes = body_bytes(running).await?;
        let mut sample = kept_rate(bench, running, per_second).await?;
        sample.insert(Metric::BodyBytes, body_bytes);
        Ok(vec![sample])
    };
    bench.compare(TITLE, Front::Mutual, &SUBJECTS, vec![work], measure).await
}

fn target() -> Target {
    Target {
        of: "ServiceOS",
        metric: Metric::CpuMicros,
        against: NGINX_OR_HAPROXY,
        bound: Bound::AtMost(1.0),
        stretch: None,
    }
}

async fn kept_rate(bench: &Bench, running: &Running, per_second: f64) -> anyhow::Result<Sample> {
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
    Ok(sample)
}

/// What is passed on must be as much for all, though not all get it from the same upstreams.
async fn body_bytes(running: &Running) -> anyhow::Result<f64> {
    let mut connection = Connection::new(TcpStream::connect(running.address).await?);
    let answer = connection.ask(&get(running.path, &running.key)).await?;
    if answer.body_bytes != BODY_BYTES {
        bail!(
            "its answer has {} bytes, and those that it is compared with have {BODY_BYTES}",
            answer.body_bytes
        );
    }
    Ok(answer.body_bytes as f64)
}
