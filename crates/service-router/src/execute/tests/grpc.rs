//! Calls that fail in gRPC, which HTTP calls a success.

use expect_test::expect;
use service_registry::Calls;

use super::bench::Bench;

/// The suspicions that calls with these answers raise, where two failures in a row do.
async fn suspected(answers: &str) -> String {
    let mut bench = Bench::new(&format!("vrf/0: {answers}"));
    bench.change_policy(|policy| policy.failures_in_a_row = 2);
    for _ in answers.split_whitespace() {
        bench.call("GET").await;
    }
    let suspicions = bench.suspicions();
    format!("{answers}: {}\n", if suspicions.is_empty() { "nothing" } else { &suspicions })
}

#[tokio::test]
async fn statuses_that_blame_the_replica_count_as_failures_wherever_they_stand() {
    let mut shown = String::new();
    for answers in [
        "grpc-14 grpc-14",
        "body-grpc-14 body-grpc-14",
        "grpc-2 body-grpc-13",
        "500 body-grpc-15",
        "grpc-0 grpc-14",
        "grpc-14 body-grpc-0 grpc-14",
        "body-grpc-14 grpc-0 body-grpc-14",
        "grpc-8 body-grpc-8",
        "429 429",
        "grpc-5 body-grpc-7 grpc-16 body-grpc-4",
        "grpc-14 body-grpc-8 body-grpc-14",
    ] {
        shown += &suspected(answers).await;
    }
    expect![[r#"
        grpc-14 grpc-14: vrf/0 Failing
        body-grpc-14 body-grpc-14: vrf/0 Failing
        grpc-2 body-grpc-13: vrf/0 Failing
        500 body-grpc-15: vrf/0 Failing
        grpc-0 grpc-14: nothing
        grpc-14 body-grpc-0 grpc-14: nothing
        body-grpc-14 grpc-0 body-grpc-14: nothing
        grpc-8 body-grpc-8: nothing
        429 429: nothing
        grpc-5 body-grpc-7 grpc-16 body-grpc-4: nothing
        grpc-14 body-grpc-8 body-grpc-14: nothing
    "#]]
    .assert_eq(&shown);
}

#[tokio::test]
async fn each_call_is_counted_once_and_each_failure_too() {
    let bench = Bench::new("vrf/0: 200 500 429 grpc-14 body-grpc-14 body-grpc-0");
    for _ in 0..6 {
        bench.call("GET").await;
    }
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 6, failed: 3 });
    let bench = Bench::new("vrf/0: reset; vrf/1: 200");
    bench.call("GET").await;
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 1, failed: 1 });
    assert_eq!(bench.calls_of("vrf/1"), Calls { all: 1, failed: 0 });
}

#[tokio::test]
async fn a_probe_that_may_still_fail_lets_others_call_and_decides_at_its_end() {
    let mut bench = Bench::new("vrf/0: body-grpc-14 | grpc-0");
    bench.change_policy(|policy| policy.failures_in_a_row = 5);
    bench.put_on_probation("vrf/0");
    let probe = bench.begin("GET").await.unwrap();
    bench.call("GET").await;
    assert_eq!(bench.suspicions(), "");
    bench.finish(probe).await;
    assert_eq!(bench.suspicions(), "vrf/0 Failing", "one failure is enough");
}
