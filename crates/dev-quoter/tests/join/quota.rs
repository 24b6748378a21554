//! Too many at once: whoever finds no room is told to try again, and can.

use appraisal::Code;
use tokio::task::JoinSet;

use crate::mesh::{Mesh, everything_waits};

/// First joins that are appraised at the same time, and those that may wait.
const TURNS: u32 = 2;
const WAITING: u32 = 256;

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_room_is_told_to_try_again_and_its_ticket_is_good() {
    let mesh = Mesh::with(|setup| setup.vrf.replicas = 1000).await;
    let member = mesh.applicant("0").joined().await;
    // Nobody is admitted while somebody else has the secrets.
    let vault = std::sync::Arc::clone(&mesh.vault);
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
    crowd.abort_all();
    while let Some(joined) = crowd.join_next().await {
        assert!(joined.unwrap_err().is_cancelled());
    }
    drop(held);
    mesh.applicant("999").ticket(ticket).joined().await;
    mesh.applicant("0").known_by(&member.leaf).joined().await;
}

#[tokio::test]
async fn a_crowd_of_newcomers_does_not_keep_members_from_renewing() {
    let mesh = Mesh::with(|setup| setup.vrf.replicas = 1000).await;
    let member = mesh.applicant("0").joined().await;
    let mut crowd = JoinSet::new();
    for instance in 1..=10 {
        let sent = mesh.applicant(&instance.to_string()).prepare().await.unwrap();
        let authority = mesh.authority.clone();
        crowd.spawn(async move { sent.show(&authority).await.map(drop) });
    }
    tokio::task::yield_now().await;
    mesh.applicant("0").known_by(&member.leaf).joined().await;
    assert!(!crowd.is_empty());
    let first_done = crowd.len();
    let mut waiting = 0;
    while let Some(joined) = crowd.join_next().await {
        joined.unwrap().unwrap();
        waiting += 1;
    }
    assert_eq!(waiting, first_done);
}
