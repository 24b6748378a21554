//! What is random. Everybody has dice of their own, made of the seed and of a name, so that it changes nothing who is the first to
//! throw: which of those that wait for the same thing is woken first, tokio does not say.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a: the standard library's hasher may be another one some day.
        let start = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
        let hash =
            name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self(Mutex::new(fastrand::Rng::with_seed(hash)))
    }

    pub(crate) fn chance(&self, chance: f64) -> bool {
        self.0.lock().unwrap().f64() < chance
    }

    pub(crate) fn between(&self, range: Range<u64>) -> u64 {
        self.0.lock().unwrap().u64(range)
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.between(range))
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.0.lock().unwrap().usize(0..of.len())]
    }
}
