//! What a request must be before anything is looked up or sent.

use configuration::GatewayLimits;
use http::request::Parts;
use http::{HeaderValue, header};

use crate::FlowError;
use crate::path::ambiguity;
use crate::route::Route;

/// Checks the head: limits first, then everything that could mean two things.
pub(crate) fn validate_head(parts: &Parts, limits: &GatewayLimits) -> Result<(), FlowError> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target as u64 > limits.url_bytes.0 {
        return Err(FlowError::UrlTooLong(limits.url_bytes.0));
    }
    if parts.headers.len() > limits.headers {
        return Err(FlowError::HeadersTooLarge(format!("at most {} lines", limits.headers)));
    }
    // A line is name, colon, space, value, CR and LF.
    let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes as u64 > limits.header_bytes.0 {
        return Err(FlowError::HeadersTooLarge(format!("at most {}", limits.header_bytes)));
    }
    validate_host(parts)?;
    if let Some(why) = ambiguity(parts.uri.path()) {
        return Err(FlowError::Malformed(why));
    }
    let understood = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if parts.headers.get_all(header::EXPECT).iter().all(understood) {
        Ok(())
    } else {
        Err(FlowError::Expectation)
    }
}

/// One Host, and in absolute form the same one.
fn validate_host(parts: &Parts) -> Result<(), FlowError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes(),
        (None, _) => return Err(FlowError::Malformed("it has no Host")),
        (Some(_), Some(_)) => return Err(FlowError::Malformed("it has more than one Host")),
    };
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    if host.is_empty() || !host.iter().all(valid) {
        return Err(FlowError::Malformed("its Host is not a host and a port"));
    }
    match parts.uri.authority() {
        Some(authority) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            Err(FlowError::Malformed("its URL names another host than Host does"))
        }
        _ => Ok(()),
    }
}

/// Checks the announced length of the body against the route. A body without one is counted while it passes.
pub(crate) fn validate_length(parts: &Parts, route: &Route) -> Result<Option<u64>, FlowError> {
    let Some(length) = parts.headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or(FlowError::Malformed("its Content-Length is not a number"))?;
    if length > route.body_limit { Err(FlowError::BodyTooLarge(route.body_limit)) } else { Ok(Some(length)) }
}
