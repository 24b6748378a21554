use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::{Limit, Rate, Tier};

const NOW: Moment = Moment { steady_ns: 1_000_000_000, unix: 20_000 * 86_400 };

fn limit(count: u32, burst: u32) -> Limit {
    Limit::new(Rate { count, per: Duration::from_secs(60) }, burst)
}

fn tiers(burst: u32, daily: u32) -> Tiers {
    let tier = Tier { limit: limit(60, burst), daily: Some(daily) };
    Tiers::with(BTreeMap::from([("gold".to_owned(), tier)]))
}

fn remaining(allowance: &Allowance, route: &Gcra) -> [u32; 3] {
    let of_caller =
        (allowance.bucket().unwrap().left(NOW.steady_ns), allowance.daily().unwrap().left(NOW.unix));
    [of_caller.0, of_caller.1, route.left(NOW.steady_ns)].map(|left| left.remaining)
}

#[test]
fn a_request_is_counted_by_every_limit_or_by_none() {
    for (bursts, daily, by) in
        [([1, 9], 9, Exceeded::Rate), ([9, 9], 1, Exceeded::Daily), ([9, 1], 9, Exceeded::Route)]
    {
        let allowance = Allowance::new("key:1", "gold", &tiers(bursts[0], daily));
        let route = Gcra::new(limit(60, bursts[1]));
        let left = admit(Some(&allowance), Some(&route), NOW).unwrap();
        let shown = [left.rate, left.daily, left.route].map(|left| left.unwrap().remaining);
        assert_eq!(shown, remaining(&allowance, &route), "{by:?}");
        let (exceeded, denied) = admit(Some(&allowance), Some(&route), NOW).unwrap_err();
        assert_eq!(exceeded, by);
        assert!(denied.retry_after > Duration::ZERO);
        assert_eq!(remaining(&allowance, &route), shown, "{by:?}: a refusal counts nowhere");
    }
}

#[test]
fn what_was_counted_elsewhere_is_used_of_every_limit_and_a_refusal_says_something_of_one() {
    let whose = || (Allowance::new("key:1", "gold", &tiers(5, 9)), Gcra::new(limit(60, 7)));
    let ((there, route_there), (here, route_here)) = (whose(), whose());
    for _ in 0..2 {
        let counted = admit(Some(&there), Some(&route_there), NOW);
        counted_elsewhere(Some(&here), Some(&route_here), counted, NOW);
    }
    assert_eq!(remaining(&here, &route_here), [3, 7, 5]);
    for (exceeded, left) in
        [(Exceeded::Route, [3, 7, 0]), (Exceeded::Daily, [3, 0, 0]), (Exceeded::Rate, [0, 0, 0])]
    {
        let rest = if exceeded == Exceeded::Daily { 86_400 } else { 1 };
        let denied = Denied { retry_after: Duration::from_secs(rest) };
        counted_elsewhere(Some(&here), Some(&route_here), Err((exceeded, denied)), NOW);
        assert_eq!(remaining(&here, &route_here), left, "{exceeded:?}");
    }
    counted_elsewhere(None, None, Ok(Left::default()), NOW);
}

#[test]
fn who_has_no_limits_is_counted_by_the_route_alone() {
    let (allowance, route) =
        (Allowance::new("key:1", "unlimited", &Tiers::built_in()), Gcra::new(limit(60, 1)));
    assert_eq!((allowance.tier(), allowance.policies()), ("unlimited", ""));
    assert_eq!(admit(Some(&allowance), None, NOW).unwrap(), Left::default());
    assert_eq!(admit(None, None, NOW).unwrap(), Left::default());
    assert_eq!(admit(Some(&allowance), Some(&route), NOW).unwrap().route.unwrap().remaining, 0);
    assert_eq!(admit(None, Some(&route), NOW).unwrap_err().0, Exceeded::Route);
}

#[test]
fn another_tier_keeps_what_was_used() {
    let before = Allowance::new("key:1", "gold", &tiers(10, 100));
    for _ in 0..4 {
        admit(Some(&before), None, NOW).unwrap();
    }
    let after = before.under("free", &tiers(10, 100), NOW.steady_ns);
    assert_eq!((after.holder(), after.tier()), ("key:1", "free"));
    assert_eq!(after.policies(), "\"free\";q=10;w=10, \"daily\";q=1000;w=86400");
    assert_eq!(after.bucket().unwrap().left(NOW.steady_ns).remaining, 6);
    assert_eq!(after.daily().unwrap().left(NOW.unix).remaining, 996);
    assert!(after.is_the_same_under("free", &tiers(99, 99)));
    assert!(!before.is_the_same_under("gold", &tiers(10, 99)));
    assert!(before.is_the_same_under("gold", &tiers(10, 100)));
}

#[test]
fn threads_that_meet_at_two_limits_get_no_more_than_the_smaller_one() {
    let allowance = Allowance::new("key:1", "gold", &tiers(50_000, 1_000_000));
    let route = Gcra::new(limit(60, 20_000));
    let work = || (0..30_000).filter(|_| admit(Some(&allowance), Some(&route), NOW).is_ok()).count();
    let admitted: usize = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(work));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 20_000);
    let [rate, daily, of_route] = remaining(&allowance, &route);
    assert_eq!((daily, of_route), (980_000, 0), "what was given back is exact for the day");
    assert!(rate <= 30_000, "and never too much for the rate");
}
