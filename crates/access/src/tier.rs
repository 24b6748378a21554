//! The tiers: how much a key or a user may ask for, by name.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Limit, Rate};

/// The tier without a limit.
pub const UNLIMITED: &str = "unlimited";
/// The tier of a key whose own one is known no longer.
pub const FREE: &str = "free";

const MINUTE: Duration = Duration::from_secs(60);
/// Requests a minute, at once, and a day.
const BUILT_IN: [(&str, u32, u32, u32); 3] =
    [(FREE, 60, 10, 1_000), ("developer", 300, 50, 10_000), ("production", 1_000, 200, 100_000)];

/// What a tier allows each of its keys and users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// How many requests in the long run, and how many at once.
    pub limit: Limit,
    /// How many a day in UTC; `None` is no limit.
    pub daily: Option<u32>,
}

impl Tier {
    /// Its limits as `RateLimit-Policy` lists them.
    pub(crate) fn policies(&self, name: &str) -> String {
        let rate = policy(name, &self.limit);
        self.daily.map_or(rate.clone(), |daily| format!("{rate}, \"daily\";q={daily};w=86400"))
    }
}

/// A limit as `RateLimit-Policy` names it (draft-ietf-httpapi-ratelimit-headers-10): so many requests in as many seconds as the
/// bucket takes to fill, which is the rate and the burst in one.
pub fn policy(name: &str, limit: &Limit) -> String {
    format!("\"{name}\";q={};w={}", limit.burst(), whole_seconds(limit.window()))
}

/// Rounded up, and at least one.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

/// The tiers by name: those that are built in, and what the configuration adds or says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiers(BTreeMap<String, Tier>);

impl Tiers {
    /// `free`, `developer`, `production` and `unlimited`.
    pub fn built_in() -> Self {
        Self::with(BTreeMap::new())
    }

    /// The built-in tiers and these; one of the same name takes a built-in one's place, but for `unlimited`, which takes no limit.
    pub fn with(configured: BTreeMap<String, Tier>) -> Self {
        let built_in = BUILT_IN.map(|(name, count, burst, daily)| {
            let limit = Limit::new(Rate { count, per: MINUTE }, burst);
            (name.to_owned(), Tier { limit, daily: Some(daily) })
        });
        let mut tiers: BTreeMap<_, _> = built_in.into_iter().chain(configured).collect();
        tiers.remove(UNLIMITED);
        Self(tiers)
    }

    /// Whether a key can be made of this tier.
    pub fn contains(&self, name: &str) -> bool {
        name == UNLIMITED || self.0.contains_key(name)
    }

    /// Every name, in the order of the alphabet.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.insert(names.partition_point(|name| *name < UNLIMITED), UNLIMITED);
        names
    }

    /// The tier that holds for keys of this one, with what it allows; `None` is no limit. For a name that is unknown it is
    /// `free`: a mistake in the configuration must not take a limit away.
    pub(crate) fn in_force<'a>(&self, name: &'a str) -> (&'a str, Option<Tier>) {
        match self.0.get(name) {
            Some(tier) => (name, Some(*tier)),
            None if name == UNLIMITED => (UNLIMITED, None),
            None => (FREE, Some(self.0[FREE])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(count: u32, burst: u32, daily: u32) -> Tier {
        Tier { limit: Limit::new(Rate { count, per: MINUTE }, burst), daily: Some(daily) }
    }

    #[test]
    fn the_configuration_adds_tiers_and_changes_the_built_in_ones() {
        let configured =
            BTreeMap::from([("gold".to_owned(), tier(5, 1, 9)), ("free".to_owned(), tier(1, 1, 9))]);
        let tiers = Tiers::with(configured);
        assert_eq!(tiers.names(), ["developer", "free", "gold", "production", "unlimited"]);
        assert_eq!(tiers.in_force("gold"), ("gold", Some(tier(5, 1, 9))));
        assert_eq!(tiers.in_force("free"), ("free", Some(tier(1, 1, 9))));
        assert_eq!(tiers.in_force("developer"), ("developer", Some(tier(300, 50, 10_000))));
        assert_eq!(tiers.in_force("unlimited"), ("unlimited", None));
    }

    #[test]
    fn a_tier_that_is_unknown_is_the_free_one() {
        let tiers = Tiers::built_in();
        assert!(!tiers.contains("gold") && tiers.contains("unlimited") && tiers.contains("free"));
        assert_eq!(tiers.in_force("gold"), ("free", Some(tier(60, 10, 1_000))));
    }

    #[test]
    fn unlimited_takes_no_limit() {
        let tiers = Tiers::with(BTreeMap::from([("unlimited".to_owned(), tier(5, 1, 9))]));
        assert_eq!(tiers.in_force("unlimited"), ("unlimited", None));
        assert_eq!(tiers.names(), ["developer", "free", "production", "unlimited"]);
    }

    #[test]
    fn a_policy_is_the_burst_in_the_time_that_it_takes_to_come_again() {
        assert_eq!(tier(60, 10, 9).policies("free"), "\"free\";q=10;w=10, \"daily\";q=9;w=86400");
        assert_eq!(Tier { daily: None, ..tier(70, 10, 0) }.policies("gold"), "\"gold\";q=10;w=9");
        assert_eq!(policy("a", &Limit::new(Rate { count: 1_000_000, per: MINUTE }, 1)), "\"a\";q=1;w=1");
    }
}
