//! How often clients may call: by address, by tier and by route.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use types::ServiceName;

use super::Checker;
use crate::raw::{Entries, RawLimit, RawRateLimits, RawTier};
use crate::report::Origin;
use crate::scalar::{Field, Spanned, Text, Whole, quoted};
use crate::settings::{LimitSettings, Rate, RateLimitSettings, TierSettings};

/// The built-in tier that the file may not change.
const UNLIMITED: &str = "unlimited";
/// What `RateLimit-Policy` calls the limits that are no tier's.
const POLICIES: [&str; 4] = ["address", "daily", "failed-authentication", "route"];
/// A burst, and what is allowed in a day.
const COUNT: RangeInclusive<i128> = 1..=Rate::MAX_COUNT as i128;

impl Checker {
    pub(super) fn rate_limits(&mut self, raw: RawRateLimits, base_dir: &Path) -> RateLimitSettings {
        let key = "gateway.rateLimits.failedAuthentication";
        let failures = raw.failed_authentication;
        let rate = self.value(&format!("{key}.rate"), failures.rate);
        let burst = self.whole(&format!("{key}.burst"), failures.burst, COUNT);
        RateLimitSettings {
            per_address: raw
                .per_address
                .and_then(|limit| self.rate_limit("gateway.rateLimits.perAddress", limit)),
            failed_authentication: LimitSettings { rate: rate.unwrap_or(Rate::SLOWEST), burst },
            tiers: self.tiers(raw.tiers),
            shared: self.shared_limits(raw.shared, raw.on_shared_failure, base_dir),
        }
    }

    /// A limit that has no defaults.
    pub(super) fn rate_limit(&mut self, key: &str, raw: Spanned<RawLimit>) -> Option<LimitSettings> {
        let RawLimit { rate, burst } = raw.value;
        self.limit_of(key, raw.referenced.into(), "a limit", rate, burst)
    }

    fn limit_of(
        &mut self,
        key: &str,
        origin: Origin,
        what: &str,
        rate: Option<Field<Rate>>,
        burst: Option<Field<Whole>>,
    ) -> Option<LimitSettings> {
        let rate = match rate {
            Some(rate) => self.value(&format!("{key}.rate"), rate),
            None => {
                let help = Some("write `rate: 5000/min`".to_owned());
                self.wrong(origin, format!("{key}.rate: {what} needs a rate"), help);
                None
            }
        };
        let burst = match burst {
            Some(burst) => Some(self.whole(&format!("{key}.burst"), burst, COUNT)),
            None => {
                let help = Some("write `burst: 500`: so many at once after a pause".to_owned());
                self.wrong(origin, format!("{key}.burst: {what} needs a burst"), help);
                None
            }
        };
        Some(LimitSettings { rate: rate?, burst: burst? })
    }

    fn tiers(&mut self, raw: Entries<Option<RawTier>>) -> BTreeMap<String, TierSettings> {
        let mut tiers = BTreeMap::new();
        for (name, tier) in raw.0 {
            self.tier_name(&name);
            let key = format!("gateway.rateLimits.tiers.{}", name.value);
            let RawTier { rate, burst, daily } = tier.unwrap_or_default();
            let limit = self.limit_of(&key, name.origin, "a tier", rate, burst);
            let daily = daily.map(|daily| self.whole(&format!("{key}.daily"), daily, COUNT));
            if let Some(limit) = limit {
                tiers.insert(name.value, TierSettings { limit, daily });
            }
        }
        tiers
    }

    /// Spelt like the name of a service.
    fn tier_name(&mut self, name: &Text) {
        if name.value.parse::<ServiceName>().is_err() {
            self.wrong(
                name.origin,
                format!("gateway.rateLimits.tiers: expected a name such as partner, found {}", quoted(&name.value)),
                Some("a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 40 bytes".to_owned()),
            );
        } else if name.value == UNLIMITED {
            self.wrong(
                name.origin,
                "gateway.rateLimits.tiers.unlimited: this tier has no limits and takes none".to_owned(),
                Some("give the tier another name".to_owned()),
            );
        } else if POLICIES.contains(&&*name.value) {
            self.wrong(
                name.origin,
                format!(
                    "gateway.rateLimits.tiers.{}: callers are told of another limit by this name",
                    name.value
                ),
                Some("give the tier another name".to_owned()),
            );
        }
    }
}
