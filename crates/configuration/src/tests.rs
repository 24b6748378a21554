//! The whole way from a text to settings or to a report.

mod any_input;
mod attestation;
mod authentication;
mod command;
mod endpoints;
mod everything;
mod gateway;
mod policies;
mod production;
mod releases;
mod reports;
mod requests;
mod restart_needed;
mod rollouts;
mod routes;
mod schema;
mod secrets;
mod semantic;
mod shared_limits;
mod spec;
mod store;
mod valid;

use std::num::NonZeroUsize;
use std::path::Path;

use expect_test::Expect;

use crate::{LoadError, Settings, any_config, parse};

/// Every key with a value that is not its default.
pub(crate) const FULL: &str = include_str!("tests/full.yaml");

pub(crate) fn read(text: &str) -> Result<Settings, LoadError> {
    parse(text, "serviceos.yaml", Path::new("/srv/mesh"), NonZeroUsize::new(4).unwrap(), any_config)
}

/// The report of a text that must not be valid.
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&read(text).map(|_| ()).unwrap_err().to_string());
}
