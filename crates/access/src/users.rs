//! The allowances of callers that are no keys, by issuer and subject: one for each, whichever worker and token they come by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Allowance, Tiers};

/// Allowances that are remembered; those that nobody uses make room.
pub const MAX_USERS: usize = 100_000;

/// The users that have called. Asked when a credential is verified, and not again while it is remembered.
pub struct Users {
    known: Mutex<Known>,
    generation: AtomicU64,
}

struct Known {
    tiers: Tiers,
    /// With the tier that each one asked for, which need not be the one in force.
    allowances: HashMap<Box<str>, (Box<str>, Arc<Allowance>)>,
}

impl Users {
    /// Nobody has called.
    pub fn new(tiers: Tiers) -> Self {
        let known = Mutex::new(Known { tiers, allowances: HashMap::new() });
        Self { known, generation: AtomicU64::new(0) }
    }

    /// What this subject of an issuer may ask for, and what is left of it.
    ///
    /// When there are [`MAX_USERS`] in use, another one has an allowance of its own that nobody else finds.
    pub fn allowance(&self, issuer: &str, subject: &str, tier: &str, now_ns: u64) -> Arc<Allowance> {
        let holder = format!("user:{issuer}#{subject}");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { tiers, allowances } = &mut *known;
        if let Some((asked, allowance)) = allowances.get_mut(holder.as_str()) {
            if **asked != *tier {
                *asked = tier.into();
                *allowance = Arc::new(allowance.under(tier, tiers, now_ns));
            }
            return Arc::clone(allowance);
        }
        let allowance = Arc::new(Allowance::new(&holder, tier, tiers));
        if allowances.len() >= MAX_USERS {
            allowances.retain(|_, (_, known)| Arc::strong_count(known) > 1);
        }
        if allowances.len() < MAX_USERS {
            allowances.insert(holder.into(), (tier.into(), Arc::clone(&allowance)));
        }
        allowance
    }

    /// Puts other tiers in force; what was used stays used. Whoever remembers an allowance asks again once
    /// [`Self::generation`] is another.
    pub fn set_tiers(&self, tiers: &Tiers, now_ns: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (asked, allowance) in known.allowances.values_mut() {
            if !allowance.is_the_same_under(asked, tiers) {
                *allowance = Arc::new(allowance.under(asked, tiers, now_ns));
            }
        }
        known.tiers = tiers.clone();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How often the tiers were exchanged.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Moment, admit};

    const NOW: Moment = Moment { steady_ns: 1_000_000_000, unix: 1_800_000_000 };

    fn left(allowance: &Allowance) -> u32 {
        allowance.bucket().unwrap().left(NOW.steady_ns).remaining
    }

    #[test]
    fn a_user_has_one_allowance_and_those_of_two_issuers_are_two_users() {
        let users = Users::new(Tiers::built_in());
        let first = users.allowance("https://a", "ann", "free", 0);
        admit(Some(&first), None, NOW).unwrap();
        assert_eq!(left(&users.allowance("https://a", "ann", "free", 0)), 9);
        assert_eq!(left(&users.allowance("https://b", "ann", "free", 0)), 10);
        assert_eq!(left(&users.allowance("https://a", "bob", "free", 0)), 10);
        assert_eq!(first.holder(), "user:https://a#ann");
    }

    #[test]
    fn another_tier_keeps_what_was_used_wherever_it_comes_from() {
        let users = Users::new(Tiers::built_in());
        admit(Some(&users.allowance("i", "ann", "free", 0)), None, NOW).unwrap();
        let better = users.allowance("i", "ann", "developer", NOW.steady_ns);
        assert_eq!((better.tier(), left(&better)), ("developer", 49));
        let (generation, tier) = (
            users.generation(),
            crate::Tier {
                limit: crate::Limit::new(
                    crate::Rate { count: 60, per: std::time::Duration::from_secs(60) },
                    5,
                ),
                daily: None,
            },
        );
        users.set_tiers(&Tiers::with([("developer".to_owned(), tier)].into()), NOW.steady_ns);
        assert_ne!(users.generation(), generation);
        assert_eq!(left(&users.allowance("i", "ann", "developer", NOW.steady_ns)), 4);
    }

    #[test]
    fn users_that_nobody_remembers_make_room_and_the_others_stay() {
        let users = Users::new(Tiers::built_in());
        let kept = users.allowance("i", "kept", "free", 0);
        for number in 0..MAX_USERS + 10 {
            users.allowance("i", &number.to_string(), "free", 0);
        }
        assert!(Arc::ptr_eq(&kept, &users.allowance("i", "kept", "free", 0)));
        assert!(users.known.lock().unwrap().allowances.len() <= MAX_USERS);
    }
}
