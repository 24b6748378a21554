//! What the configuration says of a replica, or the replica itself, that nothing but people and their tools go by.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Shared by all replicas of which the same is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// What it speaks: `http1`, `http2` or `grpc`.
    pub protocol: &'static str,
    /// Where it stands, as the operator calls it.
    pub zone: Option<Arc<str>>,
    /// Whatever else the operator says of it.
    pub metadata: BTreeMap<String, String>,
}
