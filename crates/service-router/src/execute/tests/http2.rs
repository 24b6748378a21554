//! Calls over connections that they share.

use std::time::Duration;

use expect_test::expect;
use http1::Framing;
use service_registry::Calls;
use tokio::task::LocalSet;
use tokio::time::{Instant, advance};

use super::bench::{Bench, check_http2, hold_clock};

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
