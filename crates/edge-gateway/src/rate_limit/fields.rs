//! What every answer under a limit says of it: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), and
//! the older `X-RateLimit-*` of the limit that is closest.

use access::{Allowance, Allowed, whole_seconds};
use http1::write_decimal;

use super::Ceiling;
use crate::exchange::Exchange;

/// One limit that the request was counted by.
struct Item<'a> {
    name: &'a str,
    quota: u32,
    left: Allowed,
}

/// The limits of a request in the order in which they are counted, and the policies that they follow.
fn each<'a>(exchange: &'a Exchange, mut policies: impl FnMut(&'a str), mut item: impl FnMut(Item<'a>)) {
    let (standing, plan) = (&exchange.standing, &exchange.plan.plan);
    let mut fixed = |left: Option<Allowed>, ceiling: Option<&'a Ceiling>| {
        if let (Some(left), Some(ceiling)) = (left, ceiling) {
            policies(&ceiling.policy);
            item(Item { name: ceiling.name, quota: ceiling.limit.burst(), left });
        }
    };
    fixed(standing.address, plan.rate_limits.per_address.as_ref());
    fixed(standing.failures, Some(&plan.rate_limits.failed_authentication));
    let route = exchange.route.and_then(|number| plan.routes.routes().get(number));
    fixed(standing.caller.route, route.and_then(|route| route.limit.as_deref()).map(|limit| &limit.ceiling));
    let Some(allowance) = exchange.caller.as_deref().and_then(|caller| caller.allowance()) else { return };
    let allowance: &Allowance = allowance;
    if standing.caller.rate.is_some() || standing.caller.daily.is_some() {
        policies(allowance.policies());
    }
    if let (Some(left), Some(bucket)) = (standing.caller.rate, allowance.bucket()) {
        item(Item { name: allowance.tier(), quota: bucket.limit().burst(), left });
    }
    if let (Some(left), Some(daily)) = (standing.caller.daily, allowance.daily()) {
        item(Item { name: "daily", quota: daily.quota(), left });
    }
}

/// The limit that is closest; `None` where the request was counted by none.
fn closest(exchange: &Exchange) -> Option<Item<'_>> {
    let mut closest: Option<Item<'_>> = None;
    each(
        exchange,
        |_| {},
        |item| {
            if closest.as_ref().is_none_or(|known| item.left.remaining < known.left.remaining) {
                closest = Some(item);
            }
        },
    );
    closest
}

fn write_policies(exchange: &Exchange, out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"";
    let policy = |policy: &str| {
        out.extend_from_slice(separator);
        out.extend_from_slice(policy.as_bytes());
        separator = b", ";
    };
    each(exchange, policy, |_| {});
}

fn write_items(exchange: &Exchange, out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"\"";
    let item = |item: Item<'_>| {
        out.extend_from_slice(separator);
        out.extend_from_slice(item.name.as_bytes());
        out.extend_from_slice(b"\";r=");
        write_decimal(out, item.left.remaining.into());
        out.extend_from_slice(b";t=");
        write_decimal(out, whole_seconds(item.left.reset));
        separator = b", \"";
    };
    each(exchange, |_| {}, item);
}

/// Writes the fields as lines of HTTP/1.1; nothing where no limit has counted the request.
pub(crate) fn write_fields(exchange: &Exchange, out: &mut Vec<u8>) {
    if !exchange.standing.is_counted() {
        return;
    }
    let Some(closest) = closest(exchange) else { return };
    out.extend_from_slice(b"ratelimit-policy: ");
    write_policies(exchange, out);
    out.extend_from_slice(b"\r\nratelimit: ");
    write_items(exchange, out);
    out.extend_from_slice(b"\r\n");
    for (name, value) in old_fields(&closest) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        write_decimal(out, value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The same fields one by one.
pub(crate) fn put_fields(exchange: &Exchange, put: &mut impl FnMut(&'static [u8], &[u8])) {
    let Some(closest) = closest(exchange) else { return };
    let mut value = Vec::new();
    write_policies(exchange, &mut value);
    put(b"ratelimit-policy", &value);
    value.clear();
    write_items(exchange, &mut value);
    put(b"ratelimit", &value);
    for (name, number) in old_fields(&closest) {
        value.clear();
        write_decimal(&mut value, number);
        put(name, &value);
    }
}

fn old_fields(closest: &Item<'_>) -> [(&'static [u8], u64); 3] {
    [
        (b"x-ratelimit-limit", closest.quota.into()),
        (b"x-ratelimit-remaining", closest.left.remaining.into()),
        (b"x-ratelimit-reset", whole_seconds(closest.left.reset)),
    ]
}
