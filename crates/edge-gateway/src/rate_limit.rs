//! How often somebody may call: by address before anything else, by caller and by route once both are known.

mod fields;
mod shared;

use std::hash::RandomState;
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use access::{
    Addresses, Allowance, Allowed, Caller, Denied, Exceeded, Gcra, Left, Limit, Moment, admit, policy,
};
use shared_limits::SharedLimits;
use tokio::time::Instant;

use crate::FlowError;
use crate::error::LimitedBy;
use crate::exchange::Exchange;
use crate::route::Route;
pub(crate) use fields::{put_fields, write_fields};

/// What the buckets count their time from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The present moment as the buckets count it, in nanoseconds.
pub fn nanoseconds_now() -> u64 {
    nanoseconds(Instant::now())
}

/// A moment as the buckets count it, in nanoseconds.
fn nanoseconds(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*EPOCH).as_nanos()).unwrap_or(u64::MAX)
}

/// When a request is counted: when it began.
pub(crate) fn moment(exchange: &Exchange) -> Moment {
    let unix = exchange.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Moment { steady_ns: nanoseconds(exchange.began), unix }
}

/// A limit, and how clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    limit: Limit,
    name: &'static str,
    policy: Box<str>,
}

impl Ceiling {
    fn new(name: &'static str, limit: Limit) -> Self {
        Self { limit, name, policy: policy(name, &limit).into() }
    }
}

/// The limits of addresses, and where limits are counted.
pub struct RateLimits {
    per_address: Option<Ceiling>,
    failed_authentication: Ceiling,
    pub(crate) shared: Option<Arc<SharedLimits>>,
}

impl RateLimits {
    /// How often an address may call, and how often it may present a credential that is refused.
    pub fn new(per_address: Option<Limit>, failed_authentication: Limit) -> Self {
        Self {
            per_address: per_address.map(|limit| Ceiling::new("address", limit)),
            failed_authentication: Ceiling::new("failed-authentication", failed_authentication),
            shared: None,
        }
    }

    /// How often an address may call, if that is limited.
    pub(crate) fn of_addresses(&self) -> Option<Limit> {
        limit_of(self.per_address.as_ref())
    }

    /// The same, counted together with other gateways, but for refused credentials.
    pub fn shared(self, shared: Option<Arc<SharedLimits>>) -> Self {
        Self { shared, ..self }
    }
}

/// What addresses have used, for all workers and all configurations of the process.
pub struct ClientBuckets {
    calls: Addresses,
    /// Calls of the gateway's own pages, where all others are counted together with other gateways.
    own_pages: Addresses,
    /// All refused credentials.
    failures: Addresses,
    /// Those whose refusal was costly, once more.
    costly_failures: Addresses,
}

impl ClientBuckets {
    /// Nothing of these limits is used.
    pub fn new(limits: &RateLimits) -> Self {
        let table = |ceiling: Option<&Ceiling>| Addresses::new(RandomState::new(), limit_of(ceiling));
        let (calls, failures) = (limits.per_address.as_ref(), Some(&limits.failed_authentication));
        Self {
            calls: table(calls),
            own_pages: table(calls),
            failures: table(failures),
            costly_failures: table(failures),
        }
    }

    /// Other limits are in force from now on, also for requests that still go by the plan before: what was used stays used.
    pub fn set_limits(&self, limits: &RateLimits, now_ns: u64) {
        let (calls, failures) = (limits.per_address.as_ref(), Some(&limits.failed_authentication));
        for (buckets, ceiling) in [
            (&self.calls, calls),
            (&self.own_pages, calls),
            (&self.failures, failures),
            (&self.costly_failures, failures),
        ] {
            buckets.set_limit(limit_of(ceiling), now_ns);
        }
    }
}

fn limit_of(ceiling: Option<&Ceiling>) -> Option<Limit> {
    ceiling.map(|ceiling| ceiling.limit)
}

/// How often everybody together may call a route.
#[derive(Debug)]
pub struct RouteLimit {
    /// The same at every gateway, and no other route's.
    name: Arc<str>,
    bucket: Gcra,
    ceiling: Ceiling,
}

impl RouteLimit {
    /// A limit of which nothing is used. By `name` gateways that count together know the route.
    pub fn new(name: &str, limit: Limit) -> Arc<Self> {
        Self::of(name.into(), Gcra::new(limit), limit)
    }

    fn of(name: Arc<str>, bucket: Gcra, limit: Limit) -> Arc<Self> {
        Arc::new(Self { name, bucket, ceiling: Ceiling::new("route", limit) })
    }

    /// How often everybody together may call.
    pub(crate) fn limit(&self) -> Limit {
        self.ceiling.limit
    }

    /// This one where it is the same, or one under another limit in which what was used stays used.
    pub fn under(self: &Arc<Self>, limit: Limit, now_ns: u64) -> Arc<Self> {
        if self.ceiling.limit == limit {
            return Arc::clone(self);
        }
        Self::of(Arc::clone(&self.name), self.bucket.under(limit, now_ns), limit)
    }
}

/// What is left of the limits that a request was counted by, or refused by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    address: Option<Allowed>,
    failures: Option<Allowed>,
    caller: Left,
}

impl Standing {
    /// Whether any limit has counted the request.
    pub(crate) fn is_counted(&self) -> bool {
        let Left { rate, daily, route } = self.caller;
        [self.address, self.failures, rate, daily, route].iter().any(Option::is_some)
    }
}

