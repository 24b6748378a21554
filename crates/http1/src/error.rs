//! Why bytes are not taken as a message. The texts fit after "the request is malformed: ".

use thiserror::Error;

/// What breaks HTTP, or could mean two things.
pub type Malformed = &'static str;

/// Why the head of a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestFault {
    /// It breaks HTTP, or could mean two things.
    #[error("it is malformed: {0}")]
    Malformed(Malformed),
    /// The target is over the limit.
    #[error("its target is too long")]
    TargetTooLong,
    /// The head is over the limit of its bytes.
    #[error("its head has too many bytes")]
    TooManyBytes,
    /// The head is over the limit of its lines.
    #[error("its head has too many lines")]
    TooManyFields,
}

/// Why the head of a response is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseFault {
    /// It breaks HTTP, or could mean two things.
    #[error("its answer is malformed: {0}")]
    Malformed(Malformed),
    /// The head is over a limit.
    #[error("the head of its answer is too large")]
    TooLarge,
}

/// Why the rest of a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the body is malformed: {0}")]
pub struct BodyFault(pub Malformed);
