//! What is waited for, and who is to blame when it takes too long.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use expect_test::{Expect, expect};
use service_registry::{Calls, Verdict};
use tokio::task::LocalSet;
use tokio::time::{Instant, advance};

use super::bench::{Bench, hold_clock};
use crate::circuit::{Circuit, CircuitLimits};

#[tokio::test]
async fn a_call_that_waits_for_a_connection_in_vain_is_shed_and_no_failure_of_the_replica() {
    let mut bench = Bench::new("vrf/0: 200 | 200");
    bench.change_circuit(Circuit::new(CircuitLimits { connections: 1, pending: 9, requests: 9 }));
    bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(50));
    bench.timeout = Duration::from_millis(100);
    let held = bench.begin("GET").await.unwrap();
    bench.call("GET").await;
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 0, failed: 0 });
    drop(held);
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
        GET
          failed, tries: 1: the service has as many calls that wait for a connection as it may
        shed for Connections: 1
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_slow_is_given_up_only_for_calls_that_may_be_tried_again_after_that() {
    let (per_try, all) = (Duration::from_millis(100), Duration::from_millis(400));
    for (reset, takes, expected) in [
        (true, per_try, "vrf/0 has GET 0: hang, vrf/1 has GET 0: 200"),
        (false, all, "vrf/0 has GET 0: hang"),
    ] {
        let _held = hold_clock();
        let mut bench = Bench::new("vrf/0: hang; vrf/1: 200");
        bench.timeout = all;
        bench.change_policy(|policy| {
            policy.per_try_timeout = per_try;
            policy.retry_on.reset = reset;
        });
        {
            let mut call = pin!(bench.begin("GET"));
            tokio::select! {
                biased;
                _ = &mut call => panic!("it has ended before its time"),
                () = bench.until_logged(1, "has GET 0: hang") => {}
            }
            advance(takes - Duration::from_millis(1)).await;
            let early = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
            assert!(!early, "it has ended before {takes:?}");
            advance(Duration::from_millis(1)).await;
            // The wait before another try, at most.
            let waits = async {
                while reset && bench.retries() == 0 {
                    tokio::task::yield_now().await;
                }
                advance(Duration::from_millis(25)).await;
            };
            let (answer, ()) = tokio::join!(call, waits);
            assert_eq!(answer.is_ok(), reset, "{expected}");
        }
        assert_eq!(bench.logged("has GET"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_limit_of_the_service_makes_no_replica_look_slow() {
    let _held = hold_clock();
    let mut bench = Bench::new("vrf/0: 200 | 200");
    bench.change_circuit(Circuit::new(CircuitLimits { connections: 1, pending: 9, requests: 9 }));
    let held = bench.begin("GET").await.unwrap();
    let over = async {
        tokio::task::yield_now().await;
        advance(Duration::from_secs(2)).await;
        drop(held);
    };
    tokio::join!(bench.call("GET"), over);
    let latency = bench.endpoint("vrf/0").latency.latency(Instant::now());
    assert!(latency < 1.0, "{latency} s");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_not_healthy_begins_where_the_others_are() {
    let bench = Bench::new("vrf/0: 200, vrf/1: 200, vrf/2: 200");
    let load = |id: &str| (bench.endpoint(id).load(Instant::now()) * 1000.0).round();
    for id in ["vrf/0", "vrf/1", "vrf/2"] {
        bench.endpoint(id).latency.observe(Duration::from_millis(40), Instant::now());
    }
    // What is left of it after a while, or of the penalty for what it failed by, says nothing of it now.
    bench.endpoint("vrf/1").latency.fail(1.0, Instant::now());
    for id in ["vrf/1", "vrf/2"] {
        bench.check_says(id, Verdict::Unhealthy);
    }
    advance(Duration::from_secs(60)).await;
    bench.endpoint("vrf/0").latency.observe(Duration::from_millis(50), Instant::now());
    for id in ["vrf/1", "vrf/2"] {
        bench.check_says(id, Verdict::Healthy);
    }
    assert_eq!([load("vrf/0"), load("vrf/1"), load("vrf/2")], [50.0; 3]);
    // One that stays healthy keeps what was measured.
    bench.endpoint("vrf/1").latency.observe(Duration::from_millis(70), Instant::now());
    bench.check_says("vrf/2", Verdict::Unhealthy);
    assert_eq!(load("vrf/1"), 70.0);
}

#[tokio::test]
async fn a_replica_that_was_not_healthy_keeps_its_connections_and_the_count_of_its_calls() {
    let checked = async {
        let bench = Bench::http2("vrf/0: 200");
        let held = bench.begin("GET").await.unwrap();
        for verdict in [Verdict::Unhealthy, Verdict::Healthy] {
            bench.check_says("vrf/0", verdict);
        }
        assert_eq!(bench.endpoint("vrf/0").pending(), 1);
        bench.call("GET").await;
        assert_eq!(bench.connects(), 1);
        drop(held);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn where_no_replica_is_healthy_a_failure_costs_as_much_as_elsewhere() {
    let bench = Bench::new("vrf/0: 200, vrf/1: 200");
    let usual = bench.usual_load();
    for id in ["vrf/0", "vrf/1"] {
        bench.check_says(id, Verdict::Unhealthy);
    }
    assert!(usual > 0.0 && bench.usual_load() > usual / 2.0, "{usual} s and {} s", bench.usual_load());
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_one_to_another_replica() {
    let mut bench = Bench::new("vrf/0: 200, vrf/1: 200");
    bench.change_circuit(Circuit::new(CircuitLimits { connections: 1, pending: 0, requests: 9 }));
    for _ in 0..3 {
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
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
    "#]]);
}

#[tokio::test]
async fn a_caller_without_patience_says_nothing_of_the_replica() {
    let mut bench = Bench::new("vrf/0: hang | 200");
    bench.timeout = Duration::from_millis(20);
    bench.change_policy(|policy| policy.failures_in_a_row = 1);
    bench.call("GET").await;
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 0, failed: 0 });
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: hang
          failed, tries: 1: no answer in time
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_as_long_as_a_try_where_another_replica_is_in_reach_and_else_as_the_call() {
    check_deaf(
        "vrf/0: deaf; vrf/1: 200",
        Duration::from_millis(100),
        expect![[r#"
        POST 9
          vrf/1 has POST 9: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Refused
        left alone: vrf/0
    "#]],
    )
    .await;
    check_deaf(
        "vrf/0: deaf",
        Duration::from_millis(400),
        expect![[r#"
        POST 9
          failed, tries: 1: no answer in time
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
}

async fn check_deaf(script: &str, takes: Duration, expected: Expect) {
    let _held = hold_clock();
    let mut bench = Bench::new(script);
    bench.timeout = Duration::from_millis(400);
    bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(100));
    {
        let mut call = pin!(bench.call("POST 9"));
        let mut waits_for = async |time| {
            let ended = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
            assert!(!ended, "it ended before {takes:?}");
            advance(time).await;
        };
        waits_for(takes - Duration::from_millis(1)).await;
        waits_for(Duration::from_millis(1)).await;
        call.await;
    }
    bench.shows(expected);
}

#[tokio::test]
async fn who_is_asked_again_is_decided_after_the_wait() {
    let mut bench = Bench::new("vrf/0: 503; vrf/1: 200; vrf/2: 200");
    let mut drained = false;
    {
        let mut call = pin!(bench.call("GET"));
        poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            if bench.retries() == 1 && !drained {
                drained = true;
                bench.drain("vrf/1");
            }
            if polled.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    assert!(drained);
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 503
          vrf/2 has GET 0: 200
          200 by vrf/2, tries: 2
    "#]]);
}

#[tokio::test]
async fn an_answer_that_there_is_no_time_to_better_stands() {
    let replicas: Vec<_> = (0..20).map(|number| format!("vrf/{number}: 503")).collect();
    let mut bench = Bench::new(&replicas.join("; "));
    bench.change_policy(|policy| policy.attempts = 19);
    // The waits alone are longer.
    bench.timeout = Duration::from_millis(500);
    let answer = bench.begin("GET").await.unwrap();
    assert_eq!(answer.head().status(), 503);
    assert!(1 < answer.attempts && answer.attempts < 20, "{}", answer.attempts);
}

#[tokio::test]
async fn answers_that_break_off_are_failures_in_a_row() {
    let mut bench = Bench::new("vrf/0: break-off");
    bench.change_policy(|policy| policy.failures_in_a_row = 3);
    for _ in 0..3 {
        bench.call("GET").await;
    }
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 3, failed: 3 });
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: break-off
          200 by vrf/0, tries: 1, breaks off
        GET
          vrf/0 has GET 0: break-off
          200 by vrf/0, tries: 1, breaks off
        GET
          vrf/0 has GET 0: break-off
          200 by vrf/0, tries: 1, breaks off
        suspected: vrf/0 Failing
    "#]]);
}

#[tokio::test]
async fn answers_that_stall_are_failures_in_a_row_and_those_that_nobody_waits_for_are_none() {
    let mut bench = Bench::new("vrf/0: stall");
    bench.change_policy(|policy| policy.failures_in_a_row = 2);
    for _ in 0..2 {
        bench.begin("GET").await.unwrap().stalled();
    }
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 2, failed: 2 });
    drop(bench.begin("GET").await.unwrap());
    assert_eq!(bench.calls_of("vrf/0"), Calls { all: 3, failed: 2 });
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: stall
        GET
          vrf/0 has GET 0: stall
        GET
          vrf/0 has GET 0: stall
        suspected: vrf/0 Failing
    "#]]);
}
