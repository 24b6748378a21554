//! From the 64 bytes of a proof's output to integers of a range, without bias. Anybody can repeat it from `beta`.
//!
//! Pure arithmetic: the mapping must stay as it is, since every answer ever given is checked by repeating it.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::ecvrf::BETA_BYTES;

/// The greatest magnitude of a bound, 2^53 − 1: the greatest integer that every JSON reader keeps exact.
pub const MAX_BOUND: i64 = (1 << 53) - 1;
/// The most values of one draw.
pub const MAX_COUNT: i64 = 100;

/// What is drawn: `count` integers, each of `min..=max`, with equal chances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    min: i64,
    max: i64,
    count: u32,
}

/// Why something cannot be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DrawError {
    /// A bound is not exact in JSON.
    #[error("min and max lie between -{MAX_BOUND} and {MAX_BOUND}")]
    Bound,
    /// There is nothing between the bounds.
    #[error("min is {min}, which is greater than max, {max}")]
    Empty {
        /// The lower bound given.
        min: i64,
        /// The upper bound given.
        max: i64,
    },
    /// Too few or too many values.
    #[error("count lies between 1 and {MAX_COUNT}")]
    Count,
}

impl Draw {
    /// `count` (1 to [`MAX_COUNT`]) values of `min..=max`, whose bounds lie within ±[`MAX_BOUND`].
    pub fn new(min: i64, max: i64, count: i64) -> Result<Self, DrawError> {
        let bounds = -MAX_BOUND..=MAX_BOUND;
        if !bounds.contains(&min) || !bounds.contains(&max) {
            return Err(DrawError::Bound);
        }
        if min > max {
            return Err(DrawError::Empty { min, max });
        }
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(DrawError::Count);
        }
        Ok(Self { min, max, count: u32::try_from(count).map_err(|_| DrawError::Count)? })
    }

    /// The least integer.
    pub fn min(&self) -> i64 {
        self.min
    }

    /// The greatest.
    pub fn max(&self) -> i64 {
        self.max
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The values that this output stands for.
    pub fn values(&self, beta: &[u8; BETA_BYTES]) -> Vec<i64> {
        (0..self.count).map(|index| self.min + self.offset(beta, index)).collect()
    }

    /// The first word that is not rejected, modulo n. At most one word in 2^10 is rejected, since n < 2^54.
    fn offset(&self, beta: &[u8; BETA_BYTES], index: u32) -> i64 {
        let n = (self.max - self.min).unsigned_abs() + 1;
        let offset = (0..=u32::MAX)
            .find_map(|counter| accept(word(beta, index, counter), n))
            .expect("2^32 words in a row are not rejected where one in 2^10 is");
        i64::try_from(offset).expect("an offset is below 2^54")
    }
}

