//! An answer that the gateway gives itself: a page of its own, or an error.

use http::StatusCode;

/// A short answer that is at hand whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnAnswer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// What a caller in gRPC is told instead, where it is an error: status and message.
    pub(crate) grpc: Option<(u8, String)>,
    /// Whether what follows on the connection can be told from the rest of this request.
    pub(crate) connection: After,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It takes another request.
    Open,
    /// It is closed, once the client has seen the answer.
    Close,
    /// It is broken off, so that the client sees that the answer is not whole.
    BreakOff,
}
