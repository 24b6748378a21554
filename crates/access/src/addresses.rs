//! A bucket for each address that clients call from, in memory of a fixed size, however many there are.
//!
//! The table has room for so many addresses as owe something at the same time: a full bucket is the same as none. In a place
//! that is crowded the one that owes least makes room, so that whoever floods does not get rid of what it owes by the
//! addresses of others.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Allowed, Denied, Limit};

/// Parts of the table with a lock of their own.
const SHARDS: usize = 256;
/// Places of a shard, each for a few addresses.
const SETS: usize = 64;
/// Addresses of a place.
const WAYS: usize = 8;
/// Addresses that the table has room for: 2 MiB, which are touched only as far as they are used.
#[cfg(test)]
const MAX_ADDRESSES: usize = SHARDS * SETS * WAYS;

/// The buckets of addresses, shared by all workers. An address in IPv6 stands for its /64, which is what one client has at least.
pub struct Addresses {
    /// Nobody who does not know it can choose addresses that crowd one place.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// A hash for the address, and the theoretical arrival time of its bucket; two zeros where there is none.
type Bucket = [u64; 2];

struct Shard {
    /// What its buckets are counted by. It is here and not with whoever counts, so that a time of one limit is never taken for one
    /// of another.
    limit: Option<Limit>,
    buckets: Box<[Bucket]>,
}

impl Addresses {
    /// No address has used anything of this limit. Without one nothing is counted.
    pub fn new(hasher: RandomState, limit: Option<Limit>) -> Self {
        let shard = || Mutex::new(Shard { limit, buckets: vec![[0; 2]; SETS * WAYS].into() });
        Self { hasher, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts a request from this address, or says when another one is admitted. Only an admitted one uses anything. `None` where
    /// there is no limit.
    pub fn take(&self, address: IpAddr, now_ns: u64) -> Option<Result<Allowed, Denied>> {
        let (mut shard, set, tag) = self.place(address);
        let limit = shard.limit?;
        let set = shard.set(set);
        let bucket = known(set, tag).unwrap_or_else(|| {
            let least = least(set);
            // Only once it is admitted, which a full bucket is: any limit has a burst of at least one.
            set[least] = [tag, 0];
            least
        });
        Some(limit.after_one_more(set[bucket][1], now_ns).map(|full_at| {
            set[bucket][1] = full_at;
            limit.left(full_at, now_ns)
        }))
    }

    /// Takes over what came of a request from this address that somebody else has counted: at least so much is used here from now
    /// on.
    pub fn counted_elsewhere(&self, address: IpAddr, counted: Result<Allowed, Denied>, now_ns: u64) {
        let (mut shard, set, tag) = self.place(address);
        let Some(limit) = shard.limit else { return };
        let full_at = now_ns.saturating_add(limit.owed_ns(counted));
        let set = shard.set(set);
        let bucket = known(set, tag).unwrap_or_else(|| least(set));
        if full_at > set[bucket][1] {
            set[bucket] = [tag, full_at];
        }
    }

    /// When this address is admitted again, if it is not now. Changes nothing.
    ///
    /// # Errors
    /// It is not now.
    pub fn would_admit(&self, address: IpAddr, now_ns: u64) -> Result<(), Denied> {
        let (mut shard, set, tag) = self.place(address);
        let Some(limit) = shard.limit else { return Ok(()) };
        let full_at = shard.set(set).iter().find(|bucket| bucket[0] == tag).map_or(0, |bucket| bucket[1]);
        limit.after_one_more(full_at, now_ns).map(drop)
    }

    /// Another limit is in force from now on: what was used stays used, as in [`crate::Gcra::under`], and nothing is where there
    /// was or is none.
    pub fn set_limit(&self, limit: Option<Limit>, now_ns: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            match (std::mem::replace(&mut shard.limit, limit), limit) {
                (Some(before), Some(after)) if before != after => {
                    for bucket in shard.buckets.iter_mut().filter(|bucket| bucket[1] > now_ns) {
                        bucket[1] = after.converted(bucket[1], &before, now_ns);
                    }
                }
                (Some(_), None) => shard.buckets.fill([0, 0]),
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
    }

    fn place(&self, address: IpAddr) -> (MutexGuard<'_, Shard>, usize, u64) {
        let hash = match address.to_canonical() {
            IpAddr::V4(address) => self.hasher.hash_one(address.octets()),
            IpAddr::V6(address) => self.hasher.hash_one(u128::from(address) >> 64),
        };
        let number = usize::try_from(hash % (SHARDS * SETS) as u64).unwrap_or_default();
        // A zero would be no address.
        let tag = hash | 1 << 63;
        // What a panic left behind is numbers like any other.
        let shard = self.shards[number / SETS].lock().unwrap_or_else(PoisonError::into_inner);
        (shard, number % SETS, tag)
    }
}

/// The bucket of an address in its place.
fn known(set: &[Bucket], tag: u64) -> Option<usize> {
    set.iter().position(|bucket| bucket[0] == tag)
}

/// The bucket that owes least.
fn least(set: &[Bucket]) -> usize {
    (0..WAYS).min_by_key(|way| set[*way][1]).unwrap_or(0)
}

impl Shard {
    fn set(&mut self, number: usize) -> &mut [Bucket] {
        &mut self.buckets[number * WAYS..(number + 1) * WAYS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Rate;

    const SECOND: u64 = 1_000_000_000;

    fn limit(burst: u32) -> Limit {
        Limit::new(Rate { count: 60, per: Duration::from_secs(60) }, burst)
    }

    fn addresses(limit: Limit) -> Addresses {
        Addresses::new(RandomState::new(), Some(limit))
    }

    fn take(addresses: &Addresses, address: &str, now_ns: u64) -> Result<Allowed, Denied> {
        addresses.take(address.parse().unwrap(), now_ns).expect("there is a limit")
    }

    fn admitted(addresses: &Addresses, address: &str, now_ns: u64) -> usize {
        (0..10).filter(|_| take(addresses, address, now_ns).is_ok()).count()
    }

    #[test]
    fn each_address_has_a_bucket_and_in_ipv6_each_network_of_64_bits() {
        let addresses = addresses(limit(3));
        assert_eq!(admitted(&addresses, "192.0.2.1", SECOND), 3);
        assert_eq!(admitted(&addresses, "192.0.2.2", SECOND), 3);
        assert_eq!(admitted(&addresses, "2001:db8::1", SECOND), 3);
        assert_eq!(admitted(&addresses, "2001:db8::ffff:1", SECOND), 0, "the same /64");
        assert_eq!(admitted(&addresses, "2001:db8:0:1::1", SECOND), 3, "another one");
        assert_eq!(admitted(&addresses, "192.0.2.1", 2 * SECOND), 1);
        let denied = Denied { retry_after: Duration::from_secs(1) };
        assert_eq!(take(&addresses, "192.0.2.1", 2 * SECOND), Err(denied));
        assert_eq!(addresses.would_admit("192.0.2.1".parse().unwrap(), 2 * SECOND), Err(denied));
        assert_eq!(addresses.would_admit("192.0.2.9".parse().unwrap(), SECOND), Ok(()));
    }

    #[test]
    fn another_limit_is_in_force_at_once_for_all_and_gives_no_more_than_itself() {
        let slow = Limit::new(Rate { count: 1, per: Duration::from_secs(3_600) }, 2);
        let wide = Limit::new(Rate { count: 600, per: Duration::from_secs(60) }, 5);
        let addresses = addresses(slow);
        assert_eq!(admitted(&addresses, "192.0.2.1", SECOND), 2);
        addresses.set_limit(Some(wide), SECOND);
        assert_eq!(admitted(&addresses, "192.0.2.1", SECOND), 3, "two are used");
        let denied = take(&addresses, "192.0.2.1", SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_millis(100));
        assert_eq!(admitted(&addresses, "192.0.2.1", 2 * SECOND), 5);
        addresses.set_limit(Some(slow), 2 * SECOND);
        assert_eq!(admitted(&addresses, "192.0.2.1", 3 * SECOND), 0, "all of it is used");
    }

    #[test]
    fn without_a_limit_nobody_owes_anything_nor_afterwards() {
        let addresses = addresses(Limit::new(Rate { count: 1, per: Duration::from_secs(3_600) }, 2));
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(admitted(&addresses, "192.0.2.1", SECOND), 2);
        addresses.set_limit(None, SECOND);
        assert_eq!(addresses.take(address, SECOND), None);
        assert_eq!(addresses.would_admit(address, SECOND), Ok(()));
        addresses.counted_elsewhere(address, Err(Denied { retry_after: Duration::from_secs(9) }), SECOND);
        addresses.set_limit(Some(limit(3)), SECOND);
        assert_eq!(admitted(&addresses, "192.0.2.1", SECOND), 3);
    }

    #[test]
    fn a_request_that_is_counted_late_frees_nobody() {
        let addresses = addresses(limit(5));
        assert_eq!(admitted(&addresses, "192.0.2.1", 100 * SECOND), 5);
        assert!(take(&addresses, "192.0.2.1", 60 * SECOND).is_err());
        assert_eq!(admitted(&addresses, "192.0.2.1", 100 * SECOND), 0);
    }

    #[test]
    fn what_was_counted_elsewhere_is_used_here_too_and_frees_nobody_who_owes_more() {
        let addresses = addresses(limit(5));
        let (one, other) = ("192.0.2.1", "192.0.2.2");
        let left = |seconds| Ok(Allowed { remaining: 0, reset: Duration::from_secs(seconds) });
        addresses.counted_elsewhere(one.parse().unwrap(), left(3), SECOND);
        addresses.counted_elsewhere(one.parse().unwrap(), left(2), SECOND);
        assert_eq!(admitted(&addresses, one, SECOND), 2, "of five, three are used");
        let denied = Denied { retry_after: Duration::from_millis(1_500) };
        addresses.counted_elsewhere(other.parse().unwrap(), Err(denied), 10 * SECOND);
        let denied = take(&addresses, other, 10 * SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_secs(1), "no more than all of it can be owed");
        for number in 0..300_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            addresses.counted_elsewhere(address, left(4), 10 * SECOND);
        }
        assert_eq!(admitted(&addresses, other, 10 * SECOND), 0);
    }

    #[test]
    fn a_flood_of_a_million_addresses_needs_no_more_room_and_frees_nobody_who_owes_more() {
        let addresses = addresses(limit(100));
        let offender = "203.0.113.7";
        assert!((0..100).all(|_| take(&addresses, offender, SECOND).is_ok()));
        for number in 0..1_000_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            let counted = addresses.take(address, SECOND).expect("there is a limit");
            assert!(counted.is_ok(), "who comes first is admitted");
        }
        assert_eq!(admitted(&addresses, offender, SECOND), 0);
        let room: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().buckets.len()).sum();
        assert_eq!(room, MAX_ADDRESSES);
    }

    #[test]
    fn threads_that_share_an_address_get_the_burst_and_not_one_more() {
        let addresses = addresses(limit(10_000));
        let work = || (0..5_000).filter(|_| take(&addresses, "192.0.2.1", SECOND).is_ok()).count();
        let admitted: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 10_000);
    }
}
