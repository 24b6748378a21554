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

pub use access_log::{AccessLog, AccessLogError, AccessLogHandle, LineBuffer};
pub use counters::{Counter, Gauge, Histogram, LATENCY_BUCKETS_MS};
pub use error_rate::ErrorRates;
pub use exposition::{Exposition, MetricType};
pub use json::write_json_string;
pub use lines::Lines;
pub use metrics::{Metrics, RouteIndex, RouteLabels, RouteShard, ServiceIndex, ServiceShard, WorkerShard};
pub use process_log::start_process_log;
