//! The allowances of callers that are no keys, by issuer and subject: one for each, whichever worker and token they come by.
//!
//! Where there is no room for another one, one that owes nothing makes it, so that nothing is lost; what is looked for it is
//! bounded. Where none is found the newcomer shares an allowance with all others of its tier that came too late: however many
//! users somebody makes up, together they get no more than one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Allowance, Moment, Tiers};

/// Allowances that are remembered.
const MAX_USERS: usize = 100_000;
/// How many of them are looked at when another one needs room.
const LOOKED_AT: usize = 32;

/// The users that have called. Asked when a credential is verified, and not again while it is remembered.
pub struct Users {
    known: Mutex<Known>,
    generation: AtomicU64,
}

struct Known {
    tiers: Tiers,
    users: Vec<User>,
    /// Where each of them stands, by the holder of its allowance.
    places: HashMap<Arc<str>, usize>,
    /// Where the next search for room begins.
    hand: usize,
    /// What those share that found no room, by the tier that they asked for.
    latecomers: HashMap<Box<str>, Arc<Allowance>>,
}

struct User {
    /// The tier that was asked for, which need not be the one in force.
    asked: Box<str>,
    allowance: Arc<Allowance>,
}

impl Users {
    /// Nobody has called.
    pub fn new(tiers: Tiers) -> Self {
        let (places, latecomers) = (HashMap::new(), HashMap::new());
        let known = Mutex::new(Known { tiers, users: Vec::new(), places, hand: 0, latecomers });
        Self { known, generation: AtomicU64::new(0) }
    }

    /// What this subject of an issuer may ask for, and what is left of it. For a credential that is remembered it stays the same,
    /// also where it was one that latecomers share.
    pub fn allowance(&self, issuer: &str, subject: &str, tier: &str, now: Moment) -> Arc<Allowance> {
        let holder = format!("user:{issuer}#{subject}");
        self.lock().allowance(&holder, tier, now)
    }

    /// Puts other tiers in force; what was used stays used. Whoever remembers an allowance asks again once
    /// [`Self::generation`] is another.
    pub fn set_tiers(&self, tiers: &Tiers, now_ns: u64) {
        let mut known = self.lock();
        if known.tiers == *tiers {
            return;
        }
        let change = |asked: &str, allowance: &mut Arc<Allowance>| {
            if !allowance.is_the_same_under(asked, tiers) {
                *allowance = Arc::new(allowance.under(asked, tiers, now_ns));
            }
        };
        for User { asked, allowance } in &mut known.users {
            change(asked, allowance);
        }
        known.latecomers.retain(|asked, _| tiers.contains(asked));
        for (asked, allowance) in &mut known.latecomers {
            change(asked, allowance);
        }
        known.tiers = tiers.clone();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How often the tiers were exchanged.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn allowance(&mut self, holder: &str, tier: &str, now: Moment) -> Arc<Allowance> {
        if let Some(place) = self.places.get(holder) {
            let User { asked, allowance } = &mut self.users[*place];
            if **asked != *tier {
                *asked = tier.into();
                *allowance = Arc::new(allowance.under(tier, &self.tiers, now.steady_ns));
            }
            return Arc::clone(allowance);
        }
        let Some(place) = self.room(now) else { return self.of_latecomers(tier) };
        let allowance = Arc::new(Allowance::new(holder, tier, &self.tiers));
        let user = User { asked: tier.into(), allowance: Arc::clone(&allowance) };
        match self.users.get_mut(place) {
            Some(gone) => drop(self.places.remove(std::mem::replace(gone, user).allowance.holder())),
            None => self.users.push(user),
        }
        self.places.insert(Arc::clone(allowance.shared_holder()), place);
        allowance
    }

    /// A place that is free, or that of a user who loses nothing by it.
    fn room(&mut self, now: Moment) -> Option<usize> {
        if self.users.len() < MAX_USERS {
            return Some(self.users.len());
        }
        (0..LOOKED_AT).find_map(|_| {
            let place = self.hand;
            self.hand = (place + 1) % self.users.len();
            self.users[place].loses_nothing(now).then_some(place)
        })
    }

    fn of_latecomers(&mut self, tier: &str) -> Arc<Allowance> {
        let Self { tiers, latecomers, .. } = self;
        let shared = latecomers
            .entry(tier.into())
            .or_insert_with(|| Arc::new(Allowance::new(&format!("latecomers:{tier}"), tier, tiers)));
        Arc::clone(shared)
    }
}

impl User {
    /// Whether a new allowance is worth as much as this one, and nobody goes on with this one meanwhile.
    fn loses_nothing(&self, now: Moment) -> bool {
        let is_remembered = Arc::strong_count(&self.allowance) > 1;
        self.allowance.is_unlimited() || (!is_remembered && self.allowance.is_untouched(now))
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
        let first = users.allowance("https://a", "ann", "free", NOW);
        admit(Some(&first), None, NOW).unwrap();
        assert_eq!(left(&users.allowance("https://a", "ann", "free", NOW)), 9);
        assert_eq!(left(&users.allowance("https://b", "ann", "free", NOW)), 10);
        assert_eq!(left(&users.allowance("https://a", "bob", "free", NOW)), 10);
        assert_eq!(first.holder(), "user:https://a#ann");
    }

