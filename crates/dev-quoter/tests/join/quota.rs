//! Too many at once: whoever finds no room is told to try again, and can.

use std::sync::Arc;
use std::time::Duration;

use appraisal::Code;
use tokio::task::JoinSet;

use crate::mesh::{Mesh, everything_waits};

/// First joins that are appraised at the same time, and those that may wait.
const TURNS: u32 = 2;
const WAITING: u32 = 256;

#[tokio::test]
async fn one_instance_fills_no_room_of_the_others() {
    let mesh = Mesh::new().await;
    let member = mesh.applicant("0").joined().await;
    let mut joins = 1;
    let refused = loop {
        match mesh.applicant("0").known_by(&member.leaf).running([9; 32]).join().await {
            Err(fault) if fault.code == Code::ReleaseNotAllowed => joins += 1,
            other => break other.map(drop).unwrap_err().code,
        }
    };
    assert!(refused == Code::JoinQuota && refused.is_retryable());
    assert!((16..=128).contains(&joins), "{joins}");
    mesh.applicant("1").joined().await;
    mesh.clock.forward(Duration::from_secs(121));
    mesh.applicant("0").joined().await;
}

#[tokio::test]
async fn whoever_has_one_used_ticket_keeps_nobody_out() {
    let mesh = Mesh::new().await;
    let ticket = mesh.ticket("vrf", "0");
    let mut tries = Vec::new();
    for _ in 0..200 {
        tries.push(mesh.applicant("0").ticket(ticket.clone()).running([9; 32]).prepare().await.unwrap());
    }
    assert_eq!(tries[0].show(&mesh.authority).await.unwrap_err().code, Code::ReleaseNotAllowed);
    for again in &tries[1..] {
        assert_eq!(again.show(&mesh.authority).await.unwrap_err().code, Code::TicketInvalid);
    }
    mesh.applicant("0").joined().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_room_is_told_to_try_again_and_members_have_room_of_their_own() {
    let mesh = Mesh::with(|setup| setup.vrf.replicas = 1000).await;
    let member = mesh.applicant("0").joined().await;
    // Nobody is admitted while somebody else has the secrets.
    let vault = Arc::clone(&mesh.vault);
    let held = vault.lock().await;
    let mut crowd = JoinSet::new();
    for instance in 1..=TURNS + WAITING {
        let sent = mesh.applicant(&instance.to_string()).prepare().await.unwrap();
        let authority = mesh.authority.clone();
        crowd.spawn(async move { sent.show(&authority).await.map(drop) });
    }
    everything_waits().await;
    let ticket = mesh.ticket("vrf", "999");
    let refused = mesh.applicant("999").ticket(ticket.clone()).refused().await;
    assert_eq!(refused, Code::JoinQuota);
    assert!(refused.is_retryable());
    let renewal = mesh.applicant("0").known_by(&member.leaf).prepare().await.unwrap();
    let authority = mesh.authority.clone();
    let renewal = tokio::spawn(async move { renewal.show(&authority).await.map(drop) });
    everything_waits().await;
    // The crowd waits on, and the member is through.
    drop(held);
    renewal.await.unwrap().unwrap();
    crowd.shutdown().await;
    // The ticket of whoever was sent away is good.
    mesh.applicant("999").ticket(ticket).joined().await;
}

#[tokio::test(start_paused = true)]
async fn the_ticket_of_a_join_that_is_given_up_while_it_waits_is_good() {
    let mesh = Mesh::with(|setup| setup.vrf.replicas = 10).await;
    let vault = Arc::clone(&mesh.vault);
    let held = vault.lock().await;
    let ticket = mesh.ticket("vrf", "9");
    let mut crowd = JoinSet::new();
    for instance in 1..=TURNS {
        let sent = mesh.applicant(&instance.to_string()).prepare().await.unwrap();
        let authority = mesh.authority.clone();
        crowd.spawn(async move { sent.show(&authority).await.map(drop) });
    }
    let sent = mesh.applicant("9").ticket(ticket.clone()).prepare().await.unwrap();
    let authority = mesh.authority.clone();
    let waits = tokio::spawn(async move { sent.show(&authority).await.map(drop) });
    everything_waits().await;
    // Its connection ends.
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    drop(held);
    crowd.join_all().await.into_iter().for_each(Result::unwrap);
    mesh.applicant("9").ticket(ticket).joined().await;
}
