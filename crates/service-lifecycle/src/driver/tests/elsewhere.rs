//! Replicas that somebody else starts.

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_begins_before_somebody_has_started_it() {
    let stage = Stage::held(&[Script::Good], true);
    tokio::time::sleep(Duration::from_secs(90)).await;
    stage.held.send_replace(false);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        90s Starting
        90s Ready
        90s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Stop::Drain, expected).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_starts_is_stopped_without_a_word() {
    let stage = Stage::held(&[Script::Good], true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        []
    "#]];
    stage.stop(Stop::Drain, expected).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_drained_and_is_no_restart_until_it_comes_again() {
    let stage = Stage::new(&[Script::Leaves(50), Script::Good]);
    stage.until(LifecycleState::Ready).await;
    stage.held.send_replace(true);
    stage.until(LifecycleState::Stopped).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    let restarts = |stage: &Stage| stage.registry.snapshot().replica(&stage.id).unwrap().restarts;
    assert_eq!(restarts(&stage), 0);
    stage.held.send_replace(false);
    stage.until(LifecycleState::Ready).await;
    assert_eq!(restarts(&stage), 1);
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        50s Stopped stopped where it was started
        100s Starting started again: stopped where it was started
        100s Ready
        100s Stopped stopped
        [Terminate, Terminate]
    "#]];
    stage.stop(Stop::Drain, expected).await;
}