    #[test]
    fn another_tier_keeps_what_was_used_wherever_it_comes_from() {
        let users = Users::new(Tiers::built_in());
        admit(Some(&users.allowance("i", "ann", "free", NOW)), None, NOW).unwrap();
        let better = users.allowance("i", "ann", "developer", NOW);
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
        assert_eq!(left(&users.allowance("i", "ann", "developer", NOW)), 4);
    }

    /// Users of whom each has called once, as many as there is room for.
    fn full() -> Users {
        let users = Users::new(Tiers::built_in());
        for number in 0..MAX_USERS {
            admit(Some(&users.allowance("i", &number.to_string(), "free", NOW)), None, NOW).unwrap();
        }
        users
    }

    fn later(seconds: u64) -> Moment {
        Moment { steady_ns: NOW.steady_ns + seconds * 1_000_000_000, unix: NOW.unix + seconds }
    }

    #[test]
    fn users_that_owe_nothing_make_room_and_those_that_are_remembered_stay() {
        let users = Users::new(Tiers::built_in());
        let kept = users.allowance("i", "kept", "free", NOW);
        for number in 0..MAX_USERS + 10 {
            users.allowance("i", &number.to_string(), "free", NOW);
        }
        assert!(Arc::ptr_eq(&kept, &users.allowance("i", "kept", "free", NOW)));
        let known = users.known.lock().unwrap();
        assert_eq!((known.users.len(), known.places.len()), (MAX_USERS, MAX_USERS));
        assert!(
            known.places.iter().all(|(holder, place)| *known.users[*place].allowance.holder() == **holder)
        );
        assert!(known.latecomers.is_empty());
    }

    #[test]
    fn a_flood_of_users_frees_nobody_of_what_was_used_and_gets_one_allowance_together() {
        let users = full();
        // Their buckets are full again, and their day is not.
        let now = later(3_600);
        let first = users.allowance("i", "late", "free", now);
        let admitted = (0..1_000).filter(|number| {
            let late = users.allowance("i", &format!("late-{number}"), "free", now);
            assert!(Arc::ptr_eq(&late, &first));
            admit(Some(&late), None, now).is_ok()
        });
        assert_eq!(admitted.count(), 10, "the burst of one");
        let other = users.allowance("i", "late", "developer", now);
        assert_eq!(
            (other.holder(), other.bucket().unwrap().left(now.steady_ns).remaining),
            ("latecomers:developer", 50)
        );
        for number in [0, MAX_USERS / 2, MAX_USERS - 1] {
            let known = users.allowance("i", &number.to_string(), "free", now);
            assert_eq!(known.daily().unwrap().left(now.unix).remaining, 999, "{number}");
        }
    }

    #[test]
    fn on_the_next_day_there_is_room_again_and_looking_for_it_is_bounded() {
        let users = full();
        let remembered: Vec<_> =
            (0..2 * LOOKED_AT).map(|number| users.allowance("i", &number.to_string(), "free", NOW)).collect();
        let tomorrow = later(86_400);
        let hand = || users.known.lock().unwrap().hand;
        for looked in [LOOKED_AT, 2 * LOOKED_AT] {
            assert_eq!(users.allowance("i", "new", "free", tomorrow).holder(), "latecomers:free");
            assert_eq!(hand(), looked, "so many and no more");
        }
        assert_eq!(users.allowance("i", "new", "free", tomorrow).holder(), "user:i#new");
        assert_eq!(hand(), 2 * LOOKED_AT + 1);
        assert!(Arc::ptr_eq(&remembered[0], &users.allowance("i", "0", "free", tomorrow)));
    }

    #[test]
    fn who_has_no_limit_takes_no_room_from_others() {
        let users = Users::new(Tiers::built_in());
        let held: Vec<_> = (0..MAX_USERS)
            .map(|number| users.allowance("i", &number.to_string(), "unlimited", NOW))
            .collect();
        assert_eq!(users.allowance("i", "new", "free", NOW).holder(), "user:i#new");
        assert_eq!(held.len(), MAX_USERS);
    }

    #[test]
    fn other_tiers_hold_for_latecomers_too() {
        let users = full();
        let shared = users.allowance("i", "late", "free", NOW);
        admit(Some(&shared), None, NOW).unwrap();
        let limit = crate::Limit::new(crate::Rate { count: 1, per: std::time::Duration::from_secs(1) }, 3);
        let tiers = Tiers::with([("free".to_owned(), crate::Tier { limit, daily: None })].into());
        users.set_tiers(&tiers, NOW.steady_ns);
        assert_eq!(left(&users.allowance("i", "late", "free", NOW)), 2);
    }
}
