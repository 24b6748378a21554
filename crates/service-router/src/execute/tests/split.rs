//! Calls while one version takes the place of another: who gets them, and what is counted of both.

use std::time::Duration;

use expect_test::expect;
use service_registry::{Calls, Side, SpecDigest, Version};

use super::bench::Bench;
use crate::Wanted;

/// Two builds of the same label.
fn builds() -> [Version; 2] {
    [0x0a, 0x0b].map(|byte| Version::new("1.0.0", SpecDigest([byte; 32])))
}

/// Two replicas, of which the second is of the second build.
fn bench(script: &str) -> (Bench, Version) {
    let bench = Bench::new(script);
    let [before, next] = builds();
    bench.change_version("vrf/0", &before);
    bench.change_version("vrf/1", &next);
    (bench, next)
}

#[tokio::test]
async fn a_version_without_a_part_is_called_by_those_who_name_it() {
    let (mut bench, next) = bench("vrf/0: 200 200 200 200 200, vrf/1: 200 200");
    bench.split(Some((next, 0)));
    bench.call("GET").await;
    bench.call("GET").await;
    for asked in ["1.0.0-0b0b0b0b", "1.0.0-0a0a0a0a", "1.0.0-0c0c0c0c"] {
        bench.wanted = Wanted::Only(bench.version(asked));
        bench.call("GET").await;
    }
    for asked in ["1.0.0-0b0b0b0b", "1.0.0-0c0c0c0c"] {
        bench.wanted = Wanted::Rather(bench.version(asked));
        bench.call("GET").await;
    }
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          failed, tries: 0: no replica can be selected: vrf/0 was tried, or is not of the version that was asked for, vrf/1 was tried, or is of a version that only those get who name it
        GET
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
    "#]]);
}

#[tokio::test]
async fn who_fails_on_one_side_is_called_on_the_other() {
    let (mut bench, next) = bench("vrf/0: 200 200, vrf/1: 503");
    bench.split(Some((next.clone(), 100)));
    bench.call("GET").await;
    bench.check_says("vrf/1", service_registry::Verdict::Unhealthy);
    bench.call("GET").await;
    bench.split(Some((next, 0)));
    bench.check_says("vrf/0", service_registry::Verdict::Unhealthy);
    bench.check_says("vrf/1", service_registry::Verdict::Healthy);
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          vrf/1 has GET 0: 503
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 2
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          failed, tries: 0: no replica can be selected: vrf/0 is unhealthy, vrf/1 was tried, or is of a version that only those get who name it
    "#]]);
}

#[tokio::test]
async fn both_sides_are_counted_as_long_as_there_are_two() {
    let (bench, next) = bench("vrf/0: 200 200 404 500, vrf/1: 200 500 break-off");
    bench.call("GET").await;
    bench.call("GET").await;
    bench.split(Some((next.clone(), 0)));
    let counted = |side| {
        let sample = bench.sample(side);
        (sample.calls, sample.p99())
    };
    assert_eq!(
        (counted(Side::Target), counted(Side::Stable)),
        ((Calls::default(), None), (Calls::default(), None))
    );
    // An answer that tells the client what it has done wrong is one.
    bench.call("POST 9").await;
    bench.call("POST 9").await;
    let (calls, p99) = counted(Side::Stable);
    assert_eq!(calls, Calls { all: 2, failed: 0 });
    assert!(p99.is_some_and(|p99| p99 > Duration::ZERO && p99 < Duration::from_secs(10)), "{p99:?}");
    bench.call("POST 9").await;
    assert_eq!(counted(Side::Stable).0, Calls { all: 3, failed: 1 });
    assert_eq!(counted(Side::Target).0, Calls::default());
    // An answer that breaks off has failed, but its head came in some time.
    let before = bench.sample(Side::Stable);
    bench.split(Some((next, 100)));
    bench.call("POST 9").await;
    assert_eq!(counted(Side::Target), (Calls { all: 1, failed: 1 }, None), "no failure is an answer");
    bench.call("POST 9").await;
    let (calls, p99) = counted(Side::Target);
    assert_eq!((calls, p99.is_some()), (Calls { all: 2, failed: 2 }, true));
    assert_eq!(bench.sample(Side::Stable).since(&before).calls, Calls::default());
}
