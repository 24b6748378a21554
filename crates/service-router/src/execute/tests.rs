//! What a call makes of replicas that fail. `bench.rs` is the language that these tests are written in.

mod backoff;
mod bench;
mod gone;
mod grpc;
mod http1_replica;
mod http2;
mod http2_replica;
mod idle;
mod limits;
mod mesh;
mod room;
mod split;

use std::time::Duration;

use expect_test::{Expect, expect};

use crate::circuit::{Circuit, CircuitLimits};
use bench::{Bench, check};

#[tokio::test]
async fn a_refused_connection_is_hidden_by_the_next_replica_whatever_the_method() {
    check(
        "vrf/0: refuse; vrf/1: 200",
        &["GET"],
        expect![[r#"
            GET
              vrf/1 has GET 0: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Refused
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: refuse; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/1 has POST 9: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Refused
            left alone: vrf/0
        "#]],
    )
    .await;
    check("vrf/0: refuse; vrf/1: refuse", &["POST 9"], expect![[r#"
        POST 9
          failed, tries: 2: no replica can be selected: vrf/0 is being checked after a failed call, vrf/1 is being checked after a failed call
        suspected: vrf/0 Refused
        suspected: vrf/1 Refused
        left alone: vrf/0, vrf/1
    "#]]).await;
}

#[tokio::test]
async fn a_refused_replica_is_left_alone_until_it_was_checked() {
    check(
        "vrf/0: refuse; vrf/1: 200 200",
        &["GET", "GET"],
        expect![[r#"
            GET
              vrf/1 has GET 0: 200
              200 by vrf/1, tries: 2
            GET
              vrf/1 has GET 0: 200
              200 by vrf/1, tries: 1
            suspected: vrf/0 Refused
            left alone: vrf/0
        "#]],
    )
    .await;
}

#[tokio::test]
async fn where_the_policy_hides_no_refused_connection_the_call_fails() {
    let mut bench = Bench::new("vrf/0: refuse; vrf/1: 200");
    bench.change_policy(|policy| policy.retry_on.connect = false);
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          failed, tries: 1: the replica failed: connecting to vrf/0: Connection refused (os error 111)
        suspected: vrf/0 Refused
        left alone: vrf/0
    "#]]);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_hidden_only_for_a_call_that_may_be_repeated() {
    check(
        "vrf/0: reset; vrf/1: 200",
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: reset
              vrf/1 has GET 0: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: reset; vrf/1: 200",
        &["PUT 1024"],
        expect![[r#"
            PUT 1024
              vrf/0 has PUT 1024: reset
              vrf/1 has PUT 1024: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: reset; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/0 has POST 9: reset
              failed, tries: 1: the replica failed: it closed the connection
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: reset; vrf/1: reset",
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: reset
              vrf/1 has GET 0: reset
              failed, tries: 2: the replica failed: it closed the connection
            suspected: vrf/0 Reset
            suspected: vrf/1 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_no_answer_counts_as_a_connection_that_ended() {
    check(
        "vrf/0: nonsense; vrf/1: 200",
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: nonsense
              vrf/1 has GET 0: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: nonsense; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/0 has POST 9: nonsense
              failed, tries: 1: the replica failed: its answer is malformed: its first line is not a status line
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
}

#[tokio::test]
async fn no_more_tries_are_made_than_the_policy_allows() {
    let replicas = "vrf/0: reset; vrf/1: reset; vrf/2: reset; vrf/3: 200";
    check(
        replicas,
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: reset
              vrf/1 has GET 0: reset
              vrf/2 has GET 0: reset
              failed, tries: 3: the replica failed: it closed the connection
            suspected: vrf/0 Reset
            suspected: vrf/1 Reset
            suspected: vrf/2 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    let mut bench = Bench::new(replicas);
    bench.change_policy(|policy| policy.attempts = 0);
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: reset
          failed, tries: 1: the replica failed: it closed the connection
        suspected: vrf/0 Reset
        left alone: vrf/0
    "#]]);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    check(
        "vrf/0: 200 200 | refuse",
        &["GET", "POST 9"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        POST 9
          vrf/0 has POST 9: 200
          200 by vrf/0, tries: 1
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_pooled_connection_that_ends_as_it_is_used_fails_no_get() {
    check(
        "vrf/0: 200 reset | 200; vrf/1: 200",
        &["GET", "GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: reset
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check(
        "vrf/0: 200 reset | 200",
        &["GET", "GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: reset
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 2
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check(
        "vrf/0: 200 reset | 200; vrf/1: 200",
        &["GET", "POST 9"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        POST 9
          vrf/0 has POST 9: reset
          failed, tries: 1: the replica failed: it closed the connection
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_repeat_after_a_pooled_connection_goes_over_a_fresh_one_and_is_made_once() {
    let mut bench = Bench::new(
        "vrf/0: 200 reset | reset, vrf/1: 200 reset | reset, vrf/2: 200 | reset, vrf/3: 200 | reset",
    );
    for _ in 0..5 {
        bench.call("GET").await;
    }
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 1
        GET
          vrf/2 has GET 0: 200
          200 by vrf/2, tries: 1
        GET
          vrf/3 has GET 0: 200
          200 by vrf/3, tries: 1
        GET
          vrf/0 has GET 0: reset
          vrf/1 has GET 0: reset
          vrf/2 has GET 0: reset
          vrf/3 has GET 0: reset
          failed, tries: 4: the replica failed: it closed the connection
        suspected: vrf/0 Reset
        suspected: vrf/1 Reset
        suspected: vrf/2 Reset
        suspected: vrf/3 Reset
    "#]]);
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_while_it_idled_fails_no_get() {
    let bench = Bench::new("vrf/0: 200 end | 200 end");
    for _ in 0..20 {
        let answer = bench.begin("GET").await.unwrap();
        bench.finish(answer).await;
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_moves_on_where_the_call_may_be_repeated() {
    check_slow(
        "vrf/0: hang; vrf/1: 200",
        "GET",
        expect![[r#"
        GET
          vrf/0 has GET 0: hang
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check_slow(
        "vrf/0: hang; vrf/1: 200",
        "POST 9",
        expect![[r#"
        POST 9
          vrf/0 has POST 9: hang
          failed, tries: 1: no answer in time
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check_slow(
        "vrf/0: hang",
        "GET",
        expect![[r#"
            GET
              vrf/0 has GET 0: hang
              failed, tries: 1: no answer in time
            suspected: vrf/0 Reset
            suspected: vrf/0 Reset
        "#]],
    )
    .await;
}

async fn check_slow(script: &str, call: &str, expected: Expect) {
    let mut bench = Bench::new(script);
    bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(100));
    bench.timeout = Duration::from_millis(300);
    bench.call(call).await;
    bench.shows(expected);
}

#[tokio::test]
async fn an_unavailable_answer_is_hidden_by_another_replica() {
    check(
        "vrf/0: 503; vrf/1: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 503
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 2
    "#]],
    )
    .await;
    check(
        "vrf/0: 503; vrf/1: 200",
        &["PUT 1024"],
        expect![[r#"
        PUT 1024
          vrf/0 has PUT 1024: 503
          vrf/1 has PUT 1024: 200
          200 by vrf/1, tries: 2
    "#]],
    )
    .await;
}

#[tokio::test]
async fn an_unavailable_answer_is_passed_on_where_it_must_or_nobody_can_do_better() {
    check(
        "vrf/0: 503; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
        POST 9
          vrf/0 has POST 9: 503
          503 by vrf/0, tries: 1
    "#]],
    )
    .await;
    check(
        "vrf/0: 503-later; vrf/1: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 503-later
          503 by vrf/0, tries: 1
    "#]],
    )
    .await;
    check(
        "vrf/0: 500; vrf/1: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
    "#]],
    )
    .await;
    check(
        "vrf/0: 503",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 503
          503 by vrf/0, tries: 1
    "#]],
    )
    .await;
    check(
        "vrf/0: 503; vrf/1: 503; vrf/2: 503; vrf/3: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 503
          vrf/1 has GET 0: 503
          vrf/2 has GET 0: 503
          503 by vrf/2, tries: 3
    "#]],
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_was_given_up_for_a_replica_that_refuses_is_told_as_the_failure() {
    check(
        "vrf/0: 503; vrf/1: refuse",
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: 503
              failed, tries: 2: the replica failed: it answered 503
            suspected: vrf/1 Refused
            left alone: vrf/1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_again() {
    check_without_budget(
        "vrf/0: 503; vrf/1: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 503
          503 by vrf/0, tries: 1
        not retried for Budget: 1
    "#]],
    )
    .await;
    check_without_budget(
        "vrf/0: reset; vrf/1: 200",
        &["GET"],
        expect![[r#"
            GET
              vrf/0 has GET 0: reset
              failed, tries: 1: the replica failed: it closed the connection
            suspected: vrf/0 Reset
            left alone: vrf/0
            not retried for Budget: 1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_needs_no_budget_is_done_without() {
    check_without_budget(
        "vrf/0: refuse; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/1 has POST 9: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Refused
            left alone: vrf/0
        "#]],
    )
    .await;
    check_without_budget(
        "vrf/0: 200 reset; vrf/1: 200",
        &["GET", "GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: reset
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
}

async fn check_without_budget(script: &str, calls: &[&str], expected: Expect) {
    let mut bench = Bench::new(script);
    bench.use_up_the_budget();
    for call in calls {
        bench.call(call).await;
    }
    bench.shows(expected);
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_not_sent_again() {
    check(
        "vrf/0: reset; vrf/1: 200",
        &["PUT 65536"],
        expect![[r#"
            PUT 65536
              vrf/0 has PUT 65536: reset
              vrf/1 has PUT 65536: 200
              200 by vrf/1, tries: 2
            suspected: vrf/0 Reset
            left alone: vrf/0
        "#]],
    )
    .await;
    check(
        "vrf/0: reset; vrf/1: 200",
        &["PUT 102400"],
        expect![[r#"
            PUT 102400
              vrf/0 has PUT 102400: reset
              failed, tries: 1: the replica failed: it closed the connection
            suspected: vrf/0 Reset
            left alone: vrf/0
            not retried for NotReplayable: 1
        "#]],
    )
    .await;
    check(
        "vrf/0: 503; vrf/1: 200",
        &["PUT 102400"],
        expect![[r#"
        PUT 102400
          vrf/0 has PUT 102400: 503
          503 by vrf/0, tries: 1
        not retried for NotReplayable: 1
    "#]],
    )
    .await;
}

#[tokio::test]
async fn calls_that_fail_in_a_row_are_reported() {
    let mut bench = Bench::new("vrf/0: 500 500 200 500 500 500");
    bench.change_policy(|policy| policy.failures_in_a_row = 3);
    for _ in 0..6 {
        bench.call("GET").await;
    }
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 500
          500 by vrf/0, tries: 1
        suspected: vrf/0 Failing
    "#]]);
}

#[tokio::test]
async fn over_the_limit_on_calls_the_next_one_is_shed() {
    let mut bench = Bench::new("vrf/0: 200 200");
    bench.change_circuit(Circuit::new(CircuitLimits { connections: 9, pending: 9, requests: 1 }));
    let held = bench.begin("GET").await.unwrap();
    bench.call("GET").await;
    bench.finish(held).await;
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
        GET
          failed, tries: 0: the service has as many calls in flight as it may
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        shed for Requests: 1
    "#]]);
}

#[tokio::test]
async fn over_the_limit_on_connections_the_next_call_is_shed() {
    let mut bench = Bench::new("vrf/0: 200 200");
    bench.change_circuit(Circuit::new(CircuitLimits { connections: 1, pending: 0, requests: 9 }));
    let held = bench.begin("GET").await.unwrap();
    bench.call("GET").await;
    bench.finish(held).await;
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
        GET
          failed, tries: 1: the service has as many calls that wait for a connection as it may
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        shed for Connections: 1
        shed for Pending: 1
    "#]]);
}

#[tokio::test]
async fn where_nobody_may_serve_the_error_says_why() {
    let mut bench = Bench::new("vrf/0: 200; vrf/1: 200");
    bench.drain("vrf/0");
    bench.call("GET").await;
    bench.drain("vrf/1");
    bench.call("GET").await;
    bench.shows(expect![[r#"
        GET
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 1
        GET
          failed, tries: 0: no replica can be selected: vrf/0 is Draining, vrf/1 is Draining
    "#]]);
}
