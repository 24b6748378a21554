//! The service `datafeed`: prices aggregated from several sources, exact to the last digit, over HTTP.
//!
//! A poller per feed and source (`poller`, `source`) reads prices (`price`), which carry no float anywhere. One task per
//! feed (`feed`) owns the feed's state, aggregates (`aggregate`) and publishes a new round on deviation or heartbeat.
//! `api` reads what was published: a GET never fetches.

mod aggregate;
mod api;
mod clock;
mod feed;
mod poller;
mod price;
mod service;
mod settings;
mod source;

pub use service::build;
pub use settings::check_config;

/// Runs the service as a replica until it is told to stop.
pub fn run() -> Result<(), sdk::RunError> {
    sdk::run(build)
}
