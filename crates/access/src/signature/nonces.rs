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

/// The nonces of a process. They are in memory only: of a signature that was made before the process began nobody can tell
/// whether it was used.
pub struct Nonces {
    /// In seconds.
    started: i64,
    room: usize,
    room_of_key: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
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
        Self { started: started.as_second(), room, room_of_key, used: Mutex::default() }
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
        if nonce.good.start <= self.started {
            return Err(SignatureRefusal::Invalid("its signature is older than this process"));
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
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
