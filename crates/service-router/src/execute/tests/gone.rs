//! Clients that go away before their call is sent.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::bench::Bench;
use crate::CallError;
use crate::circuit::{Circuit, CircuitLimits};

/// Makes a call whose client goes away once that has happened, while the call waits.
async fn leaves(bench: &Bench, call: &str, happened: impl Future<Output = ()>) {
    let (leave, left) = oneshot::channel();
    let leaving = async {
        happened.await;
        leave.send(()).unwrap();
    };
    let stays = async { left.await.unwrap() };
    let (called, ()) = tokio::join!(bench.begin_with(call, stays), leaving);
    let error = called.err().unwrap().error;
    assert!(matches!(error, CallError::Cancelled), "{error}");
}

fn one_connection() -> Arc<Circuit> {
    Circuit::new(CircuitLimits { connections: 1, pending: 9, requests: 9 })
}

#[tokio::test]
async fn a_call_that_waits_for_a_connection_ends_with_its_client() {
    let mut bench = Bench::new("vrf/0: 200");
    let circuit = one_connection();
    bench.change_circuit(Arc::clone(&circuit));
    let held = bench.begin("GET").await.unwrap();
    for call in ["GET", "POST 9"] {
        leaves(&bench, call, async { assert!(circuit.is_awaited()) }).await;
        assert!(!circuit.is_awaited());
    }
    drop(held);
    assert!(circuit.connection().is_some());
}

#[tokio::test]
async fn a_call_whose_connection_is_being_made_ends_with_its_client() {
    let mut bench = Bench::new("vrf/0: deaf");
    leaves(&bench, "POST 9", async {}).await;
    assert_eq!(bench.suspicions(), "");
}

#[tokio::test]
async fn a_connection_that_others_will_share_is_made_although_the_client_goes_away() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: 200");
        leaves(&bench, "POST 9", async {}).await;
        assert_eq!(bench.connects(), 1);
        bench.call("GET").await;
        assert_eq!((bench.connects(), bench.suspicions().as_str()), (1, ""));
        assert_eq!(bench.logged("has"), "vrf/0 has GET 0: 200", "nothing is executed for nobody");
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_call_that_waits_for_others_over_http2_ends_with_its_client() {
    let checked = async {
        let mut bench = Bench::http2("vrf/0: max-1 200");
        bench.change_circuit(one_connection());
        let endpoint = bench.endpoint("vrf/0");
        let turn = endpoint.connecting.lock().await;
        leaves(&bench, "POST 9", async {}).await;
        drop(turn);
        bench.call("GET").await;
        let held = bench.begin("GET").await.unwrap();
        leaves(&bench, "POST 9", async {}).await;
        drop(held);
        assert_eq!((bench.suspicions().as_str(), endpoint.pending()), ("", 0));
    };
    LocalSet::new().run_until(checked).await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_next_try_ends_with_its_client() {
    let bench = Bench::new("vrf/0: 503; vrf/1: 200");
    let waits = async {
        while bench.retries() == 0 {
            tokio::task::yield_now().await;
        }
    };
    leaves(&bench, "GET", waits).await;
    assert_eq!(bench.retries(), 0, "it is over");
}
