//! A process that was there before its driver was.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_process_that_was_left_becomes_ready_without_being_launched() {
    let stage = Stage::with_left(&[Script::Missing], false, Some((Script::Good, 3)));
    stage.until(LifecycleState::Ready).await;
    let snapshot = stage.registry.snapshot();
    let replica = snapshot.replica(&stage.id).unwrap();
    assert_eq!((replica.restarts, replica.pid), (3, Some(42)));
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting adopted: an earlier serviceos has left it
        0s Ready
        0s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn when_it_ends_another_is_launched_as_for_any_other() {
    let stage = Stage::with_left(&[Script::Good], false, Some((Script::Dies(100), 3)));
    stage.until(LifecycleState::Ready).await;
    sleep(Duration::from_secs(101)).await;
    stage.until(LifecycleState::Ready).await;
    assert_eq!(stage.registry.snapshot().replica(&stage.id).unwrap().restarts, 4);
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting adopted: an earlier serviceos has left it
        0s Ready
        100s Stopped exited with code 9
        100s Starting started again: exited with code 9
        100s Ready
        101s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_while_it_is_looked_at_launches_nothing() {
    let stage = Stage::with_left(&[Script::Good], false, Some((Script::Silent, 0)));
    sleep(Duration::from_secs(3)).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        []
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_be_gone_at_once_while_it_is_looked_at_does_not_wait_for_that() {
    let stage = Stage::with_left(&[Script::Good], false, Some((Script::Silent, 0)));
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    let expected = expect![[r#"
        0s Stopped not started yet
        []
    "#]];
    stage.stop(Wanted::GoneAtOnce, expected).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[test]
fn nobody_is_told_how_a_process_ended_that_somebody_else_has_started() {
    let exit = Exit::Adopted { last_lines: vec!["one".into(), "two".into()] };
    assert_eq!(exit.to_string(), "unknown (adopted); its last words: two");
    assert!(!exit.is_clean());
}
