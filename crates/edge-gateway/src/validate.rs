//! What a request must be before it is sent anywhere, beyond what its head has shown already.

mod content;

use http::Method;
use http1::{Framing, Known, RequestHead};

use crate::FlowError;
use crate::path::ambiguity;
use crate::route::Route;
use crate::websocket;
pub(crate) use content::{validate_content, validate_type};

/// Checks everything that could mean two things to whoever comes next.
pub(crate) fn validate_head(head: &RequestHead) -> Result<(), FlowError> {
    if let Some(why) = ambiguity(head.path()) {
        return Err(FlowError::Malformed(why));
    }
    if !head.values(Known::Expect).all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(FlowError::Expectation);
    }
    if head.upgrade().is_some_and(websocket::is_websocket) {
        websocket::validate_request(head)?;
    }
    Ok(())
}

/// Checks the announced length of the body against the route. A body without one is counted while it passes.
pub(crate) fn validate_length(head: &RequestHead, route: &Route) -> Result<(), FlowError> {
    match head.framing() {
        Framing::Length(length) if length > route.body_limit => {
            Err(FlowError::BodyTooLarge(route.body_limit))
        }
        _ => Ok(()),
    }
}

/// The protocol that the replica is asked to change to. One that would hide HTTP itself is none, nor is one that has to
/// wait for a body.
pub(crate) fn upgrade(head: &RequestHead) -> Option<&str> {
    let wanted = head.upgrade()?;
    let plain = *head.method() == Method::GET && head.framing() == Framing::Length(0);
    let hides_http = wanted.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("h2"))
        || wanted.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("http"))
        || wanted.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case("tls"));
    (plain && !hides_http && !wanted.contains(',')).then_some(wanted)
}
