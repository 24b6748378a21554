//! The nonces that were used: a signed request comes once.
//!
//! None is forgotten before the signature that it belongs to has expired. Where that leaves no room, new signatures wait, not
//! old ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::SignatureRefusal;

/// How many are remembered in the process; each takes some 150 bytes.
const MAX_NONCES: usize = 100_000;
/// How many of one key: nobody fills the room alone.
const MAX_NONCES_OF_KEY: usize = 25_000;
/// When whoever comes to a process that has handed them over is to come again, over another connection.
const AFTER_A_HANDOVER: Duration = Duration::from_secs(1);

/// The nonces of a process. They are in memory only: of a signature that was made before the process began nobody can tell
/// whether it was used, unless the process goes on in the place of another one that hands its own over.
pub struct Nonces {
    room: usize,
    room_of_key: usize,
    used: Mutex<Used>,
}

/// A nonce that was used: the hash that no other has, the key that it is of, and when its signature expires, in seconds.
pub type UsedNonce = ([u8; 32], Arc<str>, i64);

/// What a process hands over that ceases to take signed requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandedNonces {
    /// Since when they are known, in seconds.
    pub since: i64,
    /// All that have not expired.
    pub used: Vec<UsedNonce>,
}

#[derive(Default)]
struct Used {
    /// Since when all are known, in seconds.
    since: i64,
    /// Whether they were handed over: from then on somebody else uses them up.
    is_handed: bool,
    all: HashSet<Digest>,
    /// Those whose signatures expire in a second.
    by_expiry: BTreeMap<i64, Vec<(Digest, Arc<str>)>>,
    of_key: HashMap<Arc<str>, usize>,
    /// The latest time that was ever asked at: the workers' clocks differ by a little, and a clock may be set back.
    latest: i64,
}

/// Of the key's id and the nonce.
type Digest = [u8; 32];

impl Nonces {
    /// None yet, in a process that began then.
    pub fn new(started: Timestamp) -> Self {
        Self::with_room(started, MAX_NONCES, MAX_NONCES_OF_KEY)
    }

    fn with_room(started: Timestamp, room: usize, room_of_key: usize) -> Self {
        let used = Used { since: started.as_second(), ..Used::default() };
        Self { room, room_of_key, used: Mutex::new(used) }
    }

    /// All of them, for another process that goes on in the place of this one: from now on none is taken here, and whoever comes
    /// with one is told to come again.
    pub fn hand_over(&self) -> HandedNonces {
        let mut used = self.used();
        used.is_handed = true;
        let all = used.by_expiry.iter().flat_map(|(expiry, nonces)| {
            nonces.iter().map(|(digest, key)| (*digest, Arc::clone(key), *expiry))
        });
        HandedNonces { since: used.since, used: all.collect() }
    }

    /// Goes on with those of another process, before any was taken here.
    pub fn go_on_with(&self, handed: HandedNonces) {
        let mut used = self.used();
        used.since = used.since.min(handed.since);
        for (digest, key, expiry) in handed.used {
            if !used.all.contains(&digest) {
                used.add(digest, &key, expiry);
            }
        }
    }

    /// Whether a nonce may still be used. Changes nothing.
    pub(super) fn look(&self, nonce: &Nonce, now: i64) -> Result<(), SignatureRefusal> {
        self.judge(nonce, now).map(drop)
    }

    /// Uses up a nonce; `now` is in seconds.
    ///
    /// # Errors
    /// It was used before, or its signature has expired, or there is no room to remember it.
    pub fn take(&self, nonce: &Nonce, now: i64) -> Result<(), SignatureRefusal> {
        let mut used = self.judge(nonce, now)?;
        let of_key = used.of_key.get(&*nonce.key).copied().unwrap_or_default();
        if used.all.len() >= self.room || of_key >= self.room_of_key {
            let next = used.by_expiry.keys().next().map_or(1, |expiry| expiry - used.latest);
            let retry_after = Duration::from_secs(u64::try_from(next).unwrap_or(1).max(1));
            return Err(SignatureRefusal::Full { retry_after });
        }
        used.add(nonce.digest, &nonce.key, nonce.good.end);
        Ok(())
    }

    fn judge(&self, nonce: &Nonce, now: i64) -> Result<MutexGuard<'_, Used>, SignatureRefusal> {
        let mut used = self.used();
        if used.is_handed {
            return Err(SignatureRefusal::Full { retry_after: AFTER_A_HANDOVER });
        }
        if nonce.good.start <= used.since {
            return Err(SignatureRefusal::Invalid("its signature is older than this process"));
        }
        used.latest = used.latest.max(now);
        used.forget_expired();
        if nonce.good.end <= used.latest {
            return Err(SignatureRefusal::Invalid("its signature has expired"));
        }
        if used.all.contains(&nonce.digest) {
            return Err(SignatureRefusal::Invalid("its nonce was used before"));
        }
        Ok(used)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nonce of a signed request, and for how long its signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce {
    digest: Digest,
    key: Box<str>,
    good: Range<i64>,
}

impl Nonce {
    /// The nonce of a key, whose signature is good for that time, in seconds.
    pub fn new(key: &str, nonce: &str, good: Range<i64>) -> Self {
        Self { digest: digest_of(key, nonce), key: key.into(), good }
    }

    /// What no other nonce of any key has: a hash.
    pub fn id(&self) -> &[u8] {
        &self.digest
    }

    /// For how long from `now`, in seconds, its signature is good.
    pub fn time_left(&self, now: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.good.end - now).unwrap_or_default())
    }
}

