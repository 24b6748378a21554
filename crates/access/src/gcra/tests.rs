use std::fmt::Write;
use std::sync::Barrier;
use std::thread;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn per_minute(count: u32) -> Rate {
    Rate { count, per: Duration::from_secs(60) }
}

/// Asks at each of these milliseconds and shows the answers.
fn check(bucket: &Gcra, milliseconds: &[u64], expected: &Expect) {
    let mut shown = String::new();
    for &at in milliseconds {
        let answer = match bucket.check(at * 1_000_000) {
            Ok(Allowed { remaining, reset }) => format!("allowed, {remaining} left, full in {reset:?}"),
            Err(Denied { retry_after }) => format!("denied, again in {retry_after:?}"),
        };
        writeln!(shown, "{at}: {answer}").unwrap();
    }
    expected.assert_eq(&shown);
}

#[test]
fn a_burst_is_admitted_at_once_and_then_one_request_each_interval() {
    check(
        &Gcra::new(Limit::new(per_minute(60), 3)),
        &[0, 0, 0, 0, 999, 1000, 1000, 3500, 3500, 3500, 60_000],
        &expect![[r#"
            0: allowed, 2 left, full in 1s
            0: allowed, 1 left, full in 2s
            0: allowed, 0 left, full in 3s
            0: denied, again in 1s
            999: denied, again in 1ms
            1000: allowed, 0 left, full in 3s
            1000: denied, again in 1s
            3500: allowed, 1 left, full in 1.5s
            3500: allowed, 0 left, full in 2.5s
            3500: denied, again in 500ms
            60000: allowed, 2 left, full in 1s
        "#]],
    );
}

#[test]
fn a_bucket_that_is_told_what_came_of_each_request_goes_on_from_there() {
    let limit = Limit::new(per_minute(60), 3);
    let (elsewhere, here) = (Gcra::new(limit), Gcra::new(limit));
    for at in [0, 0, 500, 700, 700, 1_700, 5_000].map(|milliseconds: u64| milliseconds * 1_000_000) {
        here.counted_elsewhere(elsewhere.check(at), at);
        assert_eq!(here.left(at), elsewhere.left(at), "{at}");
    }
    let at = 6 * SECOND;
    assert_eq!(here.check(at).unwrap().remaining, 2);
    here.counted_elsewhere(Ok(Allowed { remaining: 3, reset: Duration::ZERO }), at);
    assert_eq!(here.left(at).remaining, 2, "nothing is given back");
    here.counted_elsewhere(Ok(Allowed { remaining: 0, reset: Duration::MAX }), at);
    assert_eq!(
        here.check(at).unwrap_err().retry_after,
        Duration::from_secs(1),
        "no more than all of it is owed"
    );
}

#[test]
fn a_worker_whose_clock_is_behind_gets_no_more_for_it() {
    check(
        &Gcra::new(Limit::new(per_minute(60), 2)),
        &[5000, 4000, 5000, 5000, 6000],
        &expect![[r#"
            5000: allowed, 1 left, full in 1s
            4000: denied, again in 1s
            5000: allowed, 0 left, full in 2s
            5000: denied, again in 1s
            6000: allowed, 0 left, full in 2s
        "#]],
    );
}

#[test]
fn another_rate_keeps_what_was_used_of_the_burst() {
    let used = |count: u32, burst: u32, requests: usize| {
        let bucket = Gcra::new(Limit::new(per_minute(count), burst));
        assert!((0..requests).all(|_| bucket.check(SECOND).is_ok()));
        bucket
    };
    let remaining = |bucket: Gcra| bucket.check(SECOND).map(|allowed| allowed.remaining);
    let exhausted = used(60, 10, 10);
    assert_eq!(remaining(exhausted.under(Limit::new(per_minute(1000), 200), SECOND)).unwrap(), 189);
    let half = used(1000, 200, 5);
    assert_eq!(remaining(half.under(Limit::new(per_minute(60), 10), SECOND)).unwrap(), 4);
    let over = used(1000, 200, 150).under(Limit::new(per_minute(60), 10), SECOND);
    assert_eq!(remaining(over), Err(Denied { retry_after: Duration::from_secs(1) }));
    let rested = used(60, 10, 10).under(Limit::new(per_minute(300), 50), 20 * SECOND);
    assert_eq!(rested.check(20 * SECOND).unwrap().remaining, 49);
    // What is owed is counted in requests and not in time: two of them were two days here.
    let slow = Gcra::new(Limit::new(Rate { count: 1, per: Duration::from_secs(86_400) }, 2));
    assert!(slow.check(0).is_ok() && slow.check(0).is_ok());
    assert_eq!(slow.under(Limit::new(per_minute(60), 10), 0).check(0).unwrap().remaining, 7);
}

#[test]
fn extreme_rates_neither_overflow_nor_admit_everything() {
    for (rate, burst) in [
        (Rate { count: 1, per: Duration::MAX }, 1),
        (Rate { count: 1, per: Duration::MAX }, u32::MAX),
        (Rate { count: 0, per: Duration::from_secs(1) }, 0),
    ] {
        let bucket = Gcra::new(Limit::new(rate, burst));
        assert!(bucket.check(7).is_ok(), "{bucket:?}");
        assert!(bucket.check(7).is_err(), "{bucket:?}");
        assert!(bucket.under(Limit::new(per_minute(u32::MAX), u32::MAX), 7).check(7).is_ok(), "{bucket:?}");
    }
    let fastest = Gcra::new(Limit::new(Rate { count: u32::MAX, per: Duration::ZERO }, u32::MAX));
    assert_eq!(fastest.check(0).unwrap().remaining, u32::MAX - 1);
    let slow_with_room =
        Gcra::new(Limit::new(Rate { count: 1, per: Duration::from_secs(1 << 33) }, u32::MAX));
    let admitted = (0..10).filter(|_| slow_with_room.check(7).is_ok()).count();
    assert_eq!(admitted, 1, "a burst ends where the clock does");
}

/// The same as a token bucket, in nanoseconds of room.
struct Model {
    room: u64,
    seen: u64,
}

impl Model {
    fn check(&mut self, now: u64, emission: u64, depth: u64) -> Result<Allowed, Denied> {
        self.room = depth.min(self.room + (now - self.seen));
        self.seen = now;
        if self.room < emission {
            return Err(Denied { retry_after: Duration::from_nanos(emission - self.room) });
        }
        self.room -= emission;
        let remaining = u32::try_from(self.room / emission).unwrap();
        Ok(Allowed { remaining, reset: Duration::from_nanos(depth - self.room) })
    }
}

proptest! {
    #[test]
    fn it_answers_like_a_token_bucket(
        count in 1..2000_u32,
        per in 1..120 * SECOND,
        burst in 1..50_u32,
        // In thousandths of an emission interval, so that many requests come close to the limit.
        pauses in prop::collection::vec(prop_oneof![Just(0), 0..3000_u64], 1..300),
    ) {
        let bucket = Gcra::new(Limit::new(Rate { count, per: Duration::from_nanos(per) }, burst));
        let emission = per.div_ceil(u64::from(count));
        let depth = emission * u64::from(burst);
        let mut model = Model { room: depth, seen: 0 };
        let mut now = 0;
        for pause in pauses {
            now += emission * pause / 1000;
            let before = bucket.full_at_ns.load(Ordering::Relaxed);
            let answer = bucket.check(now);
            prop_assert_eq!(answer, model.check(now, emission, depth));
            if answer.is_err() {
                prop_assert_eq!(bucket.full_at_ns.load(Ordering::Relaxed), before, "a denial uses nothing");
            }
        }
    }

    #[test]
    fn who_asks_for_all_gets_the_burst_and_then_the_rate_to_a_nanosecond_a_request(
        count in 1..2000_u32,
        per in 1..120 * SECOND,
        burst in 1..50_u32,
        start in 0..SECOND,
    ) {
        let bucket = Gcra::new(Limit::new(Rate { count, per: Duration::from_nanos(per) }, burst));
        let (mut now, mut admitted) = (start, 0_u64);
        while admitted < 500 {
            match bucket.check(now) {
                Ok(_) => admitted += 1,
                Err(Denied { retry_after }) => {
                    let wait = u64::try_from(retry_after.as_nanos()).unwrap();
                    prop_assert!(bucket.check(now + wait - 1).is_err(), "the wait is no longer than needed");
                    now += wait;
                }
            }
        }
        let after_the_burst = u128::from(admitted - u64::from(burst));
        let elapsed = u128::from(now - start);
        let exact = after_the_burst * u128::from(per); // times `count`
        prop_assert!(elapsed * u128::from(count) >= exact, "never faster than the rate");
        prop_assert!((elapsed.saturating_sub(after_the_burst)) * u128::from(count) <= exact, "nor slower");
    }
}

#[test]
fn threads_that_hammer_one_bucket_get_the_burst_and_not_one_more() {
    // So many that the threads meet often while there is room.
    let bucket = Gcra::new(Limit::new(per_minute(60), 400_000));
    assert_eq!(hammer(&bucket, 4, 200_000, || SECOND), 400_000);
}

#[test]
fn threads_with_clocks_of_their_own_get_no_more_than_the_burst_and_the_rate() {
    let bucket = Gcra::new(Limit::new(Rate { count: 1, per: Duration::from_micros(1) }, 50));
    let clock = AtomicU64::new(0);
    // Between the reading of its clock and its check a thread may be overtaken, so the times come out of order.
    let admitted = hammer(&bucket, 4, 200_000, || clock.fetch_add(900, Ordering::Relaxed));
    let most = 50 + clock.load(Ordering::Relaxed) / 1000;
    assert!(admitted <= most, "{admitted} of at most {most}");
    assert!(
        bucket.check(clock.load(Ordering::Relaxed) + 50_000).is_ok(),
        "a bucket left alone is full again"
    );
}

/// Lets threads check at once and counts what was admitted.
fn hammer(bucket: &Gcra, threads: u64, checks: u64, now_ns: impl Fn() -> u64 + Sync) -> u64 {
    let start = Barrier::new(threads.try_into().unwrap());
    let work = || {
        start.wait();
        (0..checks).map(|_| u64::from(bucket.check(now_ns()).is_ok())).sum::<u64>()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}
