//! Calls over connections that they share.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use expect_test::expect;
use http1::Framing;
use service_registry::Calls;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, advance};

use super::bench::{Bench, check_http2, hold_clock};
use crate::CallError;
use crate::circuit::{Circuit, CircuitLimits};

#[tokio::test]
async fn a_connection_that_takes_no_further_calls_finishes_those_that_it_has_and_gets_no_other() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: leave | 200");
        let held = bench.begin("GET").await.unwrap();
        bench.call("POST 9").await;
        bench.call("GET").await;
        drop(held);
        assert_eq!(bench.connects(), 2);
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: leave
            POST 9
              vrf/0 has POST 9: 200
              200 by vrf/0, tries: 1
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_call_that_was_declined_goes_on_elsewhere_or_there_once_more_whatever_the_method() {
    check_http2(
        "vrf/0: decline 200; vrf/1: 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/0 has POST 9: decline
              vrf/1 has POST 9: 200
              200 by vrf/1, tries: 2
            declined: 1
        "#]],
    )
    .await;
    check_http2(
        "vrf/0: decline 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/0 has POST 9: decline
              vrf/0 has POST 9: 200
              200 by vrf/0, tries: 2
            declined: 1
        "#]],
    )
    .await;
    check_http2(
        "vrf/0: decline 200",
        &["POST 65536"],
        expect![[r#"
            POST 65536
              vrf/0 has POST 65536: decline
              vrf/0 has POST 65536: 200
              200 by vrf/0, tries: 2
            declined: 1
        "#]],
    )
    .await;
    check_http2("vrf/0: decline", &["POST 9"], expect![[r#"
        POST 9
          vrf/0 has POST 9: decline
          vrf/0 has POST 9: decline
          failed, tries: 2: the replica failed: stream error received: refused stream before processing any application logic
        declined: 2
    "#]]).await;
    check_http2(
        "vrf/0: disown | 200",
        &["POST 9"],
        expect![[r#"
            POST 9
              vrf/0 disowns a call
              vrf/0 has POST 9: 200
              200 by vrf/0, tries: 2
            declined: 1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_call_that_one_replica_after_the_other_declines_goes_on_as_the_budget_allows() {
    let script = "vrf/0: decline; vrf/1: decline; vrf/2: 200";
    let checked = async {
        let mut bench = Bench::http2(script);
        bench.call("POST 9").await;
        bench.use_up_the_budget();
        bench.call("POST 9").await;
        bench.shows(expect![[r#"
            POST 9
              vrf/0 has POST 9: decline
              vrf/1 has POST 9: decline
              vrf/2 has POST 9: 200
              200 by vrf/2, tries: 3
            POST 9
              vrf/0 has POST 9: decline
              vrf/1 has POST 9: decline
              failed, tries: 2: the replica failed: stream error received: refused stream before processing any application logic
            not retried for Budget: 1
            declined: 4
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_call_that_was_declined_is_never_sent_again_without_the_beginning_of_its_body() {
    check_http2("vrf/0: decline 200", &["POST 102400"], expect![[r#"
        POST 102400
          vrf/0 has POST 102400: decline
          failed, tries: 1: the replica failed: stream error received: refused stream before processing any application logic
        not retried for NotReplayable: 1
        declined: 1
    "#]]).await;
}

#[tokio::test]
async fn a_call_that_the_replica_ends_alone_is_its_failure_and_no_reason_to_leave_the_connection() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: 200 reset reset 200");
        bench.change_policy(|policy| policy.failures_in_a_row = 2);
        for call in ["GET", "GET", "POST 9", "GET"] {
            bench.call(call).await;
        }
        assert_eq!((bench.calls_of("vrf/0"), bench.connects()), (Calls { all: 4, failed: 2 }, 1));
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
            GET
              vrf/0 has GET 0: reset
              failed, tries: 1: the replica failed: stream error received: unexpected internal error encountered
            POST 9
              vrf/0 has POST 9: reset
              failed, tries: 1: the replica failed: stream error received: unexpected internal error encountered
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
            suspected: vrf/0 Reset
            suspected: vrf/0 Failing
            suspected: vrf/0 Reset
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_connection_that_ends_is_hidden_for_a_call_that_may_be_repeated() {
    check_http2(
        "vrf/0: 200 close | 200",
        &["GET", "GET"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        GET
          vrf/0 has GET: close
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 2
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check_http2(
        "vrf/0: 200 close | 200",
        &["GET", "POST 9"],
        expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        POST 9
          vrf/0 has POST: close
          failed, tries: 1: the replica failed: stream closed because of a broken pipe
        suspected: vrf/0 Reset
    "#]],
    )
    .await;
    check_http2(
        "vrf/0: close | 200; vrf/1: 200",
        &["GET"],
        expect![[r#"
        GET
          vrf/0 has GET: close
          vrf/1 has GET 0: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Reset
        left alone: vrf/0
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_idled_fails_no_call() {
    let checked = async {
        for ends in ["end", "drop"] {
            let bench = Bench::http2(&format!("vrf/0: 200 {ends}"));
            for _ in 0..50 {
                let answer = bench.begin("POST 9").await.unwrap();
                bench.finish(answer).await;
            }
            assert!(bench.connects() > 40);
        }
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn many_calls_at_once_find_out_how_many_a_replica_takes_and_fail_not() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-2 200");
        assert_eq!(bench.together(90, "POST 9").await, "90 by vrf/0");
        assert!(bench.connects() <= 8, "{} connections", bench.connects());
        assert_eq!(bench.suspicions(), "");
        assert_eq!(bench.calls_of("vrf/0"), Calls { all: 90, failed: 0 });
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn where_no_further_connection_may_be_made_calls_wait_for_those_on_the_one_that_there_is() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-2 200");
        let limits = CircuitLimits { connections: 1, pending: 0, requests: 99 };
        bench.change_circuit(Circuit::new(limits));
        bench.call("GET").await;
        assert_eq!(bench.together(20, "POST 9").await, "20 by vrf/0");
        assert_eq!(bench.connects(), 1);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_every_replica_full_waits_for_room_and_nothing_is_held_against_them() {
    let checked = async {
        let _held = hold_clock();
        let mut bench = Bench::http2("vrf/0: max-1 200, vrf/1: max-1 200");
        bench.change_circuit(Circuit::new(CircuitLimits { connections: 2, pending: 9, requests: 9 }));
        bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(100));
        bench.use_up_the_budget();
        let full = [bench.begin("GET").await.unwrap(), bench.begin("GET").await.unwrap()];
        let has_room_again = async {
            // Longer than it waits for each of them in turn, and shorter than for the last.
            for _ in 0..50 {
                advance(Duration::from_millis(10)).await;
            }
            drop(full);
        };
        tokio::join!(bench.call("POST 1"), has_room_again);
        assert!(bench.logged("POST 1:").ends_with("has POST 1: 200"), "{}", bench.logged(""));
        assert_eq!((bench.declined(), bench.suspicions().as_str()), (0, ""));
    };
    LocalSet::new().run_until(checked).await;
}

/// Polls a call until it waits for room, behind so many others.
async fn until_it_waits(bench: &Bench, call: &mut Pin<Box<impl Future<Output = ()>>>, others: u32) {
    let endpoint = bench.endpoint("vrf/0");
    poll_fn(|context| {
        assert!(call.as_mut().poll(context).is_pending());
        if endpoint.awaited_by() > others { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_for_room_gets_it_before_those_that_come_later() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-1 200");
        bench.change_circuit(Circuit::new(CircuitLimits { connections: 1, pending: 9, requests: 9 }));
        bench.call("GET").await;
        let held = bench.begin("GET").await.unwrap();
        let (leave, left) = oneshot::channel();
        let mut leaving = Box::pin(async {
            let called = bench.begin_with("PUT 1", async { left.await.unwrap() }).await;
            assert!(matches!(called.err().unwrap().error, CallError::Cancelled));
        });
        let (mut first, mut second) = (Box::pin(bench.call("PUT 2")), Box::pin(bench.call("PUT 3")));
        until_it_waits(&bench, &mut leaving, 0).await;
        until_it_waits(&bench, &mut first, 1).await;
        until_it_waits(&bench, &mut second, 2).await;
        // One that leaves the queue, without having been told of room, does not change its order.
        leave.send(()).unwrap();
        leaving.await;
        let told = poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_ready())).await;
        assert!(!told);
        bench.finish(held).await;
        // The one that comes later has its turn first.
        tokio::join!(bench.call("PUT 4"), second, first);
        assert_eq!(
            bench.logged("has PUT"),
            "vrf/0 has PUT 2: 200, vrf/0 has PUT 3: 200, vrf/0 has PUT 4: 200"
        );
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_place_for_another_connection_that_comes_free_is_taken_although_calls_wait_for_room() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-1 200");
        let circuit = Circuit::new(CircuitLimits { connections: 2, pending: 9, requests: 9 });
        bench.change_circuit(Arc::clone(&circuit));
        let taken = circuit.connection().unwrap();
        bench.call("GET").await;
        let held = bench.begin("GET").await.unwrap();
        let mut waits = Box::pin(bench.call("PUT 1"));
        until_it_waits(&bench, &mut waits, 0).await;
        drop(taken);
        bench.call("PUT 2").await;
        assert_eq!(bench.connects(), 2);
        waits.await;
        drop(held);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn an_idle_connection_to_another_replica_makes_room_for_one_more_to_a_busy_one() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-1 200, vrf/1: 200");
        bench.change_circuit(Circuit::new(CircuitLimits { connections: 2, pending: 0, requests: 9 }));
        for _ in 0..2 {
            bench.call("GET").await;
        }
        let held = bench.begin("GET").await.unwrap();
        bench.call("GET").await;
        // What was said of room before is heard, so that the call that finds none would wait for the one that is held.
        let endpoint = bench.endpoint("vrf/0");
        let mut room = pin!(endpoint.room.notified());
        poll_fn(|context| Poll::Ready(room.as_mut().poll(context).is_ready())).await;
        tokio::select! {
            () = bench.call("POST 1") => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("it waits"),
        }
        assert_eq!(bench.logged("POST 1:"), "vrf/0 has POST 1: 200");
        drop(held);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_connection_that_went_silent_gets_no_further_call() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: 200 freeze | 200");
        bench.timeout = Duration::from_millis(200);
        bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(100));
        for call in ["GET", "POST 9", "GET"] {
            bench.call(call).await;
        }
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
            POST 9
              vrf/0 has POST: freeze
              failed, tries: 1: no answer in time
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
            suspected: vrf/0 Reset
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_slow_call_does_not_cost_the_others_their_connection() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: 200 hang 200");
        bench.call("GET").await;
        bench.timeout = Duration::from_millis(200);
        let others = async {
            tokio::task::yield_now().await;
            bench.together(3, "GET").await
        };
        let (slow, others) = tokio::join!(bench.together(1, "GET"), others);
        assert_eq!((&*slow, &*others), ("1 by no answer in time", "3 by vrf/0"));
        bench.call("GET").await;
        assert_eq!(bench.connects(), 1);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn calls_that_wait_for_a_connection_that_cannot_be_made_do_not_try_one_after_the_other() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: deaf; vrf/1: 200");
        bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(200));
        let began = Instant::now();
        assert_eq!(bench.together(10, "POST 9").await, "10 by vrf/1");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let mut alone = Bench::http2("vrf/0: deaf");
        alone.timeout = Duration::from_millis(300);
        assert_eq!(alone.together(3, "POST 9").await, "3 by no answer in time");
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_other_call() {
    let checked = async {
        let bench = Bench::http2("vrf/0: big");
        let mut unread = Vec::new();
        for _ in 0..40 {
            unread.push(bench.begin("GET").await.unwrap());
        }
        let answer = bench.begin("GET").await.unwrap();
        assert_eq!((bench.finish(answer).await, bench.connects()), (100_005, 1));
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn answers_that_break_off_are_failures_in_a_row() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: break-off");
        bench.change_policy(|policy| policy.failures_in_a_row = 2);
        for _ in 0..2 {
            bench.call("GET").await;
        }
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: break-off
              200 by vrf/0, tries: 1, breaks off
            GET
              vrf/0 has GET 0: break-off
              200 by vrf/0, tries: 1, breaks off
            suspected: vrf/0 Failing
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn an_answer_that_has_no_body_passes_none_on_however_its_stream_ends() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: 304-late-end 304 204");
        for _ in 0..3 {
            let answer = bench.begin("GET").await.unwrap();
            assert_eq!(answer.head().framing(), Framing::Length(0));
            assert_eq!(bench.finish(answer).await, 0);
        }
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: 304-late-end
              304 by vrf/0, tries: 1
            GET
              vrf/0 has GET 0: 304
              304 by vrf/0, tries: 1, breaks off
            GET
              vrf/0 has GET 0: 204
              204 by vrf/0, tries: 1, breaks off
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn calls_that_wait_for_room_go_on_elsewhere_when_the_replica_dies() {
    let checked = async {
        let bench = Bench::http2("vrf/0: max-2 200 hang | max-2 hang; vrf/1: 200");
        bench.call("GET").await;
        let dies = async {
            // As many as all of its connections take.
            bench.until_logged(16, ": hang").await;
            bench.kill("vrf/0");
        };
        let (answered, ()) = tokio::join!(bench.together(90, "GET"), dies);
        assert_eq!(answered, "90 by vrf/1");
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_turn_to_connect_takes_no_time_from_the_try() {
    let checked = async {
        let _held = hold_clock();
        let mut bench = Bench::http2("vrf/0: 200; vrf/1: 200");
        bench.change_policy(|policy| policy.per_try_timeout = Duration::from_millis(100));
        let endpoint = bench.endpoint("vrf/0");
        let turn = endpoint.connecting.lock().await;
        let over = async {
            advance(Duration::from_millis(150)).await;
            drop(turn);
        };
        tokio::join!(bench.call("GET"), over);
        bench.shows(expect![[r#"
            GET
              vrf/0 has GET 0: 200
              200 by vrf/0, tries: 1
        "#]]);
    };
    LocalSet::new().run_until(checked).await;
}
