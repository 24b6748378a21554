//! 1,000 routes to 100 services with 1,000 endpoints beside one route to one service with three: the same requests must
//! cost the same. The floor knows no routes, and shows what the kernel asks for 1,000 endpoints instead of three.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use super::{CONNECTIONS, WARM_UP};
use crate::bench::{Bench, Work, measured};
use crate::child::Cores;
use crate::load::wrk::Wrk;
use crate::metric::{Metric, Sample};
use crate::subject::{Front, Running, start_floor, start_serviceos, until_answering};
use crate::target::{Against, Bound, Outcome, Target};

const FLOOR_FEW: &str = "floor, 3 endpoints";
const FLOOR_MANY: &str = "floor, 1,000 endpoints";
const FEW: &str = "1 route, 1 service, 3 endpoints";
const MANY: &str = "1,000 routes, 100 services, 1,000 endpoints";
const SERVICES: usize = 100;
/// Of each service; `routes.lua` asks for these.
const ROUTES: usize = 10;
/// Of each service.
const ENDPOINTS: usize = 10;

pub(super) async fn run(bench: &Bench) -> Outcome {
    let target = Target {
        of: MANY,
        metric: Metric::CpuMicros,
        against: Against::Best(&[FEW]),
        bound: Bound::AtMost(1.05),
        stretch: None,
    };
    let work = Work { name: "64 connections that ask for all routes", targets: vec![target] };
    let ports = bench.upstreams.ports;
    let measure = async |number: usize| {
        let running = match number {
            0 => start_floor(bench, (0..3).map(|number| endpoint(ports, number))).await,
            1 => start_floor(bench, (0..SERVICES * ENDPOINTS).map(|number| endpoint(ports, number))).await,
            2 => start(bench, &few(ports)).await,
            _ => start(bench, &many(ports)).await,
        };
        once(bench, running?).await
    };
    let names = [FLOOR_FEW, FLOOR_MANY, FEW, MANY];
    bench.compare_ways("many routes, services and endpoints", work, &names, measure).await
}

async fn start(bench: &Bench, configuration: &str) -> anyhow::Result<Running> {
    let running = start_serviceos(bench, configuration, Cores::Proxy).await?;
    until_answering(bench, Running { path: "/s00/r0/x", ..running }, Front::Http1).await
}

async fn once(bench: &Bench, running: Running) -> anyhow::Result<Sample> {
    let url = running.url("http", "");
    let wrk = Wrk { url: &url, key: &running.key, connections: CONNECTIONS, script: "routes.lua" };
    wrk.run(bench, WARM_UP).await?;
    let (outcome, usage) = measured(&running, wrk.run(bench, bench.window)).await?;
    let mut sample = usage.per_request(outcome.requests);
    sample.extend(outcome.sample());
    Ok(sample)
}

const HEAD: &str = "\
dataDir: {{folder}}/data
gateway:
  listen: [\"{{http}}\"]
  workers: 1
  rateLimits: {tiers: {production: {rate: 1000000000/s, burst: 1000000}}}
admin: {listen: \"127.0.0.1:0\"}
services:
";

fn few(ports: [u16; 3]) -> String {
    let endpoints = ports.map(|port| format!("\"http://127.0.0.1:{port}\"")).join(", ");
    HEAD.to_owned() + &service("bench", &endpoints, &["/{*rest}".to_owned()])
}

fn many(ports: [u16; 3]) -> String {
    let services = (0..SERVICES).map(|number| {
        let name = format!("s{number:02}");
        let endpoints: Vec<String> =
            (0..ENDPOINTS).map(|endpoint| endpoint_url(ports, number * ENDPOINTS + endpoint)).collect();
        let routes: Vec<String> = (0..ROUTES).map(|route| format!("/{name}/r{route}/{{*rest}}")).collect();
        service(&name, &endpoints.join(", "), &routes)
    });
    HEAD.to_owned() + &services.collect::<String>()
}

/// The upstreams are behind every address of 127.0.0.0/8, so three ports make as many endpoints as one likes.
fn endpoint(ports: [u16; 3], number: usize) -> SocketAddr {
    let part = |number: usize| u8::try_from(1 + number).expect("there are fewer than 60,000 endpoints");
    let address = Ipv4Addr::new(127, 0, part(number / 250), part(number % 250));
    (address, ports[number % ports.len()]).into()
}

fn endpoint_url(ports: [u16; 3], number: usize) -> String {
    format!("\"http://{}\"", endpoint(ports, number))
}

/// Checks are rare, because 1,000 endpoints have more of them than three, and they are not what is compared.
fn service(name: &str, endpoints: &str, routes: &[String]) -> String {
    let mut text = format!(
        "  {name}:\n    endpoints: [{endpoints}]\n    attestation: none\n    \
         healthCheck: {{interval: 5m}}\n    routes:\n"
    );
    for path in routes {
        let _to_a_string = writeln!(text, "      - {{match: {{path: \"{path}\"}}, scopes: [bench]}}");
    }
    text
}

/// `count` services with one route and so many endpoints each, besides the one of [`few`].
pub(super) fn with_services(ports: [u16; 3], count: usize, endpoints: usize) -> String {
    let services = (0..count).map(|number| {
        let name = format!("extra-{number}");
        let urls: Vec<String> =
            (0..endpoints).map(|endpoint| endpoint_url(ports, number * endpoints + endpoint)).collect();
        service(&name, &urls.join(", "), &[format!("/{name}/{{*rest}}")])
    });
    let endpoints = ports.map(|port| format!("\"http://127.0.0.1:{port}\"")).join(", ");
    HEAD.to_owned() + &service("bench", &endpoints, &["/v1/bench".to_owned()]) + &services.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use expect_test::expect;

    use super::*;

    #[test]
    fn a_service_is_written_as_an_operator_would() {
        let text = few([1, 2, 3]);
        let services = &text[text.find("services:").unwrap()..];
        expect![[r#"
            services:
              bench:
                endpoints: ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]
                attestation: none
                healthCheck: {interval: 5m}
                routes:
                  - {match: {path: "/{*rest}"}, scopes: [bench]}
        "#]]
        .assert_eq(services);
    }

    #[test]
    fn many_are_as_many_as_they_say() {
        let text = many([1, 2, 3]);
        assert_eq!(text.matches("match:").count(), 1_000);
        assert_eq!(text.matches("endpoints:").count(), 100);
        let endpoints: HashSet<&str> = text.split('"').filter(|part| part.starts_with("http://")).collect();
        assert_eq!(endpoints.len(), 1_000);
    }
}
