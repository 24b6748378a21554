//! What becomes of a replica whose attestation ceases to hold. The driver reads that fact and never writes it.

use service_registry::{Attested, Refusal};

use super::*;

impl Stage {
    /// The authority says another thing of the replica.
    fn authority_says(&self, change: impl FnOnce(&Attestation) -> Attestation) {
        self.registry.update(&self.id, |replica| {
            replica.attestation = change(&replica.attestation);
            Change::Made
        });
    }

    fn attested(&self) -> Attested {
        self.registry.snapshot().replica(&self.id).unwrap().attestation.value
    }

    /// Which of the peers that there were so far have ended.
    fn ended(&self) -> Vec<bool> {
        self.peers.lock().unwrap().iter().map(|peer| peer.has_ended()).collect()
    }
}

fn exempt(_before: &Attestation) -> Attestation {
    Attestation::exempt(Timestamp::now())
}

fn refused(before: &Attestation) -> Attestation {
    let refusal = Refusal { code: "REVOKED".into(), detail: "its measurement is revoked".into() };
    before.refused(refusal, Timestamp::now())
}

fn expired(before: &Attestation) -> Attestation {
    before.expired(Timestamp::now())
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_identity_expires_finishes_and_is_started_again() {
    let stage = Stage::new(&[Script::Good]);
    stage.until(LifecycleState::Ready).await;
    let snapshot = stage.registry.snapshot();
    let in_flight = &snapshot.replica(&stage.id).unwrap().instance.as_ref().unwrap().in_flight;
    in_flight.begin();
    sleep(Duration::from_secs(100)).await;
    stage.authority_says(expired);
    stage.until(LifecycleState::Draining).await;
    assert_eq!(stage.ended(), [false], "its end is for the authority to say");
    sleep(Duration::from_secs(5)).await;
    in_flight.end();
    stage.until(LifecycleState::Stopped).await;
    assert_eq!((stage.ended(), stage.attested()), (vec![true], Attested::Expired));
    stage.authority_says(exempt);
    stage.until(LifecycleState::Ready).await;
    assert_eq!(stage.ended(), [true, false]);
    assert_eq!(stage.registry.snapshot().replica(&stage.id).unwrap().restarts, 1);
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        100s Draining its identity expired
        105s Stopped its identity expired
        105s Starting started again: its identity expired
        105s Ready
        105s Stopped stopped
        [Terminate, Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stays_refused_is_started_ever_less_often() {
    let stage = Stage::new(&[Script::Good]);
    stage.until(LifecycleState::Ready).await;
    stage.authority_says(refused);
    stage.until(LifecycleState::Stopped).await;
    sleep(Duration::from_secs(1000)).await;
    // What was said of the life before is no reason to end the next one, which is never healthy; the time is.
    let restarts = stage.registry.snapshot().replica(&stage.id).unwrap().restarts;
    assert!((11..=17).contains(&restarts), "{restarts} restarts of 60 s each, and the waits between them");
    assert_eq!(stage.attested(), Attested::Refused);
    let log = stage.log.lock().unwrap().clone();
    let drained = "0s Stopped its attestation was refused: REVOKED: its measurement is revoked\n";
    assert!(log.contains(drained), "{log}");
    assert!(log.contains("Stopped not ready within the start timeout of 60s"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_after_it_listens_and_before_it_is_ready_cannot_start() {
    let stage = Stage::new(&[Script::Good]);
    stage.authority_says(|_| Attestation::pending(Timestamp::now()));
    sleep(Duration::from_secs(3)).await;
    stage.authority_says(refused);
    stage.until(LifecycleState::Stopped).await;
    stage.authority_says(exempt);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        3s Stopped its attestation was refused: REVOKED: its measurement is revoked
        3s Starting started again: its attestation was refused: REVOKED: its measurement is revoked
        3s Ready
        3s Stopped stopped
        [Terminate, Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_process_reports_is_the_reason() {
    let stage = Stage::new(&[Script::Refused, Script::Good]);
    stage.until(LifecycleState::Ready).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        2s Stopped RELEASE_NOT_ALLOWED: expected aa, found bb
        2s Starting started again: RELEASE_NOT_ALLOWED: expected aa, found bb
        2s Ready
        2s Stopped stopped
        [Terminate, Terminate]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_during_that_drain_ends_the_driver() {
    let stage = Stage::new(&[Script::Stubborn]);
    stage.until(LifecycleState::Ready).await;
    stage.authority_says(expired);
    stage.until(LifecycleState::Draining).await;
    let expected = expect![[r#"
        0s Stopped not started yet
        0s Starting
        0s Ready
        0s Draining its identity expired
        10s Stopped its identity expired
        [Terminate, Kill]
    "#]];
    stage.stop(Wanted::Gone, expected).await;
}
