//! A call to a service: what is asked for, and why there may be no answer.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http1::write_field;
use service_registry::Instance;
use thiserror::Error;
use tokio::time::Instant;

use crate::balance::Wanted;
use crate::request_body::BodyError;

/// The head of a call, as the replica is to be sent it. Written anew for each try.
pub trait CallHead {
    /// The method.
    fn method(&self) -> &Method;

    /// Path and query.
    fn target(&self) -> (&[u8], &[u8]);

    /// Host and port as the client named them.
    fn host(&self) -> &[u8];

    /// The protocol that the client wants to change to.
    fn upgrade(&self) -> Option<&str>;

    /// Whether the client set a deadline in gRPC's own field.
    fn has_grpc_timeout(&self) -> bool;

    /// Hands over every other field of the message, but for those of framing and connection.
    fn each_field(&self, put: &mut impl FnMut(&[u8], &[u8]));

    /// The same as lines of HTTP/1.1, some of which may have been written before.
    fn write_fields(&self, out: &mut Vec<u8>) {
        self.each_field(&mut |name, value| write_field(out, name, value));
    }
}

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// When the request came.
    pub began: Instant,
    /// Whether it may be sent a second time.
    pub replay: Replay,
    /// Until the head of the answer; pauses while the body makes progress.
    pub timeout: Duration,
    /// How long any call like it may take; who wants an answer sooner learns nothing about the replica.
    pub allowed: Duration,
    /// What the balancing policy hashes, where it does.
    pub hash: Option<u64>,
    /// The version that it is for, as [`crate::ServiceView::version`] numbers them.
    pub version: Wanted,
    /// What keeps a caller with one version, where something does.
    pub sticky: Option<u64>,
}

/// Whether a call that may have been executed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Executing it twice has the effect of executing it once (RFC 9110 section 9.2.2).
    Safe,
    /// It might be executed twice.
    Unsafe,
}

/// Why there is no answer, and how far the call came.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CallError,
    /// The last one that was tried.
    pub instance: Option<Arc<Instance>>,
    /// How often the call was tried.
    pub attempts: u32,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// No replica may serve.
    #[error("no replica can be selected: {0}")]
    NoReplica(String),
    /// A replica failed before it answered, and the call may have been executed or there was none left to try.
    #[error("the replica failed: {0}")]
    Upstream(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// A limit of the service is reached, so that no more may be asked of it now.
    #[error("the service has as many {0} as it may")]
    Shed(&'static str),
    /// This machine has no room for another connection.
    #[error("no room for another connection: {0}")]
    Exhausted(String),
    /// The client has gone away.
    #[error("the client went away")]
    Cancelled,
    /// The client's body failed.
    #[error(transparent)]
    Body(#[from] BodyError),
}
