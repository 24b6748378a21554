//! The body of a request, as whoever reads it from the client offers it.

use std::task::{Context, Poll};

use http1::{Framing, Trailers};
use thiserror::Error;

/// Why a body could not be passed on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The client sends more than the route allows.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    /// The client sends what is no body.
    #[error("{0}")]
    Client(&'static str),
    /// The client has gone away.
    #[error("{0}")]
    Gone(&'static str),
    /// The client sent nothing for too long.
    #[error("the client sent nothing in time")]
    ClientIdle,
    /// The replica stopped sending, or sends what is no body.
    #[error("{0}")]
    Upstream(String),
}

/// A request body that is passed on as it comes.
pub trait RequestBody {
    /// How much of it there is, as far as the head says.
    fn framing(&self) -> Framing;

    /// Looks for data: true when [`Self::data`] has some, false at the end.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>>;

    /// The data at hand.
    fn data(&self) -> &[u8];

    /// So much of it was used.
    fn consume(&mut self, bytes: usize);

    /// Ready when the client has gone away, so that nobody waits for the answer any more.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// What stands behind the body, once it has ended.
    fn take_trailers(&mut self) -> Option<Box<Trailers>>;
}
