//! How much a caller may ask for, and what is left of it: the bucket and the day of a key or a user, shared by all workers.

use std::sync::Arc;

use crate::daily::Daily;
use crate::gcra::Taken;
use crate::{Allowed, Denied, Gcra, Tiers};

/// When a request is counted, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What buckets count by: nanoseconds since any moment that is the same for all who share them.
    pub steady_ns: u64,
    /// What days are counted by: seconds since 1970.
    pub unix: u64,
}

/// What a key or a user may ask for.
#[derive(Debug)]
pub struct Allowance {
    holder: Arc<str>,
    tier: Arc<str>,
    bucket: Option<Gcra>,
    daily: Option<Daily>,
    policies: Box<str>,
}

/// Which limit refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// The rate of the caller's tier.
    Rate,
    /// The day's quota of the caller's tier.
    Daily,
    /// The rate of the route.
    Route,
}

/// What is left of each limit that a request was counted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Of the rate of the caller's tier.
    pub rate: Option<Allowed>,
    /// Of the day.
    pub daily: Option<Allowed>,
    /// Of the rate of the route.
    pub route: Option<Allowed>,
}

impl Allowance {
    /// What this tier allows, of which nothing is used. `holder` says whose it is, in a text that no other's is.
    pub fn new(holder: &str, tier: &str, tiers: &Tiers) -> Self {
        Self::of(holder.into(), tier, tiers, |limit| Gcra::new(*limit), Daily::new)
    }

    /// The same holder in this tier: what was used stays used, and at most all of what the tier allows.
    pub fn under(&self, tier: &str, tiers: &Tiers, now_ns: u64) -> Self {
        let bucket = |limit: &_| match &self.bucket {
            Some(bucket) => bucket.under(*limit, now_ns),
            None => Gcra::new(*limit),
        };
        let daily = |quota| match &self.daily {
            Some(daily) => daily.under(quota),
            None => Daily::new(quota),
        };
        Self::of(Arc::clone(&self.holder), tier, tiers, bucket, daily)
    }

    fn of(
        holder: Arc<str>,
        tier: &str,
        tiers: &Tiers,
        bucket: impl FnOnce(&crate::Limit) -> Gcra,
        daily: impl FnOnce(u32) -> Daily,
    ) -> Self {
        let (tier, allows) = tiers.in_force(tier);
        let policies = allows.map(|allows| allows.policies(tier)).unwrap_or_default();
        Self {
            holder,
            tier: tier.into(),
            bucket: allows.map(|allows| bucket(&allows.limit)),
            daily: allows.and_then(|allows| allows.daily).map(daily),
            policies: policies.into(),
        }
    }

    /// Whether this tier would allow the same, so that nothing has to be changed.
    pub(crate) fn is_the_same_under(&self, tier: &str, tiers: &Tiers) -> bool {
        let (tier, allows) = tiers.in_force(tier);
        &*self.tier == tier
            && self.bucket.as_ref().map(Gcra::limit) == allows.as_ref().map(|allows| &allows.limit)
            && self.daily.as_ref().map(Daily::quota) == allows.and_then(|allows| allows.daily)
    }

    /// Whose it is.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    pub(crate) fn shared_holder(&self) -> &Arc<str> {
        &self.holder
    }

    /// Whether it allows everything.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.bucket.is_none() && self.daily.is_none()
    }

    /// Whether all that it allows is there, as if nothing had ever been used.
    pub(crate) fn is_untouched(&self, now: Moment) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.is_full(now.steady_ns))
            && self.daily.as_ref().is_none_or(|daily| daily.is_untouched(now.unix))
    }

    /// The tier that is in force.
    pub fn tier(&self) -> &str {
        &self.tier
    }

    /// The bucket of its rate; `None` is no limit.
    pub fn bucket(&self) -> Option<&Gcra> {
        self.bucket.as_ref()
    }

    /// The day's quota; `None` is no limit.
    pub fn daily(&self) -> Option<&Daily> {
        self.daily.as_ref()
    }

    /// Its limits, as `RateLimit-Policy` lists them; empty where there is none.
    pub fn policies(&self) -> &str {
        &self.policies
    }
}

/// Counts one request by all of these limits, or by none of them, and then says which one refused it.
pub fn admit(
    allowance: Option<&Allowance>,
    route: Option<&Gcra>,
    now: Moment,
) -> Result<Left, (Exceeded, Denied)> {
    let bucket = allowance.and_then(|allowance| allowance.bucket.as_ref());
    let daily = allowance.and_then(|allowance| allowance.daily.as_ref());
    // Asked before anything is taken. What is taken all the same is given back if another thread was faster; where a third request
    // came meanwhile it stays counted in the bucket, as `Gcra::give_back` has it: rather one too few than one too many.
    daily.map_or(Ok(()), |daily| daily.would_admit(now.unix)).map_err(|denied| (Exceeded::Daily, denied))?;
    route
        .map_or(Ok(()), |route| route.would_admit(now.steady_ns))
        .map_err(|denied| (Exceeded::Route, denied))?;
    let taken = bucket.map(|bucket| bucket.take(now.steady_ns)).transpose();
    let taken = taken.map_err(|denied| (Exceeded::Rate, denied))?;
    let give_back_bucket = || {
        if let (Some(bucket), Some(taken)) = (bucket, taken) {
            bucket.give_back(taken);
        }
    };
    let of_day = daily.map(|daily| daily.take(now.unix)).transpose().map_err(|denied| {
        give_back_bucket();
        (Exceeded::Daily, denied)
    })?;
    let of_route = route.map(|route| route.check(now.steady_ns)).transpose().map_err(|denied| {
        give_back_bucket();
        daily.inspect(|daily| daily.give_back(now.unix));
        (Exceeded::Route, denied)
    })?;
    Ok(Left { rate: taken.map(|taken: Taken| taken.left), daily: of_day, route: of_route })
}

/// Takes over what came of a request that somebody else has counted by these limits: at least so much of each is used here from
/// now on.
pub fn counted_elsewhere(
    allowance: Option<&Allowance>,
    route: Option<&Gcra>,
    counted: Result<Left, (Exceeded, Denied)>,
    now: Moment,
) {
    // A refusal says nothing of the limits that have not refused.
    let of = |kind: Exceeded, left: fn(Left) -> Option<Allowed>| match counted {
        Ok(all) => left(all).map(Ok),
        Err((exceeded, denied)) => (exceeded == kind).then_some(Err(denied)),
    };
    let (bucket, daily) = (allowance.and_then(Allowance::bucket), allowance.and_then(Allowance::daily));
    if let (Some(daily), Some(counted)) = (daily, of(Exceeded::Daily, |left| left.daily)) {
        daily.counted_elsewhere(counted, now.unix);
    }
    if let (Some(route), Some(counted)) = (route, of(Exceeded::Route, |left| left.route)) {
        route.counted_elsewhere(counted, now.steady_ns);
    }
    if let (Some(bucket), Some(counted)) = (bucket, of(Exceeded::Rate, |left| left.rate)) {
        bucket.counted_elsewhere(counted, now.steady_ns);
    }
}

#[cfg(test)]
mod tests;
