//! Connections that nobody uses are closed, and no others.

use tokio::task::LocalSet;

use super::bench::Bench;

/// Makes a call that is answered with 200.
async fn call(bench: &mut Bench) {
    let answer = bench.begin("GET").await.unwrap();
    bench.finish(answer).await;
}

async fn for_each_protocol(check: impl AsyncFn(Bench)) {
    let words = "vrf/0: 200 200 200 200 200 200";
    LocalSet::new()
        .run_until(async {
            check(Bench::new(words)).await;
            check(Bench::http2(words)).await;
        })
        .await;
}

#[tokio::test]
async fn a_connection_goes_with_the_second_look_after_it_was_used() {
    for_each_protocol(async |mut bench: Bench| {
        call(&mut bench).await;
        bench.prune();
        assert_eq!((bench.open_connections().await, bench.connects()), (1, 1));
        bench.prune();
        assert_eq!((bench.open_connections().await, bench.connects()), (0, 1));
        call(&mut bench).await;
        assert_eq!((bench.open_connections().await, bench.connects()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_used_between_the_looks_stays() {
    for_each_protocol(async |mut bench: Bench| {
        for _ in 0..5 {
            call(&mut bench).await;
            bench.prune();
        }
        assert_eq!((bench.open_connections().await, bench.connects()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_has_a_call_is_not_idle() {
    for_each_protocol(async |bench: Bench| {
        let answer = bench.begin("GET").await.unwrap();
        (0..5).for_each(|_| bench.prune());
        assert_eq!(bench.open_connections().await, 1);
        bench.finish(answer).await;
        bench.prune();
        assert_eq!(bench.open_connections().await, 1, "it was used just now");
        bench.prune();
        assert_eq!(bench.open_connections().await, 0);
    })
    .await;
}

#[tokio::test]
async fn of_many_connections_those_that_a_lower_load_does_not_need_go() {
    let mut bench = Bench::new("vrf/0: 200 200 200 200 200 200");
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(bench.begin("GET").await.unwrap());
    }
    for answer in answers {
        bench.finish(answer).await;
    }
    assert_eq!(bench.open_connections().await, 3);
    for _ in 0..2 {
        call(&mut bench).await;
        bench.prune();
    }
    assert_eq!((bench.open_connections().await, bench.connects()), (1, 3));
}
