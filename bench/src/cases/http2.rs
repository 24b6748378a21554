//! HTTP/2 from the client, 10 connections with 10 streams: small answers, and gRPC unary calls to gRPC upstreams.

use super::WARM_UP;
use crate::bench::{Bench, Work, measured};
use crate::load::{grpc, h2load};
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, Subject};
use crate::target::{Against, Bound, Outcome, Series, Target};

const SUBJECTS: [Subject; 4] = [Subject::Nginx, Subject::Haproxy, Subject::Envoy, Subject::Serviceos];

/// Small answers, over TLS and without.
pub(super) async fn run(bench: &Bench) -> Outcome {
    let mut outcome = small_answers(bench, Front::Tls, "over TLS").await;
    let without = small_answers(bench, Front::H2c, "without TLS, by prior knowledge").await;
    let new = without.notes.into_iter().filter(|note| !outcome.notes.contains(note)).collect::<Vec<_>>();
    outcome.notes.extend(new);
    let series: Vec<Series> = outcome.series.into_iter().chain(without.series).collect();
    Outcome { series, ..outcome }
}

async fn small_answers(bench: &Bench, front: Front, name: &'static str) -> Outcome {
    let scheme = if front == Front::Tls { "https" } else { "http" };
    let measure = async |running: &Running| {
        Ok(vec![load(bench, running, &running.url(scheme, running.path), &[]).await?])
    };
    let work = Work { name, targets: targets() };
    bench.compare("small answers over HTTP/2", front, &SUBJECTS, vec![work], measure).await
}

/// Unary calls.
///
/// # Errors
///
/// The message cannot be written to a file.
pub(super) async fn run_grpc(bench: &Bench) -> anyhow::Result<Outcome> {
    let folder = bench.new_folder()?;
    let message = folder.path().join("message");
    std::fs::write(&message, grpc::message())?;
    let arguments = [
        format!("--data={}", message.display()),
        "--header=content-type: application/grpc".to_owned(),
        "--header=te: trailers".to_owned(),
    ];
    let measure = async |running: &Running| {
        Ok(vec![load(bench, running, &running.url("http", grpc::PATH), &arguments).await?])
    };
    let work = Work { name: "without TLS, by prior knowledge, on both sides", targets: targets() };
    Ok(bench.compare("gRPC unary calls", Front::Grpc, &SUBJECTS, vec![work], measure).await)
}

fn targets() -> Vec<Target> {
    let target = |against, limit| Target {
        of: "ServiceOS",
        metric: Metric::CpuMicros,
        against: Against::Best(against),
        bound: Bound::AtMost(limit),
        stretch: None,
    };
    vec![target(&["nginx"], 1.0), target(&["Envoy"], 0.5)]
}

async fn load(bench: &Bench, running: &Running, url: &str, arguments: &[String]) -> anyhow::Result<Sample> {
    h2load::run(running, url, arguments, WARM_UP).await?;
    let (outcome, usage) = measured(running, h2load::run(running, url, arguments, bench.window)).await?;
    let mut sample = usage.per_request(outcome.requests);
    sample.extend(outcome.sample());
    Ok(sample)
}
