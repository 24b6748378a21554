//! The content of a request against what its route asks: parameters, content type, and what the body is.

use std::time::Duration;

use http::Method;
use http1::{Framing, RequestHead};
use service_router::Timer;
use validation::{Content, Judged, RequestRule, media_type};

use crate::FlowError;
use crate::exchange::Exchange;
use crate::held::{Held, read_held};
use crate::request_flow::ClientBody;

/// What is to be done about a body.
pub(crate) enum Body<'a> {
    /// It passes as it comes.
    Passes,
    /// It is read, and judged by this.
    Judged(&'a Content),
    /// It must be empty: nobody says what it is.
    Empty,
}

/// What is to be done about the body, by what the head says of its type.
pub(crate) fn validate_type<'a>(head: &RequestHead, rule: &'a RequestRule) -> Result<Body<'a>, FlowError> {
    let mut types = head.values_of("content-type");
    let (first, more) = (types.next(), types.next().is_some());
    if head.framing() == Framing::Length(0) {
        return without_body(head, rule);
    }
    let Some(first) = first else {
        // Without a length nobody knows yet whether there is one.
        return match head.framing() {
            Framing::Length(_) => Err(unsupported(rule, "the request does not say what its body is")),
            _ => Ok(Body::Empty),
        };
    };
    let found = media_type(first).filter(|_| !more);
    let Some((essence, charset)) = found else {
        return Err(unsupported(rule, "its Content-Type is no media type"));
    };
    let Some(content) = rule.content(essence) else {
        return Err(unsupported(rule, "its media type is another"));
    };
    if !content.is_judged() {
        return Ok(Body::Passes);
    }
    if charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(unsupported(rule, "its charset is another than utf-8"));
    }
    let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
    if !head.values_of("content-encoding").all(is_plain) {
        return Err(FlowError::EncodingUnsupported);
    }
    Ok(Body::Judged(content))
}

/// Refuses parameters that are not what the route takes, and a body of which it is judged. Such a body has been read whole then.
pub(crate) async fn validate_content(
    exchange: &Exchange,
    (rule, wanted): (&RequestRule, Body<'_>),
    body: &mut impl ClientBody,
    timer: &mut Timer,
    timeout: Duration,
) -> Result<(), FlowError> {
    let content = match wanted {
        Body::Passes => return parameters(&exchange.head, rule),
        Body::Judged(content) => Some(content),
        Body::Empty => None,
    };
    parameters(&exchange.head, rule)?;
    let share = exchange.worker.held_bytes.share_of(exchange.address());
    read_held(body, timer, timeout, share).await?;
    let bytes = body.held().as_deref().map_or(&[][..], Held::bytes);
    match content {
        // It had no length, and turns out to be none.
        _ if bytes.is_empty() => without_body(&exchange.head, rule).map(drop),
        Some(content) => match content.judge(bytes) {
            Judged::Valid => Ok(()),
            Judged::NotJson(why) => Err(FlowError::NotJson(why)),
            Judged::Violating(violations) => Err(FlowError::BodyViolates(Box::new(violations))),
        },
        None => Err(unsupported(rule, "the request does not say what its body is")),
    }
}

fn parameters(head: &RequestHead, rule: &RequestRule) -> Result<(), FlowError> {
    // Visible ASCII, as the target of a head is.
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let (path, origin) = (text(head.path()), text(head.origin()));
    let query = origin.split_once('?').map_or("", |(_, query)| query);
    let violations = rule.check_parameters(path, query, &|name, put| head.values_of(name).for_each(put));
    if violations.is_empty() { Ok(()) } else { Err(FlowError::ParametersViolate(Box::new(violations))) }
}

fn without_body<'a>(head: &RequestHead, rule: &RequestRule) -> Result<Body<'a>, FlowError> {
    let sends_content = matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH);
    if rule.wants_body(sends_content) { Err(FlowError::BodyMissing) } else { Ok(Body::Passes) }
}

fn unsupported(rule: &RequestRule, why: &'static str) -> FlowError {
    FlowError::MediaType { wanted: rule.media_types(), why }
}
