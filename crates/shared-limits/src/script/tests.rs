use std::time::Duration;

use access::{Allowance, Exceeded, Gcra, Left, Moment, Rate, Tier, Tiers, admit};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use redis::aio::MultiplexedConnection;
use testkit::Redis;

use super::*;
use crate::connect::{self, Ready};
use crate::link::{bounds, left_of};
use crate::names::Names;
use crate::tests::{local, server};

/// The script by a clock that the test sets, in microseconds, under which nothing expires.
fn with_own_clock() -> String {
    let script = COUNT.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}");
    let script = script.replace(", 'PX', string.format('%.0f', written[i][2] + 1000)", "");
    assert!(!script.contains("TIME") && !script.contains("PX"), "{script}");
    script
}

/// Runs against a connection and the hash of that script.
fn with_redis(test: impl AsyncFnOnce(&Redis, MultiplexedConnection, String)) {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let (Ready { connection, .. }, driver) =
            connect::connect(&server(&redis), &Names::new("t")).await.unwrap();
        let driver = tokio::task::spawn_local(driver);
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(with_own_clock());
        let Value::BulkString(sha) = connect::ask(&connection, &load).await.unwrap() else {
            panic!("no hash")
        };
        test(&redis, connection, String::from_utf8(sha).unwrap()).await;
        driver.abort();
    });
}

async fn counted(
    connection: &MultiplexedConnection,
    sha: &str,
    mode: Mode,
    bounds: &[Bound],
    at_us: u64,
) -> Counted {
    let mut command = command(sha, mode, bounds);
    command.arg(at_us / 1_000_000).arg(at_us % 1_000_000);
    answer(&connect::ask(connection, &command).await.unwrap(), bounds.len()).unwrap()
}

fn limit((count, seconds, burst): (u32, u64, u32)) -> Limit {
    Limit::new(Rate { count, per: Duration::from_secs(seconds) }, burst)
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let count = prop_oneof![1..20_u32, 1..1_000_000_000_u32];
    let seconds = prop_oneof![Just(1), Just(60), Just(3600), Just(86_400)];
    let burst = prop_oneof![1..6_u32, 1..2_000_u32];
    // A double holds the nanoseconds of 104 days exactly; what is longer is a little off.
    let exact = |limit: &Limit| limit.window().as_nanos() < 1 << 53;
    (count, seconds, burst).prop_map(limit).prop_filter("too long", exact)
}

fn allowance(holder: &str, limit: Limit, daily: Option<u32>) -> Allowance {
    Allowance::new(holder, "t", &Tiers::with([("t".to_owned(), Tier { limit, daily })].into()))
}

/// As the one and the other answer.
type Answered = Result<Left, (Exceeded, Denied)>;

#[test]
fn the_script_counts_as_the_buckets_of_one_gateway_do() {
    with_redis(async |_, connection, sha| {
        let pause = prop_oneof![0..3_u64, 0..2_000_000_u64, 0..86_400_000_000_u64];
        let case = (
            option::of((any_limit(), option::of(1..6_u32))),
            option::of(any_limit()),
            0..86_400_000_000_u64,
            vec(pause, 1..40),
        );
        let (names, mut number) = (Names::new("t"), 0);
        let mut runner = TestRunner::deterministic();
        for _ in 0..400 {
            number += 1;
            let (caller, route, begin, pauses) = case.new_tree(&mut runner).unwrap().current();
            let caller = caller.map(|(limit, daily)| allowance(&format!("h{number}"), limit, daily));
            let (name, bucket) = (format!("r{number}"), route.map(Gcra::new));
            let (bounds, kinds) =
                bounds(&names, caller.as_ref(), route.as_ref().map(|limit| (&*name, limit)));
            if bounds.is_empty() {
                continue;
            }
            let mut at_us = 1_790_000_000_000_000 + begin;
            for pause in pauses {
                at_us += pause;
                let moment = Moment { steady_ns: at_us * 1000, unix: at_us / 1_000_000 };
                let expected: Answered = admit(caller.as_ref(), bucket.as_ref(), moment);
                let found = counted(&connection, &sha, Mode::Take, &bounds, at_us).await;
                let found: Answered = found
                    .map(|left| left_of(&kinds, &left))
                    .map_err(|(place, denied)| (kinds[place], denied));
                assert_eq!(found, expected, "{caller:?} {route:?} at {at_us}");
                let left = counted(&connection, &sha, Mode::Look, &bounds, at_us).await.unwrap();
                let left = left_of(&kinds, &left);
                let of_rate = |gcra: &Gcra| gcra.left(at_us * 1000);
                assert_eq!(left.rate, caller.as_ref().and_then(|caller| caller.bucket()).map(of_rate));
                assert_eq!(left.route, bucket.as_ref().map(of_rate));
                let of_day = caller.as_ref().and_then(|caller| caller.daily());
                assert_eq!(left.daily, of_day.map(|daily| daily.left(moment.unix)));
            }
        }
        assert!(number > 300);
    });
}