impl Used {
    fn add(&mut self, digest: Digest, key: &str, expiry: i64) {
        let key = match self.of_key.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => key.into(),
        };
        *self.of_key.entry(Arc::clone(&key)).or_default() += 1;
        self.all.insert(digest);
        self.by_expiry.entry(expiry).or_default().push((digest, key));
    }

    fn forget_expired(&mut self) {
        while let Some(first) = self.by_expiry.first_entry().filter(|first| *first.key() <= self.latest) {
            for (digest, key) in first.remove() {
                self.all.remove(&digest);
                if let Some(count) = self.of_key.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.of_key.remove(&key);
                    }
                }
            }
        }
    }
}

fn digest_of(key: &str, nonce: &str) -> Digest {
    let mut hash = digest::Context::new(&digest::SHA256);
    // No id has a zero in it.
    for part in [key.as_bytes(), b"\0", nonce.as_bytes()] {
        hash.update(part);
    }
    hash.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn take(
        nonces: &Nonces,
        (key, nonce): (&str, &str),
        good: Range<i64>,
        now: i64,
    ) -> Result<(), SignatureRefusal> {
        let nonce = Nonce::new(key, nonce, good);
        let looked = nonces.look(&nonce, now);
        let taken = nonces.take(&nonce, now);
        assert!(looked.is_ok() || taken == looked, "{taken:?} of {looked:?}");
        taken
    }

    const REPLAYED: Result<(), SignatureRefusal> =
        Err(SignatureRefusal::Invalid("its nonce was used before"));
    const EXPIRED: Result<(), SignatureRefusal> = Err(SignatureRefusal::Invalid("its signature has expired"));

    #[test]
    fn a_nonce_is_good_once_for_each_key_until_its_signature_has_expired() {
        let nonces = Nonces::new(at(100));
        assert_eq!(take(&nonces, ("key_1", "n"), 101..200, 101), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "n"), 101..200, 102), REPLAYED);
        assert_eq!(take(&nonces, ("key_1", "n"), 150..400, 199), REPLAYED, "nor in another signature");
        assert_eq!(take(&nonces, ("key_2", "n"), 101..200, 102), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "n"), 180..400, 200), Ok(()));
    }

    #[test]
    fn what_was_forgotten_is_refused_by_its_time_also_where_a_clock_is_behind() {
        let nonces = Nonces::new(at(100));
        assert_eq!(take(&nonces, ("key_1", "n"), 101..200, 101), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "m"), 101..300, 200), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "n"), 101..200, 199), EXPIRED);
    }

    #[test]
    fn signatures_from_before_the_process_began_are_refused() {
        let nonces = Nonces::new(at(100));
        for created in [99, 100] {
            let refused = take(&nonces, ("key_1", "n"), created..200, 101);
            assert_eq!(refused, Err(SignatureRefusal::Invalid("its signature is older than this process")));
        }
    }

    #[test]
    fn whoever_goes_on_with_those_of_another_takes_what_that_had_not_and_no_more() {
        let (old, new) = (Nonces::new(at(100)), Nonces::new(at(200)));
        assert_eq!(take(&old, ("key_1", "n"), 150..400, 150), Ok(()));
        assert_eq!(take(&old, ("key_1", "gone"), 150..160, 150), Ok(()));
        assert_eq!(take(&old, ("key_1", "m"), 170..400, 170), Ok(()));
        let handed = old.hand_over();
        assert_eq!((handed.since, handed.used.len()), (100, 2));
        assert_eq!(old.hand_over(), handed, "it can be handed over again where nobody has taken it");
        let again = Err(SignatureRefusal::Full { retry_after: AFTER_A_HANDOVER });
        assert_eq!(take(&old, ("key_1", "late"), 180..400, 200), again);
        new.go_on_with(handed);
        assert_eq!(take(&new, ("key_1", "n"), 150..400, 201), REPLAYED);
        assert_eq!(
            take(&new, ("key_1", "late"), 180..400, 201),
            Ok(()),
            "it was signed before this one began"
        );
        assert_eq!(take(&new, ("key_1", "n"), 201..500, 401), Ok(()), "it is forgotten in its time");
        let before = Err(SignatureRefusal::Invalid("its signature is older than this process"));
        assert_eq!(take(&new, ("key_1", "early"), 100..500, 402), before);
    }

    #[test]
    fn where_there_is_no_room_the_new_ones_wait_and_no_old_one_is_forgotten() {
        let nonces = Nonces::with_room(at(0), 3, 2);
        let full = |seconds| Err(SignatureRefusal::Full { retry_after: Duration::from_secs(seconds) });
        assert_eq!(take(&nonces, ("key_1", "a"), 1..10, 1), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "b"), 1..20, 1), Ok(()));
        assert_eq!(take(&nonces, ("key_1", "c"), 1..20, 1), full(9), "the share of the key");
        assert_eq!(take(&nonces, ("key_2", "a"), 1..20, 1), Ok(()));
        assert_eq!(take(&nonces, ("key_3", "a"), 1..20, 2), full(8), "the room of all");
        assert_eq!(take(&nonces, ("key_1", "a"), 1..10, 9), REPLAYED);
        assert_eq!(take(&nonces, ("key_3", "a"), 1..20, 10), Ok(()), "once one has expired");
        assert_eq!(take(&nonces, ("key_1", "c"), 1..20, 11), full(9));
        assert_eq!(take(&nonces, ("key_1", "c"), 15..30, 20), Ok(()), "what was full is empty again");
        let used = nonces.used.lock().unwrap();
        assert_eq!((used.all.len(), used.by_expiry.len(), used.of_key.len()), (1, 1, 1));
    }
}
