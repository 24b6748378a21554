//! The cases: what is done with each program, and what must come out.

mod bodies;
mod cold_start;
mod http1;
mod http2;
mod idle;
mod kill;
mod large_mesh;
mod latency;
mod lifecycle;
mod mtls;
mod reload;
mod routes;
mod tls;
mod tokens;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::bench::Bench;
use crate::target::Outcome;

/// Load before what is measured: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_secs(1);
const CONNECTIONS: u32 = 64;

/// A case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Small answers over HTTP/1.1, all features on
    Http1,
    /// The same at half of nginx's peak, latencies
    Latency,
    /// Small answers over HTTP/1.1, mutual TLS to the upstreams
    Mtls,
    /// TLS: full and resumed handshakes, small answers
    Tls,
    /// HTTP/2, over TLS and without
    Http2,
    /// gRPC unary calls
    Grpc,
    /// Bodies of 1 MiB, down and up
    Bodies,
    /// 9,000 idle connections
    Idle,
    /// A token that was seen before beside an API key
    Tokens,
    /// 1,000 routes beside one
    Routes,
    /// One service beside 1,000 with 10,000 endpoints
    LargeMesh,
    /// A new configuration with 1,000 services
    Reload,
    /// One of three replicas is killed under load
    Kill,
    /// From nothing to seven healthy replicas
    ColdStart,
    /// Drain, replacement and supervision of replicas
    Lifecycle,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Measures and judges.
    ///
    /// # Errors
    ///
    /// Nothing can be compared, for instance because the load generator is not installed.
    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<Outcome> {
        let outcome = match self {
            Self::Http1 => http1::run(bench).await,
            Self::Latency => latency::run(bench).await?,
            Self::Mtls => mtls::run(bench).await?,
            Self::Tls => tls::run(bench).await,
            Self::Http2 => http2::run(bench).await,
            Self::Grpc => http2::run_grpc(bench).await?,
            Self::Bodies => bodies::run(bench).await,
            Self::Idle => idle::run(bench).await,
            Self::Tokens => tokens::run(bench).await?,
            Self::Routes => routes::run(bench).await,
            Self::LargeMesh => large_mesh::run(bench).await,
            Self::Reload => reload::run(bench).await,
            Self::Kill => kill::run(bench).await,
            Self::ColdStart => cold_start::run(bench).await,
            Self::Lifecycle => lifecycle::run(bench).await,
        };
        Ok(Outcome { case: self.to_string(), ..outcome })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        formatter.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
