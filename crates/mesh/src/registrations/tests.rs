//! Leases on a clock that stands still until something waits.

use tokio::time::{advance, timeout};

use super::*;

const RUN: Run = [1; RUN_BYTES];
const OTHER: Run = [2; RUN_BYTES];
/// As often as a replica renews.
const THIRD: Duration = mesh_protocol::RENEWAL;

/// What something gives without waiting.
async fn now<T>(something: impl Future<Output = T>) -> Option<T> {
    timeout(Duration::ZERO, something).await.ok()
}

fn place() -> (Registrations, ReplicaId) {
    let replica: ReplicaId = "infer/0".parse().unwrap();
    (Registrations::of([replica.clone()]), replica)
}

fn applicant(run: Run) -> Applicant {
    let description = Description { zone: Some("a".into()), ..Description::default() };
    Applicant { run, address: ([10, 0, 0, 7], 7443).into(), leaf: [9; 32], description }
}

/// What a process knows of its lease.
fn request(registered: &Registered) -> LeaseRequest {
    let Registration { lease, fencing_token, .. } = registered.registration.as_ref().clone();
    LeaseRequest { lease, fencing_token }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_by_renewals_and_lost_without_them() {
    let (registrations, replica) = place();
    assert!(now(registrations.arrived(&replica)).await.is_none());
    let registered = registrations.register(&replica, applicant(RUN), 7).unwrap();
    let connection = Held::default();
    connection.hold(&registered);
    let life = registrations.present(&replica).unwrap();
    assert_eq!((life.registration.fencing_token, life.address.port()), (7, 7443));
    for _ in 0..12 {
        advance(THIRD).await;
        registrations.renew(&replica, &request(&registered)).unwrap();
        assert!(now(life.gone()).await.is_none());
    }
    // Two that are lost are not yet an end.
    advance(THIRD * 2).await;
    registrations.renew(&replica, &request(&registered)).unwrap();
    let begun = Instant::now();
    assert_eq!(life.gone().await, "its lease ended: it was not renewed within 10s");
    assert_eq!(begun.elapsed(), LEASE_TTL);
    assert!(registrations.present(&replica).is_none());
    // That nobody looks after it any more is no order to a process that lives.
    life.give_up(&EndOrder::Wanted("nobody looks after it any more".into()));
    let late = registrations.renew(&replica, &request(&registered)).map(|_| ());
    assert_eq!(late, Err(LeaseError::Ended(replica.clone())));
    assert_eq!(registrations.leave(&replica, &request(&registered)), Err(LeaseError::Ended(replica.clone())));

    // It registers again, with a larger token, and that is another life.
    let again = registrations.register(&replica, applicant(RUN), 8).unwrap();
    assert!(now(registrations.arrived(&replica)).await.is_some());
    assert_ne!(again.registration.lease, registered.registration.lease);
    assert_eq!(life.gone().await, "its lease ended: it was not renewed within 10s");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_connection_leaves_a_second_in_which_another_keeps_the_lease() {
    let (registrations, replica) = place();
    let registered = registrations.register(&replica, applicant(RUN), 1).unwrap();
    let life = registrations.present(&replica).unwrap();
    // A new certificate, a new connection; several requests of one connection.
    let (first, second) = (Held::default(), Held::default());
    first.hold(&registered);
    first.clone().hold(&registered);
    second.hold(&registered);
    drop(first);
    assert!(timeout(UNCONNECTED * 2, life.gone()).await.is_err(), "there is another");
    drop(second);
    advance(UNCONNECTED - Duration::from_millis(1)).await;
    let third = Held::default();
    third.hold(&registrations.renew(&replica, &request(&registered)).unwrap());
    assert!(timeout(UNCONNECTED * 2, life.gone()).await.is_err(), "it came again in time");
    drop(third);
    let begun = Instant::now();
    let reason = life.gone().await;
    assert!(reason.contains("its connection to the mesh did") && reason.contains("within 1s"), "{reason}");
    assert_eq!(begun.elapsed(), UNCONNECTED);
    assert_eq!(
        registrations.renew(&replica, &request(&registered)).map(|_| ()),
        Err(LeaseError::Ended(replica))
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_for_one_place_the_one_with_the_larger_token_has_it() {
    let (registrations, replica) = place();
    let first = registrations.register(&replica, applicant(RUN), 5).unwrap();
    let before = registrations.present(&replica).unwrap();
    let second = registrations.register(&replica, applicant(OTHER), 6).unwrap();
    assert_eq!(before.gone().await, "another process has taken its place");
    // It hears of it at once where it waits, and else when it renews.
    assert_eq!(first.ordered().await, EndOrder::Failed("another process has taken its place".into()));
    let fenced = Err(LeaseError::Fenced(replica.clone()));
    assert_eq!(registrations.renew(&replica, &request(&first)).map(|_| ()), fenced);
    assert_eq!(registrations.leave(&replica, &request(&first)), fenced.clone());
    // One whose token was made before, and whose turn comes after.
    assert_eq!(registrations.register(&replica, applicant(RUN), 5).map(|_| ()), fenced);
    let latest = registrations.present(&replica).unwrap();
    assert_eq!(latest.registration, second.registration);
    assert!(now(latest.gone()).await.is_none() && now(latest.leaves()).await.is_none());
    // The token alone, or the lease alone, is not enough.
    let other_lease = LeaseRequest { lease: "0".repeat(16), ..request(&second) };
    let later_token = LeaseRequest { fencing_token: 7, ..request(&second) };
    for wrong in [other_lease, later_token] {
        assert_eq!(
            registrations.renew(&replica, &wrong).map(|_| ()),
            Err(LeaseError::Ended(replica.clone()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_asks_once_more_has_the_lease_that_it_has() {
    let (registrations, replica) = place();
    let registered = registrations.register(&replica, applicant(RUN), 1).unwrap();
    advance(LEASE_TTL / 2).await;
    let known = registrations.known(&replica, &applicant(RUN)).unwrap().unwrap();
    assert_eq!(known.registration, registered.registration);
    assert!(timeout(LEASE_TTL / 2, registered.gone()).await.is_err(), "and it is renewed");
    let elsewhere = Applicant { address: ([10, 0, 0, 8], 7443).into(), ..applicant(RUN) };
    let otherwise = Applicant { description: Description::default(), ..applicant(RUN) };
    for other in [applicant(OTHER), elsewhere, otherwise] {
        assert!(registrations.known(&replica, &other).unwrap().is_none());
    }
    advance(LEASE_TTL).await;
    assert!(registrations.known(&replica, &applicant(RUN)).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_told_when_to_end_and_renews_until_then() {
    let (registrations, replica) = place();
    let registered = registrations.register(&replica, applicant(RUN), 1).unwrap();
    let life = registrations.present(&replica).unwrap();
    assert!(now(life.leaves()).await.is_none());
    registrations.leave(&replica, &request(&registered)).unwrap();
    life.leaves().await;
    assert!(now(registered.ordered()).await.is_none(), "its requests are not done yet");
    advance(THIRD).await;
    registrations.renew(&replica, &request(&registered)).unwrap();
    life.tell_to_end(&EndOrder::Wanted("drained".into()));
    assert_eq!(registered.ordered().await, EndOrder::Wanted("drained".into()));
    assert!(now(life.gone()).await.is_none());
    life.give_up(&EndOrder::Failed("it did not end in time".into()));
    assert_eq!(life.gone().await, "it did not end in time");
    // Whoever renews late is told all the same.
    let late = registrations.renew(&replica, &request(&registered)).unwrap();
    assert_eq!(late.ordered().await, EndOrder::Wanted("drained".into()));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_told_to_end_is_gone_with_its_connection() {
    let (registrations, replica) = place();
    let registered = registrations.register(&replica, applicant(RUN), 1).unwrap();
    let connection = Held::default();
    connection.hold(&registered);
    registered.tell_to_end(&EndOrder::Wanted("stopped".into()));
    assert!(now(registered.gone()).await.is_none());
    drop(connection);
    assert_eq!(now(registered.gone()).await.as_deref(), Some("it ended, as it was told"));
    let late = registrations.renew(&replica, &request(&registered)).unwrap();
    assert_eq!(late.ordered().await, EndOrder::Wanted("stopped".into()));
}

#[tokio::test(start_paused = true)]
async fn two_are_not_invited_to_one_place_while_there_is_another() {
    let ids: Vec<ReplicaId> = ["infer/0", "infer/1", "other/0"].map(|id| id.parse().unwrap()).into();
    let (registrations, infer) = (Registrations::of(ids.clone()), &ids[0].service);
    let invited = || registrations.invite_to_any(infer).map(|replica| replica.ordinal);
    assert_eq!((invited(), invited()), (Some(0), Some(1)));
    assert_eq!(invited(), Some(0), "the first one has not come; this may be another try");
    let there = registrations.register(&ids[0], applicant(RUN), 1).unwrap();
    assert_eq!(invited(), Some(1));
    assert!(!registrations.invite(&ids[0]), "somebody is there");
    let there_too = registrations.register(&ids[1], applicant(OTHER), 2).unwrap();
    assert_eq!(invited(), None);
    there.give_up(&EndOrder::Wanted("stopped".into()));
    assert!(registrations.invite(&ids[0]));
    for _ in 0..13 {
        advance(LEASE_TTL - Duration::from_millis(1)).await;
        registrations.renew(&ids[1], &request(&there_too)).unwrap();
    }
    assert_eq!(invited(), Some(0));
    assert!(!registrations.invite(&"infer/2".parse().unwrap()));
}

#[test]
fn a_replica_without_a_place_registers_nothing() {
    let (registrations, _) = place();
    let other: ReplicaId = "vrf/0".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let refused = registrations.register(&other, applicant(RUN), 1).map(|_| ());
    assert_eq!(refused, Err(LeaseError::NotExpected(other.clone())));
    let known = registrations.known(&other, &applicant(RUN)).map(|_| ());
    assert_eq!(known, Err(LeaseError::NotExpected(other)));
}
