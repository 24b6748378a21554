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

struct Shard(Box<[Bucket]>);

impl Addresses {
    /// No address has used anything.
    pub fn new(hasher: RandomState) -> Self {
        let shard = || Mutex::new(Shard(vec![[0; 2]; SETS * WAYS].into()));
        Self { hasher, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts a request from this address, or says when another one is admitted. Only an admitted one uses anything.
    pub fn take(&self, address: IpAddr, limit: &Limit, now_ns: u64) -> Result<Allowed, Denied> {
        let (mut shard, set, tag) = self.place(address);
        let set = shard.set(set);
        let bucket = known(set, tag).unwrap_or_else(|| {
            let least = least(set);
            // Only once it is admitted, which a full bucket is: any limit has a burst of at least one.
            set[least] = [tag, 0];
            least
        });
        set[bucket][1] = limit.at_most_all(set[bucket][1], now_ns);
        let full_at = limit.after_one_more(set[bucket][1], now_ns)?;
        set[bucket][1] = full_at;
        Ok(limit.left(full_at, now_ns))
    }

    /// Takes over what came of a request from this address that somebody else has counted: at least so much is used here from now
    /// on.
    pub fn counted_elsewhere(
        &self,
        address: IpAddr,
        limit: &Limit,
        counted: Result<Allowed, Denied>,
        now_ns: u64,
    ) {
        let full_at = now_ns.saturating_add(limit.owed_ns(counted));
        let (mut shard, set, tag) = self.place(address);
        let set = shard.set(set);
        let bucket = known(set, tag).unwrap_or_else(|| least(set));
        if full_at > set[bucket][1] {
            set[bucket] = [tag, full_at];
        }
    }

    /// What is left for this address. Changes nothing.
    pub fn left(&self, address: IpAddr, limit: &Limit, now_ns: u64) -> Result<Allowed, Denied> {
        let (mut shard, set, tag) = self.place(address);
        let full_at = shard.set(set).iter().find(|bucket| bucket[0] == tag).map_or(0, |bucket| bucket[1]);
        let full_at = limit.at_most_all(full_at, now_ns);
        limit.after_one_more(full_at, now_ns)?;
        Ok(limit.left(full_at, now_ns))
    }

    /// Another limit is in force from now on: what was used stays used, as in [`crate::Gcra::under`].
    pub fn change_limit(&self, before: &Limit, after: &Limit, now_ns: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for bucket in shard.0.iter_mut().filter(|bucket| bucket[1] > now_ns) {
                bucket[1] = after.converted(bucket[1], before, now_ns);
            }
        }
    }

    /// No limit is in force from now on: nobody owes anything.
    pub fn forget(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.0.iter_mut().for_each(|bucket| *bucket = [0, 0]);
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
        &mut self.0[number * WAYS..(number + 1) * WAYS]
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

    fn admitted(addresses: &Addresses, address: &str, limit: &Limit, now_ns: u64) -> usize {
        (0..10).filter(|_| addresses.take(address.parse().unwrap(), limit, now_ns).is_ok()).count()
    }

    #[test]
    fn each_address_has_a_bucket_and_in_ipv6_each_network_of_64_bits() {
        let (addresses, limit) = (Addresses::new(RandomState::new()), limit(3));
        assert_eq!(admitted(&addresses, "192.0.2.1", &limit, SECOND), 3);
        assert_eq!(admitted(&addresses, "192.0.2.2", &limit, SECOND), 3);
        assert_eq!(admitted(&addresses, "2001:db8::1", &limit, SECOND), 3);
        assert_eq!(admitted(&addresses, "2001:db8::ffff:1", &limit, SECOND), 0, "the same /64");
        assert_eq!(admitted(&addresses, "2001:db8:0:1::1", &limit, SECOND), 3, "another one");
        assert_eq!(admitted(&addresses, "192.0.2.1", &limit, 2 * SECOND), 1);
        let denied = addresses.take("192.0.2.1".parse().unwrap(), &limit, 2 * SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_secs(1));
        assert_eq!(addresses.left("192.0.2.9".parse().unwrap(), &limit, SECOND).unwrap().remaining, 3);
    }

    #[test]
    fn a_wider_limit_is_in_force_at_once_and_gives_no_more_than_itself() {
        let addresses = Addresses::new(RandomState::new());
        let slow = Limit::new(Rate { count: 1, per: Duration::from_secs(3_600) }, 2);
        assert_eq!(admitted(&addresses, "192.0.2.1", &slow, SECOND), 2);
        let wide = Limit::new(Rate { count: 600, per: Duration::from_secs(60) }, 5);
        addresses.change_limit(&slow, &wide, SECOND);
        assert_eq!(admitted(&addresses, "192.0.2.1", &wide, SECOND), 3, "two are used");
        let denied = addresses.take("192.0.2.1".parse().unwrap(), &wide, SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_millis(100));
        assert_eq!(admitted(&addresses, "192.0.2.1", &wide, 2 * SECOND), 5);
    }

    #[test]
    fn what_was_counted_elsewhere_is_used_here_too_and_frees_nobody_who_owes_more() {
        let (addresses, limit) = (Addresses::new(RandomState::new()), limit(5));
        let (one, other) = ("192.0.2.1", "192.0.2.2");
        let left = |seconds| Ok(Allowed { remaining: 0, reset: Duration::from_secs(seconds) });
        addresses.counted_elsewhere(one.parse().unwrap(), &limit, left(3), SECOND);
        addresses.counted_elsewhere(one.parse().unwrap(), &limit, left(2), SECOND);
        assert_eq!(admitted(&addresses, one, &limit, SECOND), 2, "of five, three are used");
        let denied = Denied { retry_after: Duration::from_millis(1_500) };
        addresses.counted_elsewhere(other.parse().unwrap(), &limit, Err(denied), 10 * SECOND);
        let denied = addresses.take(other.parse().unwrap(), &limit, 10 * SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_secs(1), "no more than all of it can be owed");
        for number in 0..300_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            addresses.counted_elsewhere(address, &limit, left(4), 10 * SECOND);
        }
        assert_eq!(admitted(&addresses, other, &limit, 10 * SECOND), 0);
    }

    #[test]
    fn what_another_limit_has_left_behind_is_never_more_than_all_of_this_one() {
        let addresses = Addresses::new(RandomState::new());
        let rate =
            |count, seconds, burst| Limit::new(Rate { count, per: Duration::from_secs(seconds) }, burst);
        let (slow, fast) = (rate(1, 3_600, 3), rate(10, 1, 5));
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..3 {
            addresses.take(address, &slow, SECOND).unwrap();
        }
        let denied = addresses.take(address, &fast, SECOND).unwrap_err();
        assert_eq!(denied.retry_after, Duration::from_millis(100));
        assert_eq!(addresses.left(address, &fast, SECOND + SECOND / 10).unwrap().remaining, 1);
        assert!(addresses.take(address, &fast, SECOND + SECOND / 10).is_ok());
        addresses.forget();
        assert_eq!(addresses.take(address, &fast, SECOND).unwrap().remaining, 4);
    }

    #[test]
    fn a_flood_of_a_million_addresses_needs_no_more_room_and_frees_nobody_who_owes_more() {
        let (addresses, limit) = (Addresses::new(RandomState::new()), limit(100));
        let offender = "203.0.113.7";
        assert!((0..100).all(|_| addresses.take(offender.parse().unwrap(), &limit, SECOND).is_ok()));
        for number in 0..1_000_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            assert!(addresses.take(address, &limit, SECOND).is_ok(), "who comes first is admitted");
        }
        assert_eq!(admitted(&addresses, offender, &limit, SECOND), 0);
        let room: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().0.len()).sum();
        assert_eq!(room, MAX_ADDRESSES);
    }

    #[test]
    fn threads_that_share_an_address_get_the_burst_and_not_one_more() {
        let (addresses, limit) = (Addresses::new(RandomState::new()), limit(10_000));
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let work = || (0..5_000).filter(|_| addresses.take(address, &limit, SECOND).is_ok()).count();
        let admitted: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 10_000);
    }
}
