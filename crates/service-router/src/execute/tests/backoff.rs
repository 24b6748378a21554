//! The waits between the tries of a call.

use std::time::Duration;

use super::super::backoff;

/// Shortest and longest of many waits before the retry of that number, in milliseconds.
fn extremes(retry: u32) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let waits: Vec<_> = (0..2000).map(|_| backoff(retry, &mut random).as_secs_f64() * 1e3).collect();
    (waits.iter().copied().fold(f64::MAX, f64::min), waits.iter().copied().fold(0.0, f64::max))
}

#[test]
fn a_wait_is_anything_between_nothing_and_a_bound_that_doubles_up_to_the_longest() {
    for (retry, bound) in
        [(1, 25.0), (2, 50.0), (3, 100.0), (4, 200.0), (5, 250.0), (6, 250.0), (1000, 250.0)]
    {
        let (shortest, longest) = extremes(retry);
        assert!(longest <= bound, "retry {retry}: {longest}");
        // Drawn from all of it: calls that failed together do not come back together.
        assert!(shortest < bound * 0.02 && longest > bound * 0.98, "retry {retry}: {shortest} to {longest}");
    }
}

#[test]
fn a_wait_follows_from_the_randomness_that_is_handed_in() {
    let waits = |seed: u64| -> Vec<Duration> {
        let mut random = fastrand::Rng::with_seed(seed);
        (1..6).map(|retry| backoff(retry, &mut random)).collect()
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}
