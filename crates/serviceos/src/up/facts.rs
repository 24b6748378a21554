//! Where everything is.

use std::net::SocketAddr;
use std::path::PathBuf;

use access::ApiKey;

use super::plan;
use super::screen::Expected;

/// What is told to whoever started it.
pub(super) struct Facts {
    pub(super) gateway: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) data_dir: PathBuf,
    /// In production there is none.
    pub(super) development_key: Option<ApiKey>,
    /// Which node this is, where there may be others, and which replicas somebody else starts.
    pub(super) expected: Expected,
    /// Whether there is a service to show a `curl` for.
    pub(super) example: Option<plan::Example>,
}
