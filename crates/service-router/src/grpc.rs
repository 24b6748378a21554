//! What the head and the end of an answer say of the replica that gave it. In gRPC a call that failed is answered with 200
//! too, and says so in `grpc-status`.

use http1::{Framing, Known, ResponseHead, Trailers, is_grpc};

/// How a call ended, as far as the replica is to be blamed or praised for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    /// The status stands behind the body.
    Open,
}

/// What the head shows.
pub(crate) fn of_head(head: &ResponseHead) -> Outcome {
    if head.status().is_server_error() {
        return Outcome::Failed;
    }
    if let Some(status) = head.value(Known::GrpcStatus) {
        return of_status(status);
    }
    let grpc = head.value(Known::ContentType).is_some_and(is_grpc);
    // Trailers stand behind chunks only, and behind a body in HTTP/2 of no announced length.
    if grpc && head.framing() == Framing::Chunked { Outcome::Open } else { Outcome::Succeeded }
}

/// What the end shows. Without a status the answer that came whole is one.
pub(crate) fn of_trailers(trailers: Option<&Trailers>) -> Outcome {
    let status = trailers.and_then(|trailers| trailers.value(Known::GrpcStatus));
    status.map_or(Outcome::Succeeded, of_status)
}

/// A status is a failure of the replica where another one might have done better: `UNKNOWN`, `INTERNAL`, `UNAVAILABLE` and
/// `DATA_LOSS`. `RESOURCE_EXHAUSTED` is back-pressure, and all others are answers.
fn of_status(status: &[u8]) -> Outcome {
    match status {
        b"2" | b"13" | b"14" | b"15" => Outcome::Failed,
        _ => Outcome::Succeeded,
    }
}
