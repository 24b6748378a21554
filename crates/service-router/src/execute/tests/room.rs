//! Calls that find the connections to a replica full, over HTTP/2.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use service_registry::Calls;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::advance;

use super::bench::{Bench, hold_clock};
use crate::CallError;
use crate::circuit::{Circuit, CircuitLimits};

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
