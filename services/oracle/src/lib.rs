//! The service `oracle`: fetches a URL that its operator allowed and answers with one value of the JSON found there.
//!
//! `query` is what a caller asks for, `path` extracts the value within bounds, `service` is the flow from one to the
//! other, `api` speaks HTTP. Every connection goes through `outbound`, which guards it; nothing is stored, and every
//! number keeps the digits that the source wrote.

mod api;
mod error;
mod path;
mod query;
mod service;
mod settings;

pub use service::build;
pub use settings::check_config;

/// Runs the service as a replica until it is told to stop.
pub fn run() -> Result<(), sdk::RunError> {
    sdk::run(build)
}
