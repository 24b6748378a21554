//! TLS from the client, ECDSA P-256 and X25519 for all: full and resumed handshakes, small answers on kept connections.

use super::WARM_UP;
use super::http1::small_answers;
use crate::bench::{Bench, Work, measured};
use crate::certificate::Sessions;
use crate::load::handshakes;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, Subject};
use crate::target::{Bound, NGINX_OR_HAPROXY, Outcome, Target};

const SUBJECTS: [Subject; 4] = [Subject::Nginx, Subject::Haproxy, Subject::Envoy, Subject::Serviceos];

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: "ServiceOS",
        metric: Metric::CpuMicros,
        against: NGINX_OR_HAPROXY,
        bound: Bound::AtMost(1.0),
        stretch: None,
    };
    let names = [
        "full handshakes, one request for each",
        "resumed handshakes, one request for each",
        "small answers on 64 kept connections",
    ];
    let works = names.map(|name| Work { name, targets: vec![target] });
    let measure = async |running: &Running| {
        Ok(vec![
            shake_hands(bench, running, Sessions::Forgotten).await?,
            shake_hands(bench, running, Sessions::Remembered).await?,
            small_answers(bench, running, "https").await?,
        ])
    };
    bench.compare("TLS from the client", Front::Tls, &SUBJECTS, works.into(), measure).await
}

async fn shake_hands(bench: &Bench, running: &Running, sessions: Sessions) -> anyhow::Result<Sample> {
    let shake = |length| handshakes::run(running, &bench.certificate, sessions, length);
    shake(WARM_UP).await?;
    let (count, usage) = measured(running, shake(bench.window)).await?;
    Ok(usage.per_request(count))
}