/// Counts a request by the address of its client, whatever becomes of it.
pub(crate) async fn limit_address(exchange: &mut Exchange) -> Result<(), FlowError> {
    match exchange.plan.shared.clone() {
        None => limit_address_here(exchange),
        // On the heap, so that requests which nobody else counts are no larger for it.
        Some(link) => Box::pin(shared::limit_address(exchange, &link)).await,
    }
}

fn limit_address_here(exchange: &mut Exchange) -> Result<(), FlowError> {
    if exchange.plan.plan.rate_limits.per_address.is_none() {
        return Ok(());
    }
    let now_ns = nanoseconds(exchange.began);
    match exchange.worker.shared.client_buckets.calls.take(exchange.address(), now_ns) {
        Some(counted) => count_address(exchange, counted),
        None => Ok(()),
    }
}

fn count_address(exchange: &mut Exchange, counted: Result<Allowed, Denied>) -> Result<(), FlowError> {
    match counted {
        Ok(left) => {
            exchange.standing.address = Some(left);
            Ok(())
        }
        Err(denied) => {
            exchange.standing.address = Some(nothing_left(denied));
            Err(limited(LimitedBy::Address, denied))
        }
    }
}

/// Whether the client's address may present a credential whose check is costly. Those that were refused at no cost keep nobody
/// out who shares the address.
pub(crate) fn may_fail(exchange: &mut Exchange) -> Result<(), FlowError> {
    let buckets = &exchange.worker.shared.client_buckets.costly_failures;
    let admitted = buckets.would_admit(exchange.address(), nanoseconds_now());
    admitted.map_err(|denied| too_many_failures(exchange, denied))
}

/// Counts a refused credential by the address of its client, at the moment in which it is refused: the refusal, or that it was one
/// too many.
pub(crate) fn failed(exchange: &mut Exchange, refused: FlowError) -> FlowError {
    let buckets = &exchange.worker.shared.client_buckets.failures;
    match buckets.take(exchange.address(), nanoseconds_now()) {
        Some(Err(denied)) => too_many_failures(exchange, denied),
        Some(Ok(_)) | None => refused,
    }
}

/// Counts that a credential was costly to refuse: it took an operation with a public key, or a question for a key. That it was
/// refused is counted by [`failed`].
pub(crate) fn failed_at_cost(exchange: &Exchange) {
    let buckets = &exchange.worker.shared.client_buckets.costly_failures;
    let _counted_or_one_too_many = buckets.take(exchange.address(), nanoseconds_now());
}

fn too_many_failures(exchange: &mut Exchange, denied: Denied) -> FlowError {
    exchange.standing.failures = Some(nothing_left(denied));
    limited(LimitedBy::FailedAuthentication, denied)
}

/// Counts a request by its caller and its route, where it has one, by both or by none.
pub(crate) async fn limit(exchange: &mut Exchange, route: Option<&Route>) -> Result<(), FlowError> {
    match exchange.plan.shared.clone() {
        None => limit_here(exchange, route),
        Some(link) => Box::pin(shared::limit(exchange, route, &link)).await,
    }
}

fn limit_here(exchange: &mut Exchange, route: Option<&Route>) -> Result<(), FlowError> {
    let allowance = exchange.caller.as_deref().and_then(Caller::allowance).map(Arc::as_ref);
    let of_route = route.and_then(|route| route.limit.as_deref()).map(|limit| &limit.bucket);
    if allowance.is_none() && of_route.is_none() {
        return Ok(());
    }
    let counted = admit(allowance, of_route, moment(exchange));
    count_caller(exchange, counted)
}

fn count_caller(exchange: &mut Exchange, counted: Result<Left, (Exceeded, Denied)>) -> Result<(), FlowError> {
    let (exceeded, denied) = match counted {
        Ok(left) => {
            exchange.standing.caller = left;
            return Ok(());
        }
        Err(refused) => refused,
    };
    let tier = exchange.caller.as_deref().map_or("", Caller::tier).to_owned();
    let nothing = Some(nothing_left(denied));
    let left = &mut exchange.standing.caller;
    let by = match exceeded {
        Exceeded::Rate => {
            left.rate = nothing;
            LimitedBy::Tier(tier)
        }
        Exceeded::Daily => {
            left.daily = nothing;
            LimitedBy::Daily(tier)
        }
        Exceeded::Route => {
            left.route = nothing;
            LimitedBy::Route
        }
    };
    Err(limited(by, denied))
}

/// What is left of the limits of a request's caller. Changes nothing.
pub(crate) async fn what_is_left(exchange: &Exchange) -> Result<Left, FlowError> {
    let allowance = exchange.caller.as_deref().and_then(Caller::allowance);
    let Some(allowance) = allowance else { return Ok(Left::default()) };
    match &exchange.plan.shared {
        None => Ok(left_here(exchange, allowance)),
        Some(link) => Box::pin(shared::left(exchange, allowance, link)).await,
    }
}

fn left_here(exchange: &Exchange, allowance: &Allowance) -> Left {
    let now = moment(exchange);
    Left {
        rate: allowance.bucket().map(|bucket| bucket.left(now.steady_ns)),
        daily: allowance.daily().map(|daily| daily.left(now.unix)),
        route: None,
    }
}

fn limited(by: LimitedBy, denied: Denied) -> FlowError {
    FlowError::RateLimited { by, retry_after: denied.retry_after }
}

fn nothing_left(denied: Denied) -> Allowed {
    Allowed { remaining: 0, reset: denied.retry_after }
}