/// The first 8 bytes, big-endian, of SHA-256(beta ‖ "range" ‖ u32be index ‖ u32be counter).
fn word(beta: &[u8; BETA_BYTES], index: u32, counter: u32) -> u64 {
    let hasher = Sha256::new().chain_update(beta).chain_update(b"range");
    let hash = hasher.chain_update(index.to_be_bytes()).chain_update(counter.to_be_bytes()).finalize();
    u64::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// The word modulo n (not 0), unless it is one of the last 2^64 mod n words: those would favour the small remainders.
fn accept(word: u64, n: u64) -> Option<u64> {
    // 2^64 mod n = (2^64 − n) mod n, and 2^64 − n fits into 64 bits.
    let surplus = n.wrapping_neg() % n;
    (word <= u64::MAX - surplus).then(|| word % n)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn beta(byte: u8) -> [u8; BETA_BYTES] {
        [byte; BETA_BYTES]
    }

    #[test]
    fn the_mapping_never_changes() {
        let drawn = |min, max, count| format!("{:?}\n", Draw::new(min, max, count).unwrap().values(&beta(7)));
        let seen = [
            drawn(1, 6, 12),
            drawn(-1, 1, 12),
            drawn(5, 5, 2),
            drawn(0, (1 << 32) - 1, 3),
            drawn(-MAX_BOUND, MAX_BOUND, 3),
        ];
        expect![[r#"
            [1, 1, 4, 5, 1, 2, 2, 6, 2, 1, 4, 1]
            [-1, -1, -1, 0, -1, 0, 0, 1, 0, -1, -1, -1]
            [5, 5]
            [1684704304, 2318076988, 1246669719]
            [-472964408898442, -4692485676003643, 5215654912109681]
        "#]]
        .assert_eq(&seen.concat());
    }

    #[test]
    fn only_draws_within_the_limits_exist() {
        assert_eq!(Draw::new(2, 1, 1), Err(DrawError::Empty { min: 2, max: 1 }));
        for (min, max) in [(-MAX_BOUND - 1, 0), (0, MAX_BOUND + 1), (i64::MIN, i64::MAX)] {
            assert_eq!(Draw::new(min, max, 1), Err(DrawError::Bound));
        }
        for count in [i64::MIN, -1, 0, 101, 1 << 32, i64::MAX] {
            assert_eq!(Draw::new(0, 1, count), Err(DrawError::Count));
        }
        assert_eq!(Draw::new(-MAX_BOUND, MAX_BOUND, 100).unwrap().values(&beta(0)).len(), 100);
    }

    #[test]
    fn nothing_is_rejected_where_n_divides_two_to_the_64() {
        for power in 0..54 {
            let n = 1 << power;
            assert_eq!(accept(u64::MAX, n), Some(n - 1));
        }
    }

    #[test]
    fn many_values_are_spread_evenly() {
        let draw = Draw::new(-3, 3, 100).unwrap();
        let mut seen = [0_u32; 7];
        for byte in 0..=u8::MAX {
            for value in draw.values(&beta(byte)) {
                seen[usize::try_from(value + 3).unwrap()] += 1;
            }
        }
        let expected = f64::from(256 * 100) / 7.0;
        let chi_squared: f64 =
            seen.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        // 22.46 is the 99.9 % point of the distribution with six degrees of freedom; the input is fixed, so is the result.
        assert!(chi_squared < 22.46, "{seen:?}: {chi_squared}");
    }

    proptest! {
        #[test]
        fn every_value_lies_within_its_bounds(
            bytes: [u8; 32], a in -MAX_BOUND..=MAX_BOUND, b in -MAX_BOUND..=MAX_BOUND, count in 1..=MAX_COUNT,
        ) {
            let mut beta = beta(0);
            beta[..32].copy_from_slice(&bytes);
            let (min, max) = (a.min(b), a.max(b));
            let values = Draw::new(min, max, count).unwrap().values(&beta);
            prop_assert_eq!(i64::try_from(values.len()).unwrap(), count);
            prop_assert!(values.iter().all(|value| (min..=max).contains(value)));
        }

        #[test]
        fn a_longer_draw_begins_with_the_shorter_one(byte: u8, count in 1..MAX_COUNT) {
            let longer = Draw::new(0, 999, MAX_COUNT).unwrap().values(&beta(byte));
            let shorter = Draw::new(0, 999, count).unwrap().values(&beta(byte));
            prop_assert!(longer.starts_with(&shorter));
        }

        #[test]
        fn exactly_the_surplus_words_are_rejected(n in 1_u64..1 << 54, distance in 0_u64..1 << 20) {
            let first_rejected = (1_u128 << 64) - (1_u128 << 64) % u128::from(n);
            let accepted = |word: u128| u64::try_from(word).ok().and_then(|word| accept(word, n));
            let below = first_rejected - 1 - u128::from(distance);
            prop_assert_eq!(accepted(below).map(u128::from), Some(below % u128::from(n)));
            prop_assert_eq!(accepted(first_rejected + u128::from(distance)), None);
            prop_assert_eq!(accepted(first_rejected), None);
        }
    }
}
