//! A token that was seen before instead of an API key: the same requests must cost about the same.

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::child::Cores;
use crate::load::wrk::Wrk;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, start_serviceos, until_answering};
use crate::target::{Against, Bound, Outcome, Target};
use crate::token::{AUDIENCE, ISSUER, ROLE, Token};

const KEY: &str = "API key";
const TOKEN: &str = "token seen before";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let target = Target {
        of: TOKEN,
        metric: Metric::CpuMicros,
        against: Against::Best(&[KEY]),
        bound: Bound::AtMost(1.1),
        stretch: None,
    };
    let work = Work { name: "64 connections, each with one credential", targets: vec![target] };
    let (token, folder) = (Token::new()?, bench.new_folder()?);
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, &token.keys)?;
    let configuration = configuration(bench.upstreams.ports, &keys.to_string_lossy());
    let measure = async |number: usize| {
        let running = start_serviceos(bench, &configuration, Cores::Proxy).await?;
        let running = until_answering(bench, running, Front::Http1).await?;
        let url = running.url("http", running.path);
        let credential = if number == 0 { &running.key } else { &token.token };
        let wrk = Wrk { url: &url, key: credential, connections: CONNECTIONS, script: "report.lua" };
        wrk.run(bench, WARM_UP).await?;
        let (outcome, usage) = measured(&running, wrk.run(bench, bench.window)).await?;
        let mut sample: Sample = usage.per_request(outcome.requests);
        sample.extend(outcome.sample());
        Ok(sample)
    };
    Ok(bench.compare_ways("a token instead of an API key", work, &[KEY, TOKEN], measure).await)
}

fn configuration(ports: [u16; 3], keys: &str) -> String {
    let endpoints = ports.map(|port| format!("\"http://127.0.0.1:{port}\"")).join(", ");
    format!(
        "\
dataDir: {{{{folder}}}}/data
gateway:
  listen: [\"{{{{http}}}}\"]
  workers: 1
  rateLimits: {{tiers: {{production: {{rate: 1000000000/s, burst: 1000000}}}}}}
  authentication:
    jwt:
      - issuer: {ISSUER}
        audience: {AUDIENCE}
        jwks: {keys}
        algorithms: [ES256]
        roleClaim: role
        scopes: {{{ROLE}: [bench]}}
        tier: production
admin: {{listen: \"127.0.0.1:0\"}}
services:
  bench:
    endpoints: [{endpoints}]
    attestation: none
    routes: [{{match: {{path: /v1/bench}}, scopes: [bench]}}]
"
    )
}
