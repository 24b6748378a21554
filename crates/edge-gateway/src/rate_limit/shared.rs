//! The limits of a request where several gateways count together: asked of Redis in the place of the buckets here, and counted
//! here while it does not answer, if that is what the configuration says. What Redis says is noted in the buckets here, so that
//! they go on from there.

use std::rc::Rc;
use std::sync::Arc;

use access::{Allowance, Caller, Left, Moment, counted_elsewhere};
use shared_limits::{Link, OnFailure, Uncounted};

use super::{
    Ceiling, count_address, count_caller, left_here, limit_address_here, limit_here, moment, nanoseconds,
    nanoseconds_now,
};
use crate::FlowError;
use crate::exchange::Exchange;
use crate::route::Route;

/// Counts a request by the address of its client. For the gateway's own pages this gateway counts alone: whoever watches it is
/// answered whatever becomes of Redis.
pub(super) async fn limit_address(exchange: &mut Exchange, link: &Rc<Link>) -> Result<(), FlowError> {
    let plan = Rc::clone(&exchange.plan);
    let Some(Ceiling { limit, .. }) = &plan.plan.rate_limits.per_address else { return Ok(()) };
    if plan.plan.routes.is_own(&exchange.head) {
        let buckets = &exchange.worker.shared.client_buckets.own_pages;
        let counted = buckets.take(exchange.address(), nanoseconds(exchange.began));
        return counted.map_or(Ok(()), |counted| count_address(exchange, counted));
    }
    match link.take_address(exchange.address(), limit).await {
        Ok(counted) => {
            let buckets = &exchange.worker.shared.client_buckets.calls;
            buckets.counted_elsewhere(exchange.address(), counted, nanoseconds_now());
            count_address(exchange, counted)
        }
        Err(uncounted) => {
            may_count_here(exchange, link, uncounted)?;
            limit_address_here(exchange)
        }
    }
}

/// Counts a request by its caller and its route, by both or by none.
pub(super) async fn limit(
    exchange: &mut Exchange,
    route: Option<&Route>,
    link: &Rc<Link>,
) -> Result<(), FlowError> {
    let caller = exchange.caller.clone();
    let allowance = caller.as_deref().and_then(Caller::allowance).map(Arc::as_ref);
    let allowance = allowance.filter(|allowance| allowance.bucket().is_some() || allowance.daily().is_some());
    let of_route = route.and_then(|route| route.limit.as_deref());
    if allowance.is_none() && of_route.is_none() {
        return Ok(());
    }
    match link.admit(allowance, of_route.map(|limit| (&*limit.name, &limit.ceiling.limit))).await {
        Ok(counted) => {
            // Later than when it was counted there, so that rather too much is owed than too little.
            let now = Moment { steady_ns: nanoseconds_now(), ..moment(exchange) };
            counted_elsewhere(allowance, of_route.map(|limit| &limit.bucket), counted, now);
            count_caller(exchange, counted)
        }
        Err(uncounted) => {
            may_count_here(exchange, link, uncounted)?;
            limit_here(exchange, route)
        }
    }
}

/// What is left of a caller's limits.
pub(super) async fn left(
    exchange: &Exchange,
    allowance: &Allowance,
    link: &Rc<Link>,
) -> Result<Left, FlowError> {
    match link.left(allowance).await {
        Ok(left) => Ok(left),
        Err(uncounted) => {
            may_count_here(exchange, link, uncounted)?;
            Ok(left_here(exchange, allowance))
        }
    }
}

/// Whether a request that Redis did not count is counted here. One that was not even asked for is not: Redis may be well, and
/// whoever sends more than it can answer would have what is left here beside what is left there.
fn may_count_here(exchange: &Exchange, link: &Link, uncounted: Uncounted) -> Result<(), FlowError> {
    exchange.worker.shard.shared_limits_failed.add_one();
    match (uncounted, link.shared().on_failure()) {
        (Uncounted::Unavailable, OnFailure::CountHere) => Ok(()),
        _ => Err(uncounted.into()),
    }
}
