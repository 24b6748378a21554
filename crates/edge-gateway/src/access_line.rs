//! One line of the access log: a JSON object, written straight into the worker's buffer. The key of a caller is never in
//! it, nor a query string, which may carry one.

use std::time::Duration;

use http1::write_decimal;
use observability::write_json_string;

use crate::exchange::Exchange;
use crate::route::Route;

/// What every line of a route has in common, escaped once.
pub(crate) fn route_part(template: &str, service: &str) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, b",\"route\":", template);
    text(&mut out, b",\"service\":", service);
    out
}

/// Appends the line of a request.
pub(crate) fn write(out: &mut Vec<u8>, exchange: &Exchange, route: Option<&Route>, total: Duration) {
    out.extend_from_slice(b"{\"time\":\"");
    exchange.worker.clock.write(out, exchange.time);
    out.extend_from_slice(b"\",\"requestId\":\"");
    out.extend_from_slice(exchange.request_id.as_bytes());
    out.extend_from_slice(b"\",\"client\":\"");
    out.extend_from_slice(exchange.client.address_text.as_bytes());
    out.push(b'"');
    if let Some(address) = exchange.forwarded_for {
        text(out, b",\"forwardedFor\":", &address.to_string());
    }
    // A trace that begins here has the request's id, unless a proxy gave the request one that cannot be a trace's.
    let trace = &exchange.traceparent[3..35];
    if exchange.request_id.trace_id().as_ref().is_none_or(|own| own != trace) {
        out.extend_from_slice(b",\"traceId\":\"");
        out.extend_from_slice(trace);
        out.push(b'"');
    }
    text(out, b",\"method\":", exchange.head.method().as_str());
    text(out, b",\"path\":", &String::from_utf8_lossy(exchange.head.path()));
    if let Some(route) = route {
        out.extend_from_slice(&route.log_part);
    }
    if let Some(caller) = &exchange.caller {
        text(out, b",\"caller\":", std::str::from_utf8(caller.subject()).unwrap_or_default());
    }
    if let Some(instance) = &exchange.instance {
        let replica = &instance.replica;
        out.extend_from_slice(b",\"replica\":\"");
        out.extend_from_slice(replica.service.as_str().as_bytes());
        out.push(b'/');
        write_decimal(out, u64::from(replica.ordinal));
        if let Some(node) = &replica.node {
            out.push(b'@');
            out.extend_from_slice(node.as_str().as_bytes());
        }
        out.push(b'"');
        text(out, b",\"version\":", instance.version.label());
        number(out, b",\"attempts\":", u64::from(exchange.attempts));
    }
    number(out, b",\"status\":", u64::from(exchange.status));
    if let Some(code) = exchange.code {
        text(out, b",\"code\":", code);
    }
    if let Some(error) = &exchange.error {
        text(out, b",\"error\":", error);
    }
    number(out, b",\"bytes\":", exchange.bytes);
    // Time passes before the last sending only where another replica was tried first.
    if let Some(before) = exchange.before.filter(|before| !before.is_zero()) {
        milliseconds(out, b",\"queueMs\":", before);
    }
    if let Some(connect) = exchange.connect {
        milliseconds(out, b",\"connectMs\":", connect);
    }
    if let Some(first_byte) = exchange.first_byte {
        milliseconds(out, b",\"firstByteMs\":", first_byte);
    }
    milliseconds(out, b",\"totalMs\":", total);
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, label: &[u8], value: &str) {
    out.extend_from_slice(label);
    write_json_string(out, value);
}

fn number(out: &mut Vec<u8>, label: &[u8], value: u64) {
    out.extend_from_slice(label);
    write_decimal(out, value);
}

/// Milliseconds with three decimals.
fn milliseconds(out: &mut Vec<u8>, label: &[u8], duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, label, micros / 1000);
    let rest = (micros % 1000) as u32;
    let digit = |number: u32| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_milliseconds_with_three_decimals() {
        let mut out = Vec::new();
        milliseconds(&mut out, b"", Duration::from_micros(12_034));
        assert_eq!(out, b"12.034");
    }
}