#[test]
fn under_another_limit_what_was_used_of_the_burst_stays_used() {
    with_redis(async |_, connection, sha| {
        let take = async |limit: &Limit, at_us| {
            let bounds = [Bound::rate("k".into(), limit)];
            counted(&connection, &sha, Mode::Take, &bounds, at_us).await.map(|left| left[0])
        };
        let (slow, fast) = (limit((1, 60, 10)), limit((60, 60, 20)));
        let (model, at) = (Gcra::new(slow), 1_790_000_000_000_000_u64);
        for _ in 0..7 {
            assert_eq!(take(&slow, at).await.ok(), model.check(at * 1000).ok());
        }
        let model = model.under(fast, at * 1000);
        assert_eq!(take(&fast, at).await.unwrap(), model.check(at * 1000).unwrap());
        assert_eq!(take(&fast, at).await.unwrap().remaining, 11);
        let model = model.under(limit((1, 1, 3)), at * 1000);
        assert!(model.check(at * 1000).is_err());
        let denied = take(&limit((1, 1, 3)), at).await.unwrap_err().1;
        assert_eq!(denied.retry_after, Duration::from_secs(1), "at most all of the new one is owed");
    });
}

#[test]
fn a_clock_that_is_set_back_frees_nothing_and_holds_nobody_back_for_longer() {
    with_redis(async |_, connection, sha| {
        let take = async |at_us| {
            let bounds = [Bound::rate("k".into(), &limit((60, 60, 2))), Bound::daily("d".into(), 9)];
            counted(&connection, &sha, Mode::Take, &bounds, at_us).await.map(|left| left[0].remaining)
        };
        let (hour, at) = (3_600_000_000, 1_790_000_000_000_000);
        assert_eq!((take(at).await.unwrap(), take(at).await.unwrap()), (1, 0));
        assert!(take(at - 30 * hour).await.is_err());
        // What is owed is free again as soon as before.
        let back = at - 30 * hour;
        let looked = [Bound::rate("k".into(), &limit((60, 60, 2)))];
        let left = counted(&connection, &sha, Mode::Look, &looked, back).await.unwrap();
        assert_eq!((left[0].remaining, left[0].reset), (0, Duration::from_secs(2)));
    });
}

#[test]
fn what_is_refused_by_one_limit_is_counted_by_none() {
    with_redis(async |redis, connection, sha| {
        let at = 1_790_000_000_000_000;
        let bounds = |daily: &str, route: &str, rate: &str| {
            let of = |key: &str| Bound::rate(key.into(), &limit((1, 60, 1)));
            [Bound::daily(daily.into(), 1), of(route), of(rate)]
        };
        counted(&connection, &sha, Mode::Take, &bounds("d", "r", "c"), at).await.unwrap();
        for (bounds, refuses) in
            [(bounds("d", "r2", "c2"), 0), (bounds("d2", "r", "c2"), 1), (bounds("d2", "r2", "c"), 2)]
        {
            let refused = counted(&connection, &sha, Mode::Take, &bounds, at).await.unwrap_err();
            assert_eq!(refused.0, refuses);
        }
        let mut keys: Vec<_> = redis.ask(&["KEYS", "?*"]).lines().map(str::to_owned).collect();
        keys.sort();
        assert_eq!(keys, ["c", "d", "r", "serviceos:{t}:probe"]);
    });
}

#[test]
fn nothing_stays_in_redis_once_it_means_nothing() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let (Ready { connection, script }, driver) =
            connect::connect(&server(&redis), &Names::new("t")).await.unwrap();
        let driver = tokio::task::spawn_local(driver);
        let bounds = [
            Bound::rate("short".into(), &limit((10, 1, 5))),
            Bound::rate("long".into(), &limit((1, 86_400, 1_000_000_000))),
            Bound::daily("day".into(), 1),
        ];
        connect::ask(&connection, &command(&script, Mode::Take, &bounds)).await.unwrap();
        let ttl = |key: &str| redis.ask(&["PTTL", key]).parse::<i64>().unwrap();
        assert!((1..=1_100).contains(&ttl("short")), "{}", ttl("short"));
        assert!((86_000_000..=86_401_000).contains(&ttl("long")), "{}", ttl("long"));
        assert!((1..=86_401_000).contains(&ttl("day")), "{}", ttl("day"));
        assert!((1..=86_401_000).contains(&ttl("serviceos:{t}:probe")));
        driver.abort();
    });
}
