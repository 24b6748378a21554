//! What the system says about itself: metrics, the access log and its own log.
//!
//! Counting never takes a lock and never waits: each gateway worker has counters of its own, summed when somebody asks;
//! access log lines go to a thread of their own, and are dropped and counted when that cannot keep up.

mod access_log;
mod counters;
mod error_rate;
mod exposition;
mod json;
mod lines;
mod metrics;
mod process_log;
mod reasons;
mod shards;

pub use access_log::{AccessLog, AccessLogError, AccessLogHandle, LineBuffer};
pub use counters::{Counter, Gauge, Histogram, LATENCY_BUCKETS_MS};
pub use exposition::{Exposition, MetricType};
pub use json::write_json_string;
pub use lines::Lines;
pub use metrics::{Metrics, ServiceSeries};
pub use process_log::start_process_log;
pub use reasons::{
    CircuitLimit, CountersBy, Http2Refused, Reason, Refused, RetryDenied, TlsHandshake, UpstreamFailure,
};
pub use shards::{GatewayShard, HealthShard, MethodLabel, RouteShard, Served, ServiceShard};
