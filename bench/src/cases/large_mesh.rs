//! 1,000 services with 10 endpoints each beside one service with three, which all requests are for: they must cost the same.
//! It is measured once all endpoints were checked for the first time; their next checks are far away.

use super::http1::small_answers;
use super::routes::with_services;
use crate::bench::{Bench, Work};
use crate::child::Cores;
use crate::metric::Metric;
use crate::subject::{Front, start_serviceos, until_answering};
use crate::target::{Against, Bound, Outcome, Target};

const FEW: &str = "1 service, 3 endpoints";
const MANY: &str = "1,000 services, 10,000 endpoints more";
const SERVICES: usize = 1_000;
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
    let work = Work { name: "64 connections that ask for one service", targets: vec![target] };
    let ports = bench.upstreams.ports;
    let measure = async |number: usize| {
        let services = [0, SERVICES][number];
        let running =
            start_serviceos(bench, &with_services(ports, services, ENDPOINTS), Cores::Proxy).await?;
        let running = until_answering(bench, running, Front::Http1).await?;
        small_answers(bench, &running, "http").await
    };
    bench.compare_ways("one service of a large mesh", work, &[FEW, MANY], measure).await
}
