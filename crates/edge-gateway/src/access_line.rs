//! One line of the access log: a JSON object, written straight into the worker's buffer. The key of a caller is never in
//! it, nor a query string, which may carry one.

use std::io::Write;
use std::time::Duration;

use observability::write_json_string;

use crate::exchange::Exchange;
use crate::route::Route;

/// Appends the line of a request.
pub(crate) fn write(out: &mut Vec<u8>, exchange: &Exchange, route: Option<&Route>, total: Duration) {
    out.extend_from_slice(b"{\"time\":\"");
    exchange.worker.clock.write(out, exchange.time);
    out.extend_from_slice(b"\",\"requestId\":\"");
    out.extend_from_slice(exchange.request_id.as_bytes());
    out.push(b'"');
    text(out, "client", &exchange.client.to_string());
    text(out, "method", exchange.method.as_str());
    text(out, "path", exchange.uri.path());
    if let Some(route) = route {
        text(out, "route", &route.template);
        text(out, "service", &route.service_name);
        text(out, "version", &route.version);
    }
    if let Some(caller) = &exchange.caller {
        text(out, "caller", &caller.subject);
    }
    if let Some(replica) = &exchange.replica {
        text(out, "replica", replica.service.as_str());
        // Still inside the quotes of the service's name: `vrf` becomes `vrf/0`.
        out.pop();
        number(out, format_args!("/{}\",\"attempts\":{}", replica.ordinal, exchange.attempts));
    }
    number(out, format_args!(",\"status\":{}", exchange.status));
    if let Some(code) = exchange.code {
        text(out, "code", code);
    }
    if let Some(error) = &exchange.error {
        text(out, "error", error);
    }
    number(out, format_args!(",\"bytes\":{}", exchange.bytes));
    if let Some(first_byte) = exchange.first_byte {
        milliseconds(out, "firstByteMs", first_byte);
    }
    milliseconds(out, "totalMs", total);
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    number(out, format_args!(",\"{name}\":"));
    write_json_string(out, value);
}

fn milliseconds(out: &mut Vec<u8>, name: &str, duration: Duration) {
    let micros = duration.as_micros();
    number(out, format_args!(",\"{name}\":{}.{:03}", micros / 1000, micros % 1000));
}

fn number(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}
