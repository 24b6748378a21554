//! Replicas that somebody else starts.

use service_registry::Presence;

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_begins_before_somebody_has_started_it() {
    let stage = Stage::held(&[Script::Good], true);
    sleep(Duration::from_secs(90)).await;
    stage.held.send_replace(false);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        90s Starting
        90s Ready
        90s Stopped stopped
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_starts_is_stopped_without_a_word() {
    let stage = Stage::held(&[Script::Good], true);
    sleep(Duration::from_secs(1)).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        []
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_registered_is_shown_for_a_while_after_the_end_and_then_forgotten() {
    let stage = Stage::new(&[Script::Leaves(50), Script::Good]);
    let seen = |stage: &Stage| {
        let snapshot = stage.registry.snapshot();
        let replica = snapshot.replica(&stage.id).unwrap();
        (replica.presence.registration().map(|registration| registration.fencing_token), replica.weight)
    };
    stage.until(LifecycleState::Ready).await;
    assert_eq!(seen(&stage), (Some(1), 7));
    stage.held.send_replace(true);
    stage.until(LifecycleState::Stopped).await;
    sleep(FORGOTTEN - Duration::from_millis(1)).await;
    assert_eq!(seen(&stage), (Some(1), 7));
    // These scripts are started again after a wait, which comes first.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen(&stage), (None, 1));
    assert_eq!(stage.registry.snapshot().replica(&stage.id).unwrap().presence, Presence::Vacant);
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        50s Stopped stopped where it was started
        [Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_drained_and_is_no_restart_until_it_comes_again() {
    let stage = Stage::new(&[Script::Leaves(50), Script::Good]);
    stage.until(LifecycleState::Ready).await;
    stage.held.send_replace(true);
    stage.until(LifecycleState::Stopped).await;
    sleep(Duration::from_secs(50)).await;
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
    stage.stop(Wanted::Gone, expected).await;
}
